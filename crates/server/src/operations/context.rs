//! What the handlers of the operations port share.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use tokio::sync::watch;

use crate::{config::Origin, core_state::Shared, request_layer::Shapes};

/// Answers that are true only now.
pub(super) const FRESH: [(HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// What the handlers share.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) shapes: Arc<Shapes>,
    /// Whose pages may open sessions, besides our own.
    pub(super) allowed_origins: Arc<[Origin]>,
    /// Its sender is dropped when the port closes.
    pub(super) closing: watch::Receiver<()>,
}
