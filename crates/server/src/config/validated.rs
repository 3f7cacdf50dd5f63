//! The configuration as the server uses it: complete, in range, paths resolved.

use std::{net::SocketAddr, path::Path, time::Duration};

use lipsync_compositor::Encoding;
use lipsync_engine::{CpuIsa, NetworkLimits};
use lipsync_registry::RegistryConfig;

use super::{
    BadValue, Origin,
    models::{precision, validate_cache_dir, validate_capacity, validate_model},
    raw::RawConfig,
    sections::{
        validate_engine, validate_logging, validate_operations, validate_output, validate_server,
        validate_session,
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
    /// What is not wrong, but probably not meant, a sentence each.
    pub warnings: Vec<String>,
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
    /// Messages of calls on their way in and until they are answered, all together.
    pub max_upload_bytes: usize,
    /// What one address may hold of each kind of place and memory that clients share, percent.
    pub peer_share_percent: u32,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operations {
    /// Where HTTP listens.
    pub address: SocketAddr,
    /// Whose pages may open sessions, besides those of this port.
    pub allowed_origins: Vec<Origin>,
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
    /// Largest message that a session's client may send.
    pub max_message_bytes: usize,
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
        // Of the reading, not of the values.
        warnings: Vec::new(),
        strict,
        missing: missing.iter().map(BadValue::sentence).collect(),
    })
}
