//! What sessions need of the server.

use std::{sync::Arc, time::Duration};

use lipsync_registry::Registry;
use lipsync_session::SessionCounters;
use tokio::sync::watch;

use crate::{
    admission::Admission, answer_limit::AnswerLimit, config::SessionLimits, phase::Phase,
    pipeline::Pipeline,
};

/// The parts of the server that a session uses.
pub(crate) struct Parts {
    /// Who is let in.
    pub(crate) admission: Arc<Admission>,
    /// Models.
    pub(crate) registry: Registry,
    /// Network and pixels.
    pub(crate) pipeline: Pipeline,
    /// What is counted about sessions.
    pub(crate) counters: Arc<SessionCounters>,
    /// Bounds of sessions.
    pub(crate) limits: SessionLimits,
    /// The largest frame.
    pub(crate) answers: AnswerLimit,
    /// The most frames that are made together.
    pub(crate) max_batch_frames: usize,
    /// What sessions have to finish once the server drains.
    pub(crate) shutdown_grace: Duration,
    /// Where the server is in its life.
    pub(crate) phase: watch::Receiver<Phase>,
}
