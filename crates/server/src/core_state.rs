//! What all services share.

use std::{fmt, sync::Arc, time::Instant};

use lipsync_registry::Registry;
use lipsync_serving::{admission::Admission, batch::Batches, phase::Phase, pipeline::Pipeline};
use tokio::sync::watch;

use crate::{
    config::{Output, RequestLimits, ServerLimits, SessionLimits},
    gpus::Gpus,
    telemetry::{EdgeFigures, Past},
};

/// The parts of a running server.
pub struct Shared {
    /// The gate.
    pub admission: Arc<Admission>,
    /// Models.
    pub registry: Registry,
    /// Network and pixels.
    pub pipeline: Pipeline,
    /// Sockets, and what all clients share.
    pub limits: ServerLimits,
    /// Sizes and times of requests, and of the end.
    pub requests: RequestLimits,
    /// Bounds of streams.
    pub session: SessionLimits,
    /// Output defaults.
    pub output: Output,
    /// What runs the networks.
    pub device: String,
    /// The main figures of the last days, and what is wrong with them.
    pub past: Past,
    /// What the edges count.
    pub figures: Arc<EdgeFigures>,
    /// How the GPUs are that run the networks, if any do.
    pub gpus: Gpus,
    /// When the server started.
    pub started: Instant,
    /// Where it is in its life.
    pub phase: watch::Receiver<Phase>,
}

impl Shared {
    /// What unary calls are served with.
    #[must_use]
    pub fn batches(&self) -> Batches {
        Batches {
            admission: Arc::clone(&self.admission),
            registry: self.registry.clone(),
            pipeline: self.pipeline.clone(),
            max_frames: self.requests.max_batch_frames,
            answers: self.limits.answers(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
