//! What there is to be let in for, and how much of it.

use crate::gate::Ticket;

/// How many places there are, and how many bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that may wait for a worker.
    pub queue_capacity: usize,
    /// Worker threads.
    pub n_workers: usize,
    /// Sessions open at once.
    pub max_sessions: usize,
    /// Messages of calls on their way in and until they are answered, all together.
    pub max_upload_bytes: usize,
    /// Unary answers that are being made or not read yet, all together.
    pub max_unsent_bytes: usize,
    /// What one peer may hold of each kind of place and memory that clients share, percent.
    pub peer_share_percent: u32,
    /// The same for one tenant, where there are several.
    pub tenant_share_percent: u32,
}

impl Limits {
    /// Unary calls that may be in progress: beside those in the queue, they are in preparation, in a worker or being
    /// composited. The bound keeps what they hold in memory in proportion to the queue.
    #[must_use]
    pub fn max_requests(&self) -> usize {
        self.queue_capacity.saturating_add(4 * self.n_workers)
    }
}

#[cfg(test)]
impl Limits {
    /// Places for all that a test does, and all of them for one peer.
    pub(crate) const ROOMY: Self = Self {
        queue_capacity: 256,
        n_workers: 2,
        max_sessions: 16,
        max_upload_bytes: 1 << 20,
        max_unsent_bytes: 1 << 20,
        peer_share_percent: 100,
        tenant_share_percent: 80,
    };
}

/// What a caller wants to be let in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Frames of one call.
    Batch,
    /// A live conversation.
    Session,
    /// A model is to be loaded. That takes no place: who asks for a model that is being loaded waits for that load.
    Load,
    /// A question that is answered at once, whatever the server's phase.
    Control,
    /// A call that lasts and makes no frames, whatever the server's phase.
    Watch,
    /// A text that another server speaks.
    Speech,
}

/// What somebody holds who was let in; dropping it makes room for others.
#[derive(Debug, Default)]
#[must_use]
pub struct Admitted {
    /// Its place, where its kind of work has places.
    pub place: Option<Ticket>,
    /// Room for the memory of a session, which it holds until it is gone, while a place is given back as soon as the
    /// session has failed.
    pub memory: Option<Ticket>,
}
