//! What all services share.

use std::{fmt, sync::Arc, time::Instant};

use lipsync_core::ModelId;
use lipsync_registry::{Lease, Registry};
use lipsync_session::SessionCounters;
use tokio::sync::watch;

use crate::{
    admission::Admission,
    config::{Output, ServerLimits, SessionLimits},
    error::ServeError,
    gpus::Gpus,
    health::Phase,
    pipeline::Pipeline,
    request_layer::Arrival,
};

/// The parts of a running server.
pub struct Shared {
    /// The gate.
    pub admission: Arc<Admission>,
    /// Models.
    pub registry: Registry,
    /// Network and pixels.
    pub pipeline: Pipeline,
    /// What is counted about sessions.
    pub sessions: Arc<SessionCounters>,
    /// Sizes and times.
    pub limits: ServerLimits,
    /// Bounds of streams.
    pub session: SessionLimits,
    /// Output defaults.
    pub output: Output,
    /// What runs the networks.
    pub device: String,
    /// How the GPUs are that run the networks, if any do.
    pub gpus: Gpus,
    /// When the server started.
    pub started: Instant,
    /// Where it is in its life.
    pub phase: watch::Receiver<Phase>,
}

impl Shared {
    /// A model, loaded if need be. Who waits for that is told when the server drains, and gives way to others
    /// where there is no room for its message.
    ///
    /// # Errors
    /// Those of [`Registry::model`]; [`ServeError::Draining`].
    pub(crate) async fn model(&self, id: &ModelId, arrival: &Arrival) -> Result<Lease, ServeError> {
        let waiting = self.admission.unless_draining(self.registry.model(id));
        Ok(arrival.waiting(waiting).await??)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
