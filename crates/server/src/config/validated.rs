//! The configuration as the server uses it: complete, in range, paths resolved.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use lipsync_compositor::Encoding;
use lipsync_core::{AudioKind, ModelId};
use lipsync_engine::{CpuIsa, NetworkLimits};
use lipsync_registry::{
    EvictionPolicy, MAX_FPS, ModelConfig, ModelSource, PrecisionChoice, RegistryConfig,
};

use super::{
    BadValue,
    numbers::{gibibytes, gmacs, in_range, positive, to_usize},
    raw::{
        RawAudioKind, RawBake, RawCapacity, RawConfig, RawEngine, RawEviction, RawFormat,
        RawLogFormat, RawLogging, RawModel, RawOperations, RawOutput, RawPrecision, RawServer,
        RawSession,
    },
};

/// A complete configuration.
#[derive(Debug)]
pub struct Config {
    /// Sockets, sizes and times of the server.
    pub server: ServerLimits,
    /// The page and the probes; `None` = off.
    pub operations: Option<Operations>,
    /// What runs the networks.
    pub engine: Engine,
    /// How frames are coded when a request does not say.
    pub output: Output,
    /// Bounds of streams.
    pub session: SessionLimits,
    /// What is logged.
    pub logging: Logging,
    /// Models and their budgets.
    pub registry: RegistryConfig,
    /// Whether a model that is not there, or cannot be preloaded, ends the start.
    pub strict: bool,
    /// What the configuration names and is not there, a sentence each.
    pub missing: Vec<String>,
}

/// `server`.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Where gRPC listens.
    pub address: SocketAddr,
    /// Largest message, both ways.
    pub max_message_bytes: usize,
    /// Unary answers that are being made or not read yet, all together.
    pub max_unsent_bytes: usize,
    /// Worker threads.
    pub n_workers: usize,
    /// Requests that may wait.
    pub queue_capacity: usize,
    /// Frames of one request, and of one executed batch.
    pub max_batch_frames: usize,
    /// Longest time that one request may take.
    pub request_timeout: Duration,
    /// Between "not serving" and refusing new work.
    pub pre_drain: Duration,
    /// For what runs to finish.
    pub shutdown_grace: Duration,
}

/// `operations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations {
    /// Where HTTP listens.
    pub address: SocketAddr,
}

/// `engine`.
#[derive(Debug, Clone, Copy)]
pub struct Engine {
    /// Where the networks run.
    pub device: DeviceChoice,
    /// Which instructions the CPU engine uses.
    pub cpu_isa: CpuIsa,
    /// Bytes for what depends on background frames alone, on each device; 0 keeps nothing.
    pub visual_cache_bytes: u64,
    /// Frames of one executed batch.
    pub max_batch: usize,
    /// How long a job may be held back for others to share its batch.
    pub max_batch_wait: Duration,
    /// What one network may take.
    pub limits: NetworkLimits,
}

/// `engine.device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// All CUDA devices that can be used; the CPU where there is none, and as long as the CUDA engine has
    /// not run on a GPU.
    Auto,
    /// The embedded CPU engine.
    Cpu,
    /// All CUDA devices that can be used, at least one.
    Cuda,
    /// The CUDA device of this ordinal.
    CudaAt(u32),
}

/// `output`.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Format, with the quality for JPEG.
    pub encoding: Encoding,
    /// Quality when a request asks for JPEG without one.
    pub jpeg_quality: u8,
    /// Whether JPEG and PNG files say that they were made by a trained network.
    pub mark_generated: bool,
}

/// `session`.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Streams open at once.
    pub max_sessions: usize,
    /// Audio that may wait in one session, seconds.
    pub max_buffered_audio_s: u32,
    /// Finished frames that may wait in one session, ms of video.
    pub max_unsent_ms: u32,
    /// A session in which nothing moves for so long is ended.
    pub idle_timeout: Duration,
    /// A session whose client has not read for so long is ended.
    pub send_timeout: Duration,
    /// A paced session that is behind for so long, and no nearer then, is ended.
    pub lag_timeout: Option<Duration>,
    /// A session lives so long at most.
    pub max_session: Option<Duration>,
}

/// `logging`.
#[derive(Debug, Clone)]
pub struct Logging {
    /// A filter as `tracing-subscriber` reads it.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// `logging.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) fn validate(raw: RawConfig, base: &Path) -> Result<Config, BadValue> {
    let root = base.join(raw.models_root.as_deref().unwrap_or("."));
    let strict = raw.strict.unwrap_or(false);
    let follow_links = raw.follow_links.unwrap_or(false);
    let mut models = Vec::with_capacity(raw.models.len());
    let mut missing = Vec::new();
    for (id, mut model) in raw.models {
        model.follow_links.get_or_insert(follow_links);
        models.push(validate_model(&id, model, (&root, &mut missing))?);
    }
    if strict && !missing.is_empty() {
        return Err(missing.swap_remove(0));
    }
    let output = validate_output(&raw.output)?;
    let registry = RegistryConfig {
        jpeg_quality: output.jpeg_quality,
        precision: raw.engine.precision.map(precision).unwrap_or_default(),
        cache_dir: validate_cache_dir(raw.cache_dir.as_deref(), base)?,
        ..validate_capacity(&raw.capacity, models)?
    };
    Ok(Config {
        server: validate_server(&raw.server)?,
        operations: validate_operations(&raw.operations)?,
        engine: validate_engine(&raw.engine)?,
        output,
        session: validate_session(&raw.session)?,
        logging: validate_logging(raw.logging)?,
        registry,
        strict,
        missing: missing.iter().map(BadValue::sentence).collect(),
    })
}

fn validate_server(raw: &RawServer) -> Result<ServerLimits, BadValue> {
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
        n_workers: to_usize(n_workers),
        queue_capacity: to_usize(queue),
        max_batch_frames: to_usize(frames),
        request_timeout: Duration::from_millis(timeout),
        pre_drain: Duration::from_millis(pre_drain),
        shutdown_grace: Duration::from_secs(grace),
    })
}

fn validate_operations(raw: &RawOperations) -> Result<Option<Operations>, BadValue> {
    let port = raw.port.as_deref().unwrap_or(":8080");
    // Checked even when it is off, so that switching it on brings no surprise.
    let address = parse_address("operations.port", port)?;
    Ok(raw
        .enabled
        .unwrap_or(true)
        .then_some(Operations { address }))
}

/// `:50051` and `50051` listen on every IPv4 address, `host:port` on one.
fn parse_address(key: &str, text: &str) -> Result<SocketAddr, BadValue> {
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None if text.bytes().all(|b| b.is_ascii_digit()) => format!("0.0.0.0:{text}"),
        None => text.replace("localhost:", "127.0.0.1:"),
    };
    full.parse().map_err(|_| BadValue {
        key: key.into(),
        message: format!("expected \":50051\" or \"127.0.0.1:50051\", found {text:?}"),
    })
}

fn validate_engine(raw: &RawEngine) -> Result<Engine, BadValue> {
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
        message: format!("expected auto, avx512_bf16, avx512, avx2 or portable, found {isa:?}"),
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
            message: format!("expected auto, cpu, cuda or cuda:0 (a number), found {text:?}"),
        }),
    }
}

fn validate_output(raw: &RawOutput) -> Result<Output, BadValue> {
    let quality = raw.jpeg_quality.unwrap_or(85);
    in_range("output.jpeg_quality", quality.into(), 1..=100)?;
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

fn validate_session(raw: &RawSession) -> Result<SessionLimits, BadValue> {
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
        idle_timeout: Duration::from_secs(idle),
        send_timeout: Duration::from_secs(send),
        lag_timeout: (lag > 0).then(|| Duration::from_secs(lag)),
        max_session: (life > 0).then(|| Duration::from_secs(life)),
    })
}

fn validate_logging(raw: RawLogging) -> Result<Logging, BadValue> {
    let level = raw.level.unwrap_or_else(|| "info".into());
    tracing_subscriber::EnvFilter::try_new(&level).map_err(|_| BadValue {
        key: "logging.level".into(),
        message: format!("expected error, warn, info, debug, trace or a filter, found {level:?}"),
    })?;
    let format = match raw.format.unwrap_or(RawLogFormat::Text) {
        RawLogFormat::Text => LogFormat::Text,
        RawLogFormat::Json => LogFormat::Json,
    };
    Ok(Logging { level, format })
}

fn validate_cache_dir(raw: Option<&str>, base: &Path) -> Result<Option<PathBuf>, BadValue> {
    let Some(folder) = raw.map(|path| base.join(path)) else {
        return Ok(None);
    };
    if folder.is_dir() {
        return Ok(Some(folder));
    }
    Err(BadValue {
        key: "cache_dir".into(),
        message: format!("{} is not a folder", folder.display()),
    })
}

fn validate_capacity(
    raw: &RawCapacity,
    models: Vec<ModelConfig>,
) -> Result<RegistryConfig, BadValue> {
    let max_models = in_range(
        "capacity.max_models",
        raw.max_models.unwrap_or(100).into(),
        1..=1_000_000,
    )?;
    let cache = raw.background_cache_frames.unwrap_or(50);
    let cache = in_range(
        "capacity.background_cache_frames",
        cache.into(),
        1..=1_000_000,
    )?;
    let preload = raw.preload_frames.unwrap_or(8);
    let preload = in_range("capacity.preload_frames", preload.into(), 0..=cache)?;
    let decoded = in_range(
        "capacity.decoded_frames",
        raw.decoded_frames.unwrap_or(8).into(),
        1..=1_000_000,
    )?;
    let frames_idle = in_range(
        "capacity.frames_idle_s",
        raw.frames_idle_s.unwrap_or(60),
        1..=86_400,
    )?;
    let idle = raw.idle_timeout_minutes.unwrap_or(0.0);
    let idle_timeout = if idle == 0.0 {
        None
    } else {
        let minutes = positive("capacity.idle_timeout_minutes", idle, 1e6)?;
        Some(Duration::from_secs_f64(minutes * 60.0))
    };
    Ok(RegistryConfig {
        models,
        max_models: to_usize(max_models),
        max_bytes: gibibytes("capacity.max_memory_gb", raw.max_memory_gb, 8.0)?,
        max_frame_bytes: gibibytes("capacity.max_host_memory_gb", raw.max_host_memory_gb, 1.5)?,
        eviction: match raw.eviction_policy.unwrap_or(RawEviction::Lru) {
            RawEviction::Lru => EvictionPolicy::Lru,
            RawEviction::Lfu => EvictionPolicy::Lfu,
        },
        idle_timeout,
        frames_idle: Duration::from_secs(frames_idle),
        background_cache_frames: to_usize(cache),
        decoded_frames: to_usize(decoded),
        preload_frames: to_usize(preload),
        max_frames: to_usize(in_range(
            "capacity.max_frames",
            raw.max_frames.unwrap_or(10_000).into(),
            1..=100_000,
        )?),
        max_pack_bytes: gibibytes("capacity.max_pack_gb", raw.max_pack_gb, 8.0)?,
        bake: matches!(raw.bake.unwrap_or(RawBake::Auto), RawBake::Auto),
        // Not of this section: filled in by the caller.
        precision: PrecisionChoice::Auto,
        jpeg_quality: 0,
        cache_dir: None,
    })
}

fn validate_model(
    id: &str,
    raw: RawModel,
    (root, missing): (&Path, &mut Vec<BadValue>),
) -> Result<ModelConfig, BadValue> {
    let key = format!("models.{id}");
    let bad = |key: String, message: String| BadValue { key, message };
    let model_id = ModelId::new(id).map_err(|e| bad(key.clone(), e.to_string()))?;
    let mut resolve = |name: &str, path: &str| {
        let path = root.join(path);
        if !path.exists() {
            let message = format!("{} does not exist", path.display());
            missing.push(bad(format!("{key}.{name}"), message));
        }
        path
    };
    let source = match (
        raw.path,
        raw.model_path,
        raw.background_dir,
        raw.crop_rects_path,
    ) {
        (Some(path), None, None, None) => ModelSource::Folder(resolve("path", &path)),
        (None, Some(model), Some(backgrounds), Some(rects)) => ModelSource::Parts {
            model_path: resolve("model_path", &model),
            background_dir: resolve("background_dir", &backgrounds),
            crop_rects_path: resolve("crop_rects_path", &rects),
            n_frames: raw.num_frames,
        },
        _ => {
            return Err(bad(
                key,
                "expected either path (an avatar's folder), or all of model_path, background_dir and crop_rects_path".into(),
            ));
        }
    };
    if raw.num_frames.is_some() && matches!(source, ModelSource::Folder(_)) {
        return Err(bad(
            format!("{key}.num_frames"),
            "goes with model_path, not with path".into(),
        ));
    }
    if let Some(fps) = raw.fps {
        in_range(&format!("{key}.fps"), fps.into(), 1..=MAX_FPS.into())?;
    }
    let audio_encoder = raw.audio_encoder_path;
    let audio_encoder = audio_encoder.map(|path| resolve("audio_encoder_path", &path));
    Ok(ModelConfig {
        id: model_id,
        source,
        audio_kind: raw.audio_kind.map(|kind| match kind {
            RawAudioKind::Ave => AudioKind::Ave,
            RawAudioKind::Hubert => AudioKind::Hubert,
            RawAudioKind::Wenet => AudioKind::Wenet,
        }),
        fps: raw.fps,
        audio_encoder,
        precision: raw.precision.map(precision),
        preload: raw.preload.unwrap_or(false),
        follow_links: raw.follow_links.unwrap_or(false),
    })
}

fn precision(raw: RawPrecision) -> PrecisionChoice {
    match raw {
        RawPrecision::Auto => PrecisionChoice::Auto,
        RawPrecision::F32 => PrecisionChoice::F32,
        RawPrecision::Bf16 => PrecisionChoice::Bf16,
    }
}
