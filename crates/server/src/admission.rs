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
    answers: Gate,
    n_rejected: AtomicU64,
}

#[derive(Debug)]
struct Gate {
    what: &'static str,
    limit: usize,
    free: Arc<Semaphore>,
}

/// As good as no limit.
const ANSWERS: usize = 1 << 24;

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
            answers: Gate::new("answers", ANSWERS),
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

    /// For an answer until it is written: the drain waits for it, but it takes nobody's place.
    pub(crate) fn answer(&self) -> Option<Ticket> {
        let permit = Arc::clone(&self.answers.free).try_acquire_owned().ok()?;
        Some(Ticket { _permit: permit })
    }

    fn admit(&self, gate: &Gate) -> Result<Ticket, ServeError> {
        let permit = Arc::clone(&gate.free).try_acquire_owned();
        // Looked at with the permit in hand: whoever is let in before the drain begins is waited for.
        match *self.phase.borrow() {
            Phase::Starting => return Err(ServeError::Starting),
            Phase::Draining => return Err(ServeError::Draining),
            Phase::Serving | Phase::Leaving => {}
        }
        let permit = permit.map_err(|_| {
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

    /// Waits until everything that was let in has gone, and its answers are written.
    pub async fn emptied(&self) {
        self.requests.emptied().await;
        self.sessions.emptied().await;
        self.answers.emptied().await;
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

impl ServerLimits {
    /// Refuses an answer that would not fit a message.
    ///
    /// The stack would refuse it as well, but after the work and with another code.
    ///
    /// # Errors
    /// [`ServeError::AnswerTooLarge`].
    pub(crate) fn check_answer(&self, answer: &impl prost::Message) -> Result<(), ServeError> {
        let n_bytes = answer.encoded_len().saturating_add(ENVELOPE_BYTES);
        self.check_answer_bytes(u64::try_from(n_bytes).unwrap_or(u64::MAX))
    }

    /// As [`Self::check_answer`], for an estimate.
    ///
    /// # Errors
    /// [`ServeError::AnswerTooLarge`].
    pub(crate) fn check_answer_bytes(&self, n_bytes: u64) -> Result<(), ServeError> {
        let limit = u64::try_from(self.max_message_bytes).unwrap_or(u64::MAX);
        if n_bytes > limit {
            return Err(ServeError::AnswerTooLarge { n_bytes, limit });
        }
        Ok(())
    }
}

/// What may come around an answer: the message of a stream that carries it, and a stamp.
const ENVELOPE_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Config;

    #[test]
    fn work_is_taken_between_start_and_drain() {
        let config = Config::parse(
            "server: {queue_size: 1, worker_count: 1}",
            Path::new("c"),
            [],
        );
        let config = config.unwrap();
        let (phase, seen) = watch::channel(Phase::Starting);
        let gate = Admission::new(&config.server, &config.session, seen);
        assert!(matches!(gate.admit_request(), Err(ServeError::Starting)));
        phase.send_replace(Phase::Serving);
        let inside: Vec<_> = (0..5).map(|_| gate.admit_request().unwrap()).collect();
        let refused = gate.admit_request();
        assert!(matches!(refused, Err(ServeError::Overloaded { .. })));
        assert_eq!(gate.n_rejected(), 1);
        phase.send_replace(Phase::Draining);
        assert!(matches!(gate.admit_request(), Err(ServeError::Draining)));
        drop(inside);
        assert!(matches!(gate.admit_session(), Err(ServeError::Draining)));
        assert_eq!(gate.n_rejected(), 1, "a drain is no want of room");
    }
}
