//! The state that the parts of a session share (the reader of requests, the producer of frames, the
//! response stream and the watch), with its lock and its waiting.

use std::sync::{Arc, Mutex, MutexGuard};

use lipsync_core::sync::lock;
use lipsync_session::{
    Alive, Batch, Came, Next, Notice, Opened, Outgoing, Planned, Popped, SessionCounters, Warning,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use crate::{
    activity::Busy, admission::Admitted, coding::CodedFrame, due::Due, error::ServeError,
    gate::Ticket, phase::Phase, telemetry::SessionClock,
};

/// The state machine, with the server's pictures and errors.
pub(super) type Session = lipsync_session::Session<CodedFrame, ServeError>;

/// One live conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    state: Mutex<State>,
    /// Something for the producer: work, room, a clear, the end.
    for_producer: Notify,
    /// Something for the response stream.
    for_responses: Notify,
    due: Arc<Due>,
    _alive: Alive,
}

#[derive(Debug)]
struct State {
    /// `None` until the session is open.
    session: Option<Session>,
    clock: Option<SessionClock>,
    early_end: Option<ServeError>,
    activity: Activity,
    /// Given back when the session has failed or its response stream is gone, whichever is first: a
    /// client that does not read keeps its response stream until that is reset.
    place: Option<Ticket>,
    /// Given back with the response stream, which the transport keeps until it is read or reset.
    _memory: Option<Ticket>,
    _busy: Option<Busy>,
}

/// When things happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activity {
    /// Something came in, or something but an idle frame went out.
    pub(super) last: Instant,
    /// Since when the transport has not asked for more, if it has not.
    pub(super) unread_since: Option<Instant>,
}

impl Conversation {
    /// `due`: what the drain waits for.
    pub(super) fn new(counters: &SessionCounters, due: Arc<Due>) -> Self {
        let now = Instant::now();
        let state = State {
            session: None,
            clock: None,
            early_end: None,
            activity: Activity {
                last: now,
                unread_since: None,
            },
            place: None,
            _memory: None,
            _busy: None,
        };
        Self {
            state: Mutex::new(state),
            for_producer: Notify::new(),
            for_responses: Notify::new(),
            due,
            _alive: Alive::new(counters),
        }
    }

    /// Gives the session its place, which is lost again where it has ended already.
    pub(super) fn admit(&self, admitted: Admitted, busy: Option<Busy>) {
        let mut state = self.lock();
        state.place = admitted.place.filter(|_| state.early_end.is_none());
        state._memory = admitted.memory;
        state._busy = busy;
    }

    /// Begins: from now on there is a session, whose first message is `opened`.
    pub(super) fn open(&self, mut session: Session, clock: SessionClock, opened: Opened) {
        session.notify(Notice::Opened(opened));
        let mut state = self.lock();
        state.session = Some(session);
        state.clock = Some(clock);
        drop(state);
        self.for_responses.notify_one();
    }

    /// Audio of a segment came.
    pub(super) fn heard(&self, segment_id: u64) {
        if let Some(clock) = &mut self.lock().clock {
            clock.heard(segment_id, Instant::now());
        }
    }

    /// Changes the session because of something that the client sent.
    pub(super) fn receive(
        &self,
        change: impl FnOnce(&mut Session, std::time::Instant) -> Result<(), ServeError>,
    ) -> Result<(), ServeError> {
        let result = {
            let mut state = self.lock();
            let now = Instant::now();
            state.activity.last = now;
            match &mut state.session {
                Some(session) => change(session, now.into_std()),
                None => Err(ServeError::invalid(
                    "message",
                    "the first message must be open",
                )),
            }
        };
        self.for_producer.notify_one();
        self.for_responses.notify_one();
        result
    }

    /// The server takes nothing more: what was sent is finished, then the stream ends with `error`.
    ///
    /// # Errors
    /// `error` itself where nothing was begun that could be finished.
    pub(super) fn leave(&self, warning: Warning, error: ServeError) -> Result<(), ServeError> {
        match &mut self.lock().session {
            Some(session) => session.leave(warning, error, Instant::now().into_std()),
            None => return Err(error),
        }
        self.for_producer.notify_one();
        self.for_responses.notify_one();
        Ok(())
    }

    /// Ends the stream: after what is queued, or at once with an error.
    pub(super) fn end(&self, error: Option<ServeError>) {
        {
            let mut state = self.lock();
            if error.is_some() {
                state.place = None;
            }
            match &mut state.session {
                Some(session) => session.end(error),
                None => {
                    let error = error.unwrap_or(ServeError::Draining);
                    state.early_end.get_or_insert(error);
                }
            }
        }
        self.for_responses.notify_one();
        self.for_producer.notify_one();
    }

    /// Ends a session whose task has ended without doing so: it must have panicked.
    pub(super) fn end_if_open(&self) {
        let is_settled = {
            let state = self.lock();
            match &state.session {
                Some(session) => session.is_ending(),
                None => state.early_end.is_some(),
            }
        };
        if !is_settled {
            self.end(Some(ServeError::internal(
                "a task of the session ended early",
            )));
        }
    }

    /// The response stream is gone, or nobody waits for it.
    pub(super) fn release(&self) {
        self.lock().place = None;
    }

    /// Has a drain wait for the frames of this session, and for nothing else of it.
    pub(super) fn let_go(self: &Arc<Self>, phase: watch::Receiver<Phase>) {
        // What it says may be on its way when it is over.
        let (asked, released) = (Arc::downgrade(self), Arc::downgrade(self));
        self.due.let_go(
            phase,
            move || asked.upgrade().is_some_and(|session| session.owes_frames()),
            move || {
                if let Some(session) = released.upgrade() {
                    session.release();
                }
            },
        );
    }

    fn owes_frames(&self) -> bool {
        let state = self.lock();
        let session = state.session.as_ref();
        state.early_end.is_none() && session.is_some_and(Session::owes_frames)
    }

    /// Waits for something that the producer can do; [`Next::Wait`] is waited for here.
    pub(super) async fn next_task(&self) -> Next {
        loop {
            let changed = self.for_producer.notified();
            let next = match &mut self.lock().session {
                Some(session) => session.next_task(Instant::now().into_std()),
                None => Next::Wait(None),
            };
            // Looking for a task moves ends of segments into the outbox.
            self.for_responses.notify_one();
            match next {
                Next::Wait(None) => changed.await,
                Next::Wait(Some(until)) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(until.into()) => {}
                },
                next => return next,
            }
        }
    }

    /// Takes what audio has become.
    pub(super) fn plan(&self, planned: Vec<Planned>, came: Came) {
        if let Some(session) = &mut self.lock().session {
            session.plan(planned, came);
        }
    }

    /// Tells the client something.
    pub(super) fn warn(&self, warning: Warning) {
        if let Some(session) = &mut self.lock().session {
            session.warn(warning);
        }
        self.for_responses.notify_one();
    }

    /// Returns when a batch need not be made any more.
    pub(super) async fn interrupted(&self, batch: &Batch) {
        loop {
            let changed = self.for_producer.notified();
            if !self.wants(batch) {
                return;
            }
            changed.await;
        }
    }

    fn wants(&self, batch: &Batch) -> bool {
        let state = self.lock();
        let session = state.session.as_ref();
        session.is_some_and(|session| session.is_current(batch))
    }

    /// Takes the frames of a batch, which was begun at `began`.
    pub(super) fn commit(&self, batch: Batch, frames: Vec<CodedFrame>, began: Instant) {
        if let Some(session) = &mut self.lock().session {
            let now = Instant::now().into_std();
            session.commit(batch, frames, began.into_std(), now);
        }
        self.for_responses.notify_one();
    }

    /// Waits for the next message to send; `Err` ends the stream badly, `None` well.
    pub(super) async fn next_response(&self) -> Option<Result<Outgoing<CodedFrame>, ServeError>> {
        loop {
            let changed = self.for_responses.notified();
            match self.pop() {
                Popped::Message(message) => {
                    self.for_producer.notify_one();
                    return Some(Ok(message));
                }
                Popped::End(None) => return None,
                Popped::End(Some(error)) => return Some(Err(error)),
                Popped::Wait(None) => changed.await,
                Popped::Wait(Some(until)) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(until.into()) => {}
                },
            }
        }
    }

    fn pop(&self) -> Popped<CodedFrame, ServeError> {
        let state = &mut *self.lock();
        let now = Instant::now();
        if let Some(error) = state.early_end.take() {
            return Popped::End(Some(error));
        }
        let Some(session) = &mut state.session else {
            return Popped::Wait(None);
        };
        if let Some(since) = state.activity.unread_since {
            session.was_unread(now.saturating_duration_since(since));
        }
        let popped = session.pop(now.into_std());
        state.activity.unread_since = match &popped {
            Popped::Message(message) => {
                if let (Outgoing::Frame(frame), Some(clock)) = (message, &mut state.clock) {
                    clock.sent(frame.segment_id, now);
                }
                let is_idle = matches!(message, Outgoing::Frame(f) if f.audio_time_us.is_none());
                if !is_idle {
                    state.activity.last = now;
                }
                if !is_idle && matches!(message, Outgoing::Frame(_)) {
                    self.due.frame_leaves();
                }
                Some(now)
            }
            Popped::Wait(_) | Popped::End(_) => None,
        };
        popped
    }

    /// When things happened.
    pub(super) fn activity(&self) -> Activity {
        self.lock().activity
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so that a panic elsewhere does not spoil it.
        lock(&self.state)
    }
}

/// Ends a stream that has not been ended properly when its task does.
pub(super) struct EndOnDrop(pub(super) Arc<Conversation>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end_if_open();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admission::{Admission, Limits, Work},
        caller::Caller,
    };

    #[test]
    fn sessions_that_have_failed_and_are_not_read_are_bounded_too() {
        let limits = Limits {
            max_sessions: 1,
            ..Limits::ROOMY
        };
        let (_phase, seen) = watch::channel(Phase::Serving);
        let gate = Admission::new(limits, seen);
        let anybody = Caller::default();
        let fail = || {
            let conversation =
                Conversation::new(&SessionCounters::default(), Due::new(None).into());
            conversation.admit(gate.admit(&anybody, Work::Session)?, None);
            assert!(gate.admit(&anybody, Work::Session).is_err());
            conversation.end(Some(ServeError::DeadlineExceeded));
            Ok(conversation)
        };
        let unread: Vec<Conversation> = [fail(), fail()].into_iter().map(Result::unwrap).collect();
        assert_eq!(gate.n_sessions(), 0, "their places are free");
        assert!(matches!(fail(), Err(ServeError::Overloaded { .. })));
        drop(unread);
        assert!(fail().is_ok());
    }
}
