//! Who may come in: the one gate of everything that clients can ask for, before anything is loaded or
//! computed for them, and the pools of memory that they share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lipsync_core::saturate::{u64_of, usize_of};
use tokio::{sync::watch, time::Instant};

use crate::{
    config::{ServerLimits, SessionLimits},
    error::{RETRY_AFTER, ServeError},
    gate::{Gate, Rules, Ticket},
    health::Phase,
    peer::Peer,
    request_layer::Fault,
};

/// The gate.
#[derive(Debug)]
pub struct Admission {
    phase: watch::Receiver<Phase>,
    requests: Arc<Gate>,
    sessions: Arc<Gate>,
    /// The same, and those that have failed while their clients do not read.
    unread_sessions: Arc<Gate>,
    answers: Arc<Gate>,
    /// Calls that are answered at once.
    control: Arc<Gate>,
    /// Calls that last: health and statistics that are watched, reflection.
    watches: Arc<Gate>,
    uploads: Uploads,
    /// In bytes.
    unsent: Arc<Gate>,
    n_rejected: AtomicU64,
}

/// As good as no limit: they are only counted. What they hold is bounded in bytes, for unary calls all
/// together, and for each session.
const ANSWERS: usize = 1 << 24;
/// Calls about models and the server that are being answered. Each takes well under a millisecond.
const CONTROL: usize = 64;
/// Orchestrators and proxies watch each server a few times; a page does not watch at all.
const WATCHES: usize = 256;
/// A call on its way in counts as at least this many bytes: its stream, its task and its headers.
pub(crate) const UPLOAD_BYTES: usize = 16 << 10;
/// An upload that stands still for longer gives way where there is no room for others.
const UPLOAD_PATIENCE: Duration = Duration::from_millis(250);
/// An answer that has waited for its reader for longer gives way where there is no room for others.
const UNREAD_PATIENCE: Duration = Duration::from_secs(2);

/// What a session holds: its place until it has failed or is gone, and room for its memory until it is gone.
#[derive(Debug)]
pub struct SessionTicket {
    pub(crate) place: Ticket,
    pub(crate) memory: Ticket,
}

/// Room for a message that is on its way in, until the call that it belongs to is answered.
#[derive(Debug)]
pub struct Upload(Ticket);

/// Room for all uploads.
#[derive(Debug, Clone)]
pub(crate) struct Uploads(Arc<Gate>);

impl Uploads {
    /// Room for one of a peer, if there is any.
    pub(crate) fn admit(&self, peer: Peer) -> Option<Upload> {
        self.0.take(peer, UPLOAD_BYTES).map(Upload)
    }
}

/// What has run out where there is no room for an upload.
pub(crate) const TOO_MANY_UPLOADS: &str = "too many bytes of uploads";
/// Room is taken in steps of this many bytes, as memory is.
const UPLOAD_STEP_BYTES: usize = 64 << 10;

impl Upload {
    /// Grows it to this many bytes; `false` if there is no room.
    pub(crate) fn holds(&self, n_bytes: usize) -> bool {
        let n_bytes = if n_bytes > UPLOAD_BYTES {
            n_bytes.next_multiple_of(UPLOAD_STEP_BYTES)
        } else {
            UPLOAD_BYTES
        };
        self.0.resize(n_bytes)
    }

    /// Says whether it only waits from now on: for its client, or for a model to be loaded. Then it gives way to
    /// others where there is no room.
    pub(crate) fn waits(&self, waits: bool) {
        self.0.set_waiting(waits.then(Instant::now));
    }

    /// Returns when it has given way.
    pub(crate) async fn withdrawn(&self) {
        self.0.withdrawn().await;
    }

    /// Whether it has given way.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.0.is_withdrawn()
    }

    /// The refusal if it has given way, or could not grow.
    pub(crate) fn no_room(&self) -> Fault {
        let limit = self.0.limit();
        Fault::NoRoom { limit }
    }
}

impl Admission {
    /// A gate for a queue and workers of the given sizes.
    #[must_use]
    pub fn new(
        server: &ServerLimits,
        session: &SessionLimits,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let gate = |what, limit, patience| {
            Gate::new(Rules {
                what,
                limit,
                share_percent: server.peer_share_percent,
                patience,
            })
        };
        // Beside those in the queue, requests are in preparation, in a worker or being composited.
        // The bound keeps what they hold in memory in proportion to the queue.
        let n_requests = server.queue_capacity.saturating_add(4 * server.n_workers);
        let n_unread = session.max_sessions.saturating_mul(2);
        let (uploads, unsent) = (server.max_upload_bytes, server.max_unsent_bytes);
        Self {
            phase,
            requests: gate("too many requests at once", n_requests, None),
            sessions: gate("too many sessions", session.max_sessions, None),
            unread_sessions: gate("too many sessions that nobody reads", n_unread, None),
            answers: Gate::new(Rules {
                what: "answers",
                limit: ANSWERS,
                share_percent: 100,
                patience: None,
            }),
            control: gate("too many calls at once", CONTROL, None),
            watches: gate("too many calls that watch", WATCHES, None),
            uploads: Uploads(gate(TOO_MANY_UPLOADS, uploads, Some(UPLOAD_PATIENCE))),
            unsent: gate(
                "too many bytes of unread answers",
                unsent,
                Some(UNREAD_PATIENCE),
            ),
            n_rejected: AtomicU64::new(0),
        }
    }

    /// Lets a unary request in.
    ///
    /// # Errors
    /// [`ServeError::Draining`], [`ServeError::Overloaded`].
    pub fn admit_request(&self, peer: Peer) -> Result<Ticket, ServeError> {
        self.admit(&self.requests, peer)
    }

    /// Whether a unary request would be let in now. A full server says so before it reads a message.
    ///
    /// # Errors
    /// As [`Self::admit_request`].
    pub(crate) fn expect_request(&self, peer: Peer) -> Result<(), ServeError> {
        self.expect(&self.requests, peer)
    }

    /// Lets a session in.
    ///
    /// # Errors
    /// [`ServeError::Draining`], [`ServeError::Overloaded`].
    pub fn admit_session(&self, peer: Peer) -> Result<SessionTicket, ServeError> {
        Ok(SessionTicket {
            place: self.admit(&self.sessions, peer)?,
            memory: self.admit(&self.unread_sessions, peer)?,
        })
    }

    /// Whether a session would be let in now.
    ///
    /// # Errors
    /// As [`Self::admit_session`].
    pub(crate) fn expect_session(&self, peer: Peer) -> Result<(), ServeError> {
        self.expect(&self.sessions, peer)?;
        self.expect(&self.unread_sessions, peer)
    }

    /// Lets a call in that is answered at once, whatever the server's phase.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub(crate) fn admit_control(&self, peer: Peer) -> Result<Ticket, ServeError> {
        self.take(&self.control, peer, 1)
    }

    /// Lets a call in that lasts, whatever the server's phase.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub(crate) fn admit_watch(&self, peer: Peer) -> Result<Ticket, ServeError> {
        self.take(&self.watches, peer, 1)
    }

    /// Room for a message that is on its way in, which has to be made larger as it comes.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub(crate) fn admit_upload(&self, peer: Peer) -> Result<Upload, ServeError> {
        let upload = self.uploads.admit(peer);
        upload.ok_or_else(|| self.refuse_upload())
    }

    /// The pool of uploads, for what counts bytes by itself.
    pub(crate) fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// The refusal of a message for which there is no room.
    pub(crate) fn refuse_upload(&self) -> ServeError {
        self.refuse(&self.uploads.0)
    }

    /// For an answer until it is written. The drain waits for it, but it holds no place.
    pub(crate) fn answer(&self) -> Option<Ticket> {
        self.answers.take(Peer::UNKNOWN, 1)
    }

    /// Room for a unary answer of this many bytes, from before it is made until it is written.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub(crate) fn reserve(&self, peer: Peer, n_bytes: u64) -> Result<Ticket, ServeError> {
        let n_bytes = usize_of(n_bytes);
        self.take(&self.unsent, peer, n_bytes)
    }

    /// Makes a reservation as large as the answer has become.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub(crate) fn resize(&self, room: &Ticket, n_bytes: usize) -> Result<(), ServeError> {
        if room.resize(n_bytes) {
            Ok(())
        } else {
            Err(self.refuse(&self.unsent))
        }
    }

    fn admit(&self, gate: &Arc<Gate>, peer: Peer) -> Result<Ticket, ServeError> {
        let ticket = gate.take(peer, 1);
        // Looked at with the ticket in hand: whoever is let in before the drain begins is waited for.
        self.check_phase()?;
        ticket.ok_or_else(|| self.refuse(gate))
    }

    fn expect(&self, gate: &Gate, peer: Peer) -> Result<(), ServeError> {
        self.check_phase()?;
        if gate.has_room(peer) {
            Ok(())
        } else {
            Err(self.refuse(gate))
        }
    }

    fn take(&self, gate: &Arc<Gate>, peer: Peer, n: usize) -> Result<Ticket, ServeError> {
        gate.take(peer, n).ok_or_else(|| self.refuse(gate))
    }

    /// Whether new work is taken at all.
    ///
    /// # Errors
    /// [`ServeError::Starting`], [`ServeError::Draining`].
    pub(crate) fn check_phase(&self) -> Result<(), ServeError> {
        match *self.phase.borrow() {
            Phase::Starting => Err(ServeError::Starting),
            Phase::Draining => Err(ServeError::Draining),
            Phase::Serving | Phase::Leaving => Ok(()),
        }
    }

    /// Waits for something that is abandoned once the server drains.
    ///
    /// # Errors
    /// [`ServeError::Draining`].
    pub(crate) async fn unless_draining<T>(
        &self,
        waiting: impl Future<Output = T>,
    ) -> Result<T, ServeError> {
        let mut phase = self.phase.clone();
        tokio::select! {
            biased;
            done = waiting => Ok(done),
            // An error would mean that the server is gone.
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => Err(ServeError::Draining),
        }
    }

    fn refuse(&self, gate: &Gate) -> ServeError {
        self.n_rejected.fetch_add(1, Ordering::Relaxed);
        let rules = gate.rules();
        ServeError::Overloaded {
            what: rules.what,
            limit: rules.limit,
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
        self.sessions.n_taken()
    }

    /// Bytes of messages on their way in, and of those that are being answered.
    #[must_use]
    pub fn n_upload_bytes(&self) -> usize {
        self.uploads.0.n_taken()
    }

    /// Waits until everything that was let in has gone, and its answers are written.
    pub async fn emptied(&self) {
        self.requests.emptied().await;
        self.sessions.emptied().await;
        self.answers.emptied().await;
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
        self.check_answer_bytes(u64_of(n_bytes))?;
        Ok(n_bytes)
    }

    /// As [`Self::check_answer`], for an estimate.
    ///
    /// # Errors
    /// [`ServeError::AnswerTooLarge`].
    pub(crate) fn check_answer_bytes(&self, n_bytes: u64) -> Result<(), ServeError> {
        let limit = u64_of(self.max_message_bytes);
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
            "server: {queue_size: 1, worker_count: 1, peer_share_percent: 100}",
            Path::new("c"),
            [],
        );
        let config = config.unwrap();
        let (phase, seen) = watch::channel(Phase::Starting);
        let gate = Admission::new(&config.server, &config.session, seen);
        let admit = || gate.admit_request(Peer::UNKNOWN);
        assert!(matches!(admit(), Err(ServeError::Starting)));
        phase.send_replace(Phase::Serving);
        let inside: Vec<_> = (0..5).map(|_| admit().unwrap()).collect();
        for refused in [admit().map(drop), gate.expect_request(Peer::UNKNOWN)] {
            assert!(matches!(refused, Err(ServeError::Overloaded { .. })));
        }
        assert_eq!(gate.n_rejected(), 2);
        phase.send_replace(Phase::Draining);
        assert!(matches!(admit(), Err(ServeError::Draining)));
        drop(inside);
        let session = gate.admit_session(Peer::UNKNOWN);
        assert!(matches!(session, Err(ServeError::Draining)));
        assert_eq!(gate.n_rejected(), 2, "a drain is no want of room");
    }

    #[test]
    fn answers_take_what_they_have_become_and_give_all_of_it_back() {
        let config = "server: {max_message_size_mb: 1, max_unsent_mb: 1, max_upload_mb: 1, peer_share_percent: 100}";
        let config = Config::parse(config, Path::new("c"), []).unwrap();
        let (_phase, seen) = watch::channel(Phase::Serving);
        let gate = Admission::new(&config.server, &config.session, seen);
        let reserve = |n_bytes| gate.reserve(Peer::UNKNOWN, n_bytes);
        let all = config.server.max_unsent_bytes;
        let one = reserve(1000).unwrap();
        gate.resize(&one, 10).unwrap();
        let other = reserve(all as u64 - 100).unwrap();
        gate.resize(&one, 100).unwrap();
        for refused in [gate.resize(&other, all - 99), gate.resize(&one, 101)] {
            assert!(matches!(refused, Err(ServeError::Overloaded { .. })));
        }
        assert!(reserve(1).is_err());
        assert_eq!(gate.n_rejected(), 3);
        drop(other);
        gate.resize(&one, all).unwrap();
        drop(one);
        assert!(reserve(all as u64).is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_through_a_drain() {
        let config = Config::parse("", Path::new("c"), []).unwrap();
        let (phase, seen) = watch::channel(Phase::Serving);
        let gate = Admission::new(&config.server, &config.session, seen);
        assert_eq!(gate.unless_draining(async { 1 }).await.unwrap(), 1);
        phase.send_replace(Phase::Draining);
        let waited = gate.unless_draining(std::future::pending::<()>()).await;
        assert!(matches!(waited, Err(ServeError::Draining)));
        assert_eq!(gate.unless_draining(async { 2 }).await.unwrap(), 2);
    }
}
