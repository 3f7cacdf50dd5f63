//! Who calls, as far as the server can tell, and how urgently.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use lipsync_core::Priority;

use crate::peer::Peer;

/// Whose call it is, how urgent it is, and how long somebody waits for it.
///
/// The edge makes one for each call, from its headers and its connection. There is no other source of a
/// deadline, a level of urgency or a peer.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Who pays for it.
    pub tenant: Tenant,
    /// The level of work that asks for none itself.
    pub priority: Priority,
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
    /// Longest time in the queue.
    pub max_wait: Option<Duration>,
    /// Where the call came from.
    pub peer: Peer,
}

/// A party that the server serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Cow<'static, str>);

impl Tenant {
    /// The one that every caller belongs to, as long as no keys tell them apart.
    pub const DEFAULT: Self = Self(Cow::Borrowed("default"));

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self::DEFAULT
    }
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
