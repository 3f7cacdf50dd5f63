//! Bytes and connections of a port.

use std::sync::Arc;

use lipsync_telemetry::{Counter, Gauge, Rise};

/// What goes over a port.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes that came.
    pub received: Counter,
    /// Bytes that the system took from us.
    pub sent: Counter,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that there are.
    pub open: Arc<Gauge>,
}

impl Traffic {
    /// A connection has begun; it lasts until the answer is dropped.
    pub(crate) fn connected(&self) -> Rise {
        self.accepted.inc();
        Rise::new(Arc::clone(&self.open))
    }
}
