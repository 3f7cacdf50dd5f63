//! Who may come in: the one gate of everything that clients can ask for, before anything is loaded or
//! computed for them, and the pools of memory that they share.

mod places;
mod quota;
mod upload;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lipsync_core::{Fps, Priority, TenantId, saturate::usize_of};
use tokio::sync::watch;

use crate::{
    caller::Caller,
    error::{RETRY_AFTER, ServeError},
    gate::{Gate, Lack, Rules, Ticket},
    peer::Peer,
    phase::Phase,
    rates::{Booking, Charge, Rates},
    residents::Residents,
    rights::FrameRate,
    starts::Starts,
    talk::Talk,
};

pub use places::{Admitted, Limits, Work};
pub use quota::OverQuota;
use quota::{FRAMES, Quota, max_unread_sessions};
use upload::UPLOAD_BYTES;
pub use upload::{TOO_MANY_UPLOADS, Upload, Uploads};

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
    /// Texts that another server speaks.
    speech: Arc<Gate>,
    uploads: Uploads,
    /// In bytes.
    unsent: Arc<Gate>,
    rates: Arc<Rates>,
    talks: Arc<Starts<TenantId>>,
    residents: Arc<Residents>,
    n_rejected: AtomicU64,
    /// Whether work of the lowest priority is refused.
    sheds_low: AtomicBool,
}

/// As good as no limit: they are only counted. What they hold is bounded in bytes, for unary calls all
/// together, and for each session.
const ANSWERS: usize = 1 << 24;
/// Calls about models and the server that are being answered. Each takes well under a millisecond.
const CONTROL: usize = 64;
/// Orchestrators and proxies watch each server a few times; a page does not watch at all.
const WATCHES: usize = 256;
/// Texts that are being spoken: the service behind them decides how long that takes.
const SPEECH: usize = 16;
/// An upload that stands still for longer gives way where there is no room for others.
const UPLOAD_PATIENCE: Duration = Duration::from_millis(250);
/// An answer that has waited for its reader for longer gives way where there is no room for others.
const UNREAD_PATIENCE: Duration = Duration::from_secs(2);

/// When those come back that were shed. What is done about a server under pressure lasts for a minute and more.
const SHED_RETRY_AFTER: Duration = Duration::from_secs(30);

impl Admission {
    /// A gate with so many places, which is open in some phases.
    #[must_use]
    pub fn new(limits: Limits, phase: watch::Receiver<Phase>) -> Self {
        let gate = |what, limit, patience| {
            Gate::new(Rules {
                what,
                limit,
                share_percent: limits.peer_share_percent,
                tenant_share_percent: limits.tenant_share_percent,
                patience,
            })
        };
        let n_requests = limits.max_requests();
        let n_unread = max_unread_sessions(limits.max_sessions);
        let (uploads, unsent) = (limits.max_upload_bytes, limits.max_unsent_bytes);
        Self {
            phase,
            requests: gate("too many requests at once", n_requests, None),
            sessions: gate("too many sessions", limits.max_sessions, None),
            unread_sessions: gate("too many sessions that nobody reads", n_unread, None),
            answers: Gate::new(Rules {
                what: "answers",
                limit: ANSWERS,
                share_percent: 100,
                tenant_share_percent: 100,
                patience: None,
            }),
            control: gate("too many calls at once", CONTROL, None),
            watches: gate("too many calls that watch", WATCHES, None),
            speech: gate("too many texts at once", SPEECH, None),
            uploads: Uploads(gate(TOO_MANY_UPLOADS, uploads, Some(UPLOAD_PATIENCE))),
            unsent: gate(
                "too many bytes of unread answers",
                unsent,
                Some(UNREAD_PATIENCE),
            ),
            rates: Arc::default(),
            talks: Arc::default(),
            residents: Arc::default(),
            n_rejected: AtomicU64::new(0),
            sheds_low: AtomicBool::new(false),
        }
    }

    /// Lets a caller in, now that nothing has to be waited for but the work itself.
    ///
    /// # Errors
    /// [`ServeError::Starting`], [`ServeError::Draining`], [`ServeError::Overloaded`], [`ServeError::OverQuota`].
    pub fn admit(&self, caller: &Caller, work: Work) -> Result<Admitted, ServeError> {
        let place = match work {
            Work::Batch => self.enter(&self.requests, caller, Quota::REQUESTS)?,
            Work::Session => self.enter(&self.sessions, caller, Quota::SESSIONS)?,
            Work::Load => {
                self.check_phase()?;
                return Ok(Admitted::default());
            }
            Work::Control => self.take(&self.control, caller, Quota::NONE, 1)?,
            Work::Watch => self.take(&self.watches, caller, Quota::NONE, 1)?,
            Work::Speech => self.enter(&self.speech, caller, Quota::REQUESTS)?,
        };
        let memory = match work {
            Work::Session => Some(self.enter(&self.unread_sessions, caller, Quota::UNREAD)?),
            _ => None,
        };
        let place = Some(place);
        Ok(Admitted { place, memory })
    }

    /// Unary calls that may be in progress.
    #[must_use]
    pub fn max_requests(&self) -> usize {
        self.requests.limit()
    }

    /// Has new calls and sessions of low priority refused from now on, or not any more. Those that there are go on.
    pub fn shed_low(&self, sheds: bool) {
        self.sheds_low.store(sheds, Ordering::Relaxed);
    }

    /// Refuses work of low priority while that is shed.
    ///
    /// # Errors
    /// [`ServeError::LowPriorityShed`].
    pub(crate) fn check_shed(&self, priority: Priority) -> Result<(), ServeError> {
        if priority != Priority::Low || !self.sheds_low.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.n_rejected.fetch_add(1, Ordering::Relaxed);
        Err(ServeError::LowPriorityShed {
            retry: SHED_RETRY_AFTER,
        })
    }

    /// Whether a caller would be let in now. A full server says so before it reads a message.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn expect(&self, caller: &Caller, work: Work) -> Result<(), ServeError> {
        let gates: &[(&Gate, Quota)] = match work {
            Work::Batch => &[(&self.requests, Quota::REQUESTS)],
            Work::Session => &[
                (&self.sessions, Quota::SESSIONS),
                (&self.unread_sessions, Quota::UNREAD),
            ],
            Work::Load => &[],
            Work::Speech => &[(&self.speech, Quota::REQUESTS)],
            // Whether there is room for those is known when they are answered.
            Work::Control | Work::Watch => return Ok(()),
        };
        self.check_phase()?;
        for (gate, quota) in gates {
            if let Some(lack) = gate.lack_of_one(&quota.party(caller)) {
                return Err(self.refuse(gate, caller, *quota, lack));
            }
        }
        Ok(())
    }

    /// Counts frames that a call asks for, before anything is computed for them.
    ///
    /// # Errors
    /// [`ServeError::OverQuota`], with the time at which there will be that many.
    pub(crate) fn charge(
        &self,
        caller: &Caller,
        n_frames: usize,
    ) -> Result<Option<Charge>, ServeError> {
        let Some(rate) = caller.rights.quotas.frames else {
            return Ok(None);
        };
        let charged = self.rates.charge(&caller.tenant, rate, n_frames);
        charged
            .map(Some)
            .map_err(|retry| self.refuse_frames(caller, rate, retry))
    }

    /// Books the frames a second of a session that is paced: nothing slows it down after that.
    ///
    /// # Errors
    /// [`ServeError::OverQuota`].
    pub(crate) fn book(&self, caller: &Caller, fps: Fps) -> Result<Option<Booking>, ServeError> {
        let Some(rate) = caller.rights.quotas.frames else {
            return Ok(None);
        };
        let booked = self.rates.book(&caller.tenant, rate, fps.get());
        // When another session ends nobody knows; one that is too fast for the rate can never open.
        let retry = (fps.get() <= rate.per_second).then_some(RETRY_AFTER);
        booked
            .map(Some)
            .map_err(|_booked_fps| self.refuse_frames(caller, rate, retry))
    }

    /// Counts frames of a session before they are made. One that is not paced waits here until they are due.
    pub(crate) async fn spend(&self, caller: &Caller, n_frames: usize, is_paced: bool) {
        let Some(rate) = caller.rights.quotas.frames else {
            return;
        };
        if !is_paced {
            loop {
                let wait = self.rates.wait(&caller.tenant, rate, n_frames);
                if wait.is_zero() {
                    break;
                }
                tokio::time::sleep(wait).await;
            }
        }
        self.rates.owe(&caller.tenant, rate, n_frames);
    }

    /// What a caller says in a call of many messages. `by_peer`: without tenants, addresses are told apart.
    #[must_use]
    pub fn talk(&self, caller: &Caller, by_peer: bool) -> Talk {
        let whose = caller.told_apart_as(by_peer);
        Talk::new(Arc::clone(&self.talks), whose, self.sessions.limit())
    }

    /// Which models tenants use.
    pub(crate) fn residents(&self) -> &Arc<Residents> {
        &self.residents
    }

    /// Counts a refusal that was not made here.
    pub fn count_refusal(&self) {
        self.n_rejected.fetch_add(1, Ordering::Relaxed);
    }

    fn refuse_frames(
        &self,
        caller: &Caller,
        rate: FrameRate,
        retry: Option<Duration>,
    ) -> ServeError {
        self.count_refusal();
        ServeError::OverQuota {
            tenant: caller.tenant.clone(),
            quota: FRAMES,
            limit: format!("{}, {} at once", rate.per_second, rate.burst),
            retry,
        }
    }

    /// Room for a message that is on its way in, which has to be made larger as it comes.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub fn admit_upload(&self, caller: &Caller) -> Result<Upload, ServeError> {
        let gate = &self.uploads.0;
        let ticket = self.take(gate, caller, Quota::WAITING, UPLOAD_BYTES)?;
        let limit = caller.rights.quotas.max_waiting_bytes;
        let caller = limit.map(|limit| (caller.tenant.clone(), limit));
        Ok(Upload::of(ticket, caller))
    }

    /// The pool of uploads, for what counts bytes by itself.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// The refusal of a message for which there is no room.
    pub fn refuse_upload(&self) -> ServeError {
        self.overloaded(&self.uploads.0)
    }

    /// The refusal of a message that is more than its tenant may have waiting.
    pub fn refuse_over_quota(&self, over: OverQuota) -> ServeError {
        self.count_refusal();
        over.into()
    }

    /// For an answer until it is written. The drain waits for it, but it holds no place.
    pub fn answer(&self) -> Option<Ticket> {
        self.answers.take(Peer::UNKNOWN, 1).ok()
    }

    /// Room for a unary answer of this many bytes, from before it is made until it is written.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub fn reserve(&self, caller: &Caller, n_bytes: u64) -> Result<Ticket, ServeError> {
        let n_bytes = usize_of(n_bytes);
        self.take(&self.unsent, caller, Quota::WAITING, n_bytes)
    }

    /// Makes a reservation as large as the answer has become.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`].
    pub fn resize(&self, caller: &Caller, room: &Ticket, n_bytes: usize) -> Result<(), ServeError> {
        let resized = room.resize(n_bytes);
        resized.map_err(|lack| self.refuse(&self.unsent, caller, Quota::WAITING, lack))
    }

    fn enter(&self, gate: &Arc<Gate>, caller: &Caller, quota: Quota) -> Result<Ticket, ServeError> {
        let ticket = gate.take(quota.party(caller), 1);
        // Looked at with the ticket in hand: whoever is let in before the drain begins is waited for.
        self.check_phase()?;
        ticket.map_err(|lack| self.refuse(gate, caller, quota, lack))
    }

    fn take(
        &self,
        gate: &Arc<Gate>,
        caller: &Caller,
        quota: Quota,
        n: usize,
    ) -> Result<Ticket, ServeError> {
        let ticket = gate.take(quota.party(caller), n);
        ticket.map_err(|lack| self.refuse(gate, caller, quota, lack))
    }

    /// Whether new work is taken at all.
    ///
    /// # Errors
    /// [`ServeError::Starting`], [`ServeError::Draining`].
    fn check_phase(&self) -> Result<(), ServeError> {
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
    pub async fn unless_draining<T>(
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

    fn refuse(&self, gate: &Gate, caller: &Caller, quota: Quota, lack: Lack) -> ServeError {
        let limit = (quota.limit)(&caller.rights.quotas);
        match (lack, limit) {
            (Lack::Quota, Some(limit)) => {
                self.count_refusal();
                ServeError::OverQuota {
                    tenant: caller.tenant.clone(),
                    quota: quota.key,
                    limit: (quota.in_words)(limit),
                    retry: Some(RETRY_AFTER),
                }
            }
            _ => self.overloaded(gate),
        }
    }

    fn overloaded(&self, gate: &Gate) -> ServeError {
        self.count_refusal();
        let rules = gate.rules();
        ServeError::Overloaded {
            what: rules.what,
            limit: gate.limit(),
            retry: RETRY_AFTER,
        }
    }

    /// Lets this many sessions be open at once from now on. Those that are open stay.
    pub fn set_max_sessions(&self, n: usize) {
        self.sessions.set_limit(n);
        self.unread_sessions.set_limit(max_unread_sessions(n));
    }

    /// Whether new work is refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }

    /// A view of the server's phase, for sessions.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
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

#[cfg(test)]
mod tests;
