//! Who may come in: the one gate of unary requests and sessions, before anything is loaded or
//! computed for them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    config::{ServerLimits, SessionLimits},
    error::{RETRY_AFTER, ServeError},
    health::Phase,
};

/// The gate.
#[derive(Debug)]
pub struct Admission {
    phase: watch::Receiver<Phase>,
    requests: Gate,
    sessions: Gate,
    n_rejected: AtomicU64,
}

#[derive(Debug)]
struct Gate {
    what: &'static str,
    limit: usize,
    free: Arc<Semaphore>,
}

/// The right to be served; dropping it makes room for another.
#[derive(Debug)]
pub struct Ticket {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// A gate for a queue and workers of the given sizes.
    #[must_use]
    pub fn new(
        server: &ServerLimits,
        session: &SessionLimits,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        // Beside those in the queue, requests are in preparation, in a worker or being composited.
        // The bound keeps what they hold in memory in proportion to the queue.
        let n_requests = server.queue_capacity + 4 * server.n_workers;
        Self {
            phase,
            requests: Gate::new("too many requests at once", n_requests),
            sessions: Gate::new("too many sessions", session.max_sessions),
            n_rejected: AtomicU64::new(0),
        }
    }

    /// Lets a unary request in.
    ///
    /// # Errors
    /// [`ServeError::Draining`], [`ServeError::Overloaded`].
    pub fn admit_request(&self) -> Result<Ticket, ServeError> {
        self.admit(&self.requests)
    }

    /// Lets a session in.
    ///
    /// # Errors
    /// [`ServeError::Draining`], [`ServeError::Overloaded`].
    pub fn admit_session(&self) -> Result<Ticket, ServeError> {
        self.admit(&self.sessions)
    }

    fn admit(&self, gate: &Gate) -> Result<Ticket, ServeError> {
        if self.is_draining() {
            return Err(ServeError::Draining);
        }
        let permit = Arc::clone(&gate.free).try_acquire_owned().map_err(|_| {
            self.n_rejected.fetch_add(1, Ordering::Relaxed);
            ServeError::Overloaded {
                what: gate.what,
                limit: gate.limit,
                retry: RETRY_AFTER,
            }
        })?;
        Ok(Ticket { _permit: permit })
    }

    /// Whether new work is refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// A view of the server's phase, for sessions.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Refused at this gate so far, for want of room.
    #[must_use]
    pub fn n_rejected(&self) -> u64 {
        self.n_rejected.load(Ordering::Relaxed)
    }

    /// Sessions open now.
    #[must_use]
    pub fn n_sessions(&self) -> usize {
        self.sessions.n_inside()
    }

    /// Waits until everything that was let in has gone.
    pub async fn emptied(&self) {
        self.requests.emptied().await;
        self.sessions.emptied().await;
    }
}

impl Gate {
    fn new(what: &'static str, limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            what,
            limit,
            free: Arc::new(Semaphore::new(limit)),
        }
    }

    fn n_inside(&self) -> usize {
        self.limit.saturating_sub(self.free.available_permits())
    }

    async fn emptied(&self) {
        let all = u32::try_from(self.limit).unwrap_or(u32::MAX);
        // The semaphore is never closed; an error would mean that nobody is inside.
        drop(self.free.acquire_many(all).await);
    }
}
