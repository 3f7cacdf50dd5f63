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
    /// The same, and those that have failed while their clients do not read.
    unread_sessions: Gate,
    answers: Gate,
    /// In bytes.
    unsent: Gate,
    n_rejected: AtomicU64,
}

#[derive(Debug)]
struct Gate {
    what: &'static str,
    limit: usize,
    free: Arc<Semaphore>,
}

/// As good as no limit: they are only counted. What they hold is bounded in bytes, for unary calls all
/// together, and for each session.
const ANSWERS: usize = 1 << 24;

/// The right to be served, or to take memory; dropping it makes room for another.
#[derive(Debug)]
pub struct Ticket {
    permit: OwnedSemaphorePermit,
}

/// What a session holds: its place until it has failed or is gone, and room for its memory until it is gone.
#[derive(Debug)]
pub struct SessionTicket {
    pub(crate) place: Ticket,
    pub(crate) memory: Ticket,
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
            unread_sessions: Gate::new(
                "too many sessions that nobody reads",
                session.max_sessions.saturating_mul(2),
            ),
            answers: Gate::new("answers", ANSWERS),
            unsent: Gate::new("too many bytes of unread answers", server.max_unsent_bytes),
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
    pub fn admit_session(&self) -> Result<SessionTicket, ServeError> {
        Ok(SessionTicket {
            place: self.admit(&self.sessions)?,
            memory: self.admit(&self.unread_sessions)?,
        })
    }

    /// For an answer until it is written: the drain waits for it, but it takes nobody's place.
    pub(crate) fn answer(&self) -> Option<Ticket> {
        self.answers.take(1)
    }

    /// Room for a unary answer of so many bytes, from before it is made until it is written.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub(crate) fn reserve(&self, n_bytes: u64) -> Result<Ticket, ServeError> {
        let n_bytes = u32::try_from(n_bytes).unwrap_or(u32::MAX);
        let room = self.unsent.take(n_bytes);
        room.ok_or_else(|| self.refuse(&self.unsent))
    }

    /// Makes a reservation as large as the answer has become.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub(crate) fn resize(&self, room: &mut Ticket, n_bytes: usize) -> Result<(), ServeError> {
        let n_held = room.permit.num_permits();
        if let Some(n_missing) = n_bytes.checked_sub(n_held) {
            let more = self.reserve(u64::try_from(n_missing).unwrap_or(u64::MAX))?;
            room.permit.merge(more.permit);
        } else {
            drop(room.permit.split(n_held - n_bytes));
        }
        Ok(())
    }

    fn admit(&self, gate: &Gate) -> Result<Ticket, ServeError> {
        let ticket = gate.take(1);
        // Looked at with the ticket in hand: whoever is let in before the drain begins is waited for.
        match *self.phase.borrow() {
            Phase::Starting => return Err(ServeError::Starting),
            Phase::Draining => return Err(ServeError::Draining),
            Phase::Serving | Phase::Leaving => {}
        }
        ticket.ok_or_else(|| self.refuse(gate))
    }

    fn refuse(&self, gate: &Gate) -> ServeError {
        self.n_rejected.fetch_add(1, Ordering::Relaxed);
        ServeError::Overloaded {
            what: gate.what,
            limit: gate.limit,
            retry: RETRY_AFTER,
        }
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

    fn take(&self, n: u32) -> Option<Ticket> {
        let permit = Arc::clone(&self.free).try_acquire_many_owned(n).ok()?;
        Some(Ticket { permit })
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
    /// Refuses an answer that would not fit a message; gives its size in bytes.
    ///
    /// The stack would refuse it as well, but after the work and with another code.
    ///
    /// # Errors
    /// [`ServeError::AnswerTooLarge`].
    pub(crate) fn check_answer(&self, answer: &impl prost::Message) -> Result<usize, ServeError> {
        let n_bytes = answer.encoded_len().saturating_add(ENVELOPE_BYTES);
        self.check_answer_bytes(u64::try_from(n_bytes).unwrap_or(u64::MAX))?;
        Ok(n_bytes)
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

    #[test]
    fn answers_take_what_they_have_become_and_give_all_of_it_back() {
        let config = "server: {max_message_size_mb: 1, max_unsent_mb: 1}";
        let config = Config::parse(config, Path::new("c"), []).unwrap();
        let (_phase, seen) = watch::channel(Phase::Serving);
        let gate = Admission::new(&config.server, &config.session, seen);
        let all = config.server.max_unsent_bytes;
        let mut one = gate.reserve(1000).unwrap();
        gate.resize(&mut one, 10).unwrap();
        let mut other = gate.reserve(all as u64 - 100).unwrap();
        gate.resize(&mut one, 100).unwrap();
        for refused in [
            gate.resize(&mut other, all - 99),
            gate.resize(&mut one, 101),
        ] {
            assert!(matches!(refused, Err(ServeError::Overloaded { .. })));
        }
        assert!(gate.reserve(1).is_err());
        assert_eq!(gate.n_rejected(), 3);
        drop(other);
        gate.resize(&mut one, all).unwrap();
        drop(one);
        assert!(gate.reserve(all as u64).is_ok());
    }
}
