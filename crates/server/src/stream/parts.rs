//! What sessions need of the server, and what is known of who opens one.

use std::{sync::Arc, time::Instant};

use lipsync_registry::Registry;
use lipsync_session::SessionCounters;
use tokio::sync::watch;

use crate::{
    admission::Admission,
    config::{ServerLimits, SessionLimits},
    health::Phase,
    peer::Peer,
    pipeline::Pipeline,
    request_layer::{Activity, Busy},
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
    /// Bounds of everything.
    pub(crate) server_limits: ServerLimits,
    /// Where the server is in its life.
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Who opens a session.
pub(crate) struct Caller {
    /// Where it came from.
    pub(crate) peer: Peer,
    /// What goes on in its connection.
    pub(crate) activity: Option<Activity>,
    /// When nobody waits any more.
    pub(crate) deadline: Option<Instant>,
}

impl Caller {
    /// From now on something goes on in its connection.
    pub(super) fn busy(&self) -> Option<Busy> {
        self.activity.as_ref().map(Activity::begin)
    }
}
