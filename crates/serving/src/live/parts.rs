//! What sessions need of the server.

use std::{sync::Arc, time::Duration};

use lipsync_core::Fps;
use lipsync_registry::Registry;
use lipsync_session::Intake;

use crate::{
    admission::Admission, answer_limit::AnswerLimit, error::ServeError, order::PcmFormat,
    pipeline::Pipeline,
};

/// What stands before the inbox of a session of samples, given their format and the frames per second: what clients
/// may send as if it were samples is for the edge to know.
pub type NewIntake = fn(PcmFormat, Fps) -> Box<dyn Intake<ServeError>>;

/// The parts of the server that a session uses.
#[derive(Clone)]
pub struct Parts {
    /// Who is let in.
    pub admission: Arc<Admission>,
    /// Models.
    pub registry: Registry,
    /// Network and pixels.
    pub pipeline: Pipeline,
    /// What makes whole samples of chunks.
    pub new_intake: NewIntake,
    /// Bounds of sessions.
    pub limits: Limits,
    /// What sessions have to finish once the server drains. Asked for only then, because it may change before.
    pub shutdown_grace: Arc<dyn Fn() -> Duration + Send + Sync>,
}

/// Bounds of sessions.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
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
    /// The most frames that are made together.
    pub max_batch_frames: usize,
    /// The largest frame.
    pub answers: AnswerLimit,
}
