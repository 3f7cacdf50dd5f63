//! Checks of the sections that say nothing of models.

use std::time::Duration;

use lipsync_compositor::Encoding;
use lipsync_core::Foreign;
use lipsync_engine::{CpuIsa, NetworkLimits};

use super::{
    BadValue, Origin,
    address::parse_address,
    log_filter::parse_filter,
    numbers::{gmacs, in_range, to_usize},
    raw::{
        RawEngine, RawFormat, RawLogFormat, RawLogging, RawOperations, RawOutput, RawServer,
        RawSession,
    },
    validated::{
        DeviceChoice, Engine, LogFormat, Logging, Operations, Output, ServerLimits, SessionLimits,
    },
};

pub(super) fn validate_server(raw: &RawServer) -> Result<ServerLimits, BadValue> {
    let number = |key: &str, value: Option<u32>, default, range| {
        in_range(
            &format!("server.{key}"),
            value.unwrap_or(default).into(),
            range,
        )
    };
    let n_workers = number("worker_count", raw.worker_count, 4, 1..=256)?;
    let queue = number("queue_size", raw.queue_size, 100, 1..=1_000_000)?;
    let frames = number("max_batch_frames", raw.max_batch_frames, 64, 1..=4096)?;
    let message = number("max_message_size_mb", raw.max_message_size_mb, 50, 1..=1024)?;
    // The largest answer must fit.
    let unsent = number(
        "max_unsent_mb",
        raw.max_unsent_mb,
        1024,
        message..=1_048_576,
    )?;
    // The largest message must fit, too.
    let upload = raw.max_upload_mb.map_or(message.max(512), u64::from);
    let upload = in_range("server.max_upload_mb", upload, message..=1_048_576)?;
    let share = number("peer_share_percent", raw.peer_share_percent, 80, 1..=100)?;
    let timeout = raw.request_timeout_ms.unwrap_or(30_000);
    let timeout = in_range("server.request_timeout_ms", timeout, 1..=3_600_000)?;
    let pre_drain = in_range(
        "server.pre_drain_ms",
        raw.pre_drain_ms.unwrap_or(0),
        0..=600_000,
    )?;
    let grace = in_range(
        "server.shutdown_grace_s",
        raw.shutdown_grace_s.unwrap_or(30),
        0..=3600,
    )?;
    Ok(ServerLimits {
        address: parse_address("server.port", raw.port.as_deref().unwrap_or(":50051"))?,
        max_message_bytes: to_usize(message) * 1024 * 1024,
        max_unsent_bytes: to_usize(unsent) * 1024 * 1024,
        max_upload_bytes: to_usize(upload) * 1024 * 1024,
        peer_share_percent: u32::try_from(share).unwrap_or(100),
        n_workers: to_usize(n_workers),
        queue_capacity: to_usize(queue),
        max_batch_frames: to_usize(frames),
        request_timeout: Duration::from_millis(timeout),
        pre_drain: Duration::from_millis(pre_drain),
        shutdown_grace: Duration::from_secs(grace),
    })
}

pub(super) fn validate_operations(raw: &RawOperations) -> Result<Option<Operations>, BadValue> {
    let port = raw.port.as_deref().unwrap_or(":8080");
    // Checked even when it is off, so that switching it on brings no surprise.
    let address = parse_address("operations.port", port)?;
    let origins = raw.allowed_origins.iter().flatten();
    let allowed_origins = origins
        .map(|text| Origin::parse("operations.allowed_origins", text))
        .collect::<Result<_, _>>()?;
    let is_enabled = raw.enabled.unwrap_or(true);
    Ok(is_enabled.then_some(Operations {
        address,
        allowed_origins,
    }))
}

pub(super) fn validate_engine(raw: &RawEngine) -> Result<Engine, BadValue> {
    let device = device_choice(raw.device.as_deref().unwrap_or("auto"))?;
    let max_batch = in_range(
        "engine.max_batch",
        raw.max_batch.unwrap_or(64).into(),
        1..=64,
    )?;
    let wait_ms = raw.max_batch_wait_ms.unwrap_or(2);
    let wait_ms = in_range("engine.max_batch_wait_ms", wait_ms, 0..=1000)?;
    let isa = raw.cpu_isa.as_deref().unwrap_or("auto");
    let cpu_isa = CpuIsa::parse(isa).ok_or_else(|| BadValue {
        key: "engine.cpu_isa".into(),
        message: format!(
            "expected auto, avx512_bf16, avx512, avx2 or portable, found {:?}",
            Foreign(isa)
        ),
    })?;
    cpu_isa.resolve().map_err(|error| BadValue {
        key: "engine.cpu_isa".into(),
        message: error.to_string(),
    })?;
    let arena = raw.max_arena_mb.unwrap_or(256).into();
    let arena = in_range("engine.max_arena_mb", arena, 1..=1_048_576)?;
    let limits = NetworkLimits {
        max_macs: gmacs("engine.max_gmac", raw.max_gmac, 20.0)?,
        max_arena_bytes: arena << 20,
    };
    let visual_cache_mb = raw.visual_cache_mb.unwrap_or(1024);
    Ok(Engine {
        device,
        cpu_isa,
        visual_cache_bytes: u64::from(visual_cache_mb) << 20,
        max_batch: to_usize(max_batch),
        max_batch_wait: Duration::from_millis(wait_ms),
        limits,
    })
}

fn device_choice(text: &str) -> Result<DeviceChoice, BadValue> {
    let ordinal = text.strip_prefix("cuda:").map(str::parse);
    match (text, ordinal) {
        ("auto", _) => Ok(DeviceChoice::Auto),
        ("cpu", _) => Ok(DeviceChoice::Cpu),
        ("cuda", _) => Ok(DeviceChoice::Cuda),
        (_, Some(Ok(ordinal))) => Ok(DeviceChoice::CudaAt(ordinal)),
        _ => Err(BadValue {
            key: "engine.device".into(),
            message: format!(
                "expected auto, cpu, cuda or cuda:0 (a number), found {:?}",
                Foreign(text)
            ),
        }),
    }
}

pub(super) fn validate_output(raw: &RawOutput) -> Result<Output, BadValue> {
    let quality = raw.jpeg_quality.unwrap_or(85).into();
    let quality = in_range("output.jpeg_quality", quality, 1..=100)?;
    let quality = u8::try_from(quality).unwrap_or(u8::MAX);
    let encoding = match raw.format.unwrap_or(RawFormat::Jpeg) {
        RawFormat::Jpeg => Encoding::Jpeg { quality },
        RawFormat::Png => Encoding::Png,
        RawFormat::Rgb => Encoding::Rgb,
        RawFormat::I420 => Encoding::I420,
    };
    Ok(Output {
        encoding,
        jpeg_quality: quality,
        mark_generated: raw.mark_generated.unwrap_or(true),
    })
}

pub(super) fn validate_session(raw: &RawSession) -> Result<SessionLimits, BadValue> {
    let number = |key: &str, value: Option<u32>, default, range| {
        in_range(
            &format!("session.{key}"),
            value.unwrap_or(default).into(),
            range,
        )
    };
    let sessions = number("max_sessions", raw.max_sessions, 100, 1..=100_000)?;
    let buffered = number(
        "max_buffered_audio_s",
        raw.max_buffered_audio_s,
        60,
        1..=3600,
    )?;
    let unsent = number("max_unsent_ms", raw.max_unsent_ms, 2000, 40..=60_000)?;
    let message = number("max_message_size_mb", raw.max_message_size_mb, 4, 1..=1024)?;
    let idle = in_range(
        "session.idle_timeout_s",
        raw.idle_timeout_s.unwrap_or(300),
        1..=86_400,
    )?;
    let send = in_range(
        "session.send_timeout_s",
        raw.send_timeout_s.unwrap_or(60),
        1..=86_400,
    )?;
    let lag = in_range(
        "session.lag_timeout_s",
        raw.lag_timeout_s.unwrap_or(10),
        0..=86_400,
    )?;
    let life = in_range(
        "session.max_session_s",
        raw.max_session_s.unwrap_or(0),
        0..=31_536_000,
    )?;
    Ok(SessionLimits {
        max_sessions: to_usize(sessions),
        max_buffered_audio_s: u32::try_from(buffered).unwrap_or(u32::MAX),
        max_unsent_ms: u32::try_from(unsent).unwrap_or(u32::MAX),
        max_message_bytes: to_usize(message) * 1024 * 1024,
        idle_timeout: Duration::from_secs(idle),
        send_timeout: Duration::from_secs(send),
        lag_timeout: (lag > 0).then(|| Duration::from_secs(lag)),
        max_session: (life > 0).then(|| Duration::from_secs(life)),
    })
}

pub(super) fn validate_logging(raw: RawLogging) -> Result<Logging, BadValue> {
    let level = parse_filter("logging.level", raw.level.as_deref().unwrap_or("info"))?;
    let format = match raw.format.unwrap_or(RawLogFormat::Text) {
        RawLogFormat::Text => LogFormat::Text,
        RawLogFormat::Json => LogFormat::Json,
    };
    Ok(Logging { level, format })
}
