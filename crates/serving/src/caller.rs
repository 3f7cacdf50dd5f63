//! Who calls, as far as the server can tell, and how urgently.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_core::{Priority, TenantId, Weight};

use crate::{peer::Peer, telemetry::Tally};

/// Whose call it is, how urgent it is, and how long somebody waits for it.
///
/// The edge makes one for each call, from its headers and its connection. There is no other source of a
/// deadline, a level of urgency or a peer.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Who pays for it.
    pub tenant: TenantId,
    /// What that tenant gets of the workers beside others.
    pub weight: Weight,
    /// The level of work that asks for none itself.
    pub priority: Priority,
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
    /// Longest time in the queue.
    pub max_wait: Option<Duration>,
    /// Where the call came from.
    pub peer: Peer,
    /// What the call comes to, filled in on its way.
    pub tally: Arc<Tally>,
}

impl Caller {
    /// Somebody at this peer of whom nothing else is known.
    #[must_use]
    pub fn at(peer: Peer) -> Self {
        Self {
            peer,
            ..Self::default()
        }
    }
}
