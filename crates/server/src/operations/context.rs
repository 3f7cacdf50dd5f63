//! What the handlers of the operations port share.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use lipsync_serving::starts::Starts;
use tokio::sync::watch;

use super::rounds::Rounds;
use crate::{
    config::{Origin, TextToSpeech},
    core_state::Shared,
    request_layer::Shapes,
};

/// Answers that are true only now.
pub(super) const FRESH: [(HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// Pages that take a while to write, each for itself.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// `/metrics`, in each format.
    pub(super) metrics: [Rounds; 2],
    /// `/api/history`, at each scale.
    pub(super) history: [Rounds; lipsync_telemetry::SCALES.len()],
    /// `/api/stats`.
    pub(super) stats: Rounds,
    /// `/resource-status`, which asks the system.
    pub(super) resources: Rounds,
    /// `/gpu-status`.
    pub(super) gpus: Rounds,
}

/// What the handlers share.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) shapes: Arc<Shapes>,
    pub(super) pages: Arc<Pages>,
    /// Sessions that addresses have begun; `None` where one address stands for many clients.
    pub(super) web_sessions: Option<Arc<Starts>>,
    /// Whose pages may open sessions, besides our own.
    pub(super) allowed_origins: Arc<[Origin]>,
    /// What speaks texts.
    pub(super) text_to_speech: Arc<TextToSpeech>,
    /// Its sender is dropped when the port closes.
    pub(super) closing: watch::Receiver<()>,
}
