//! The state that the three parts of a session share: the reader of requests, the producer of
//! frames and the response stream.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use lipsync::v1::{self, stream_composite_response::Message};
use tokio::sync::Notify;

use super::{
    inbox::{Inbox, Pushed, Work},
    outbox::{Outbox, Popped},
};
use crate::{admission::Ticket, error::ServeError};

/// One live conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    state: Mutex<State>,
    /// Something for the producer: work, room, a clear, the end.
    for_producer: Notify,
    /// Something for the response stream.
    for_responses: Notify,
}

#[derive(Debug)]
struct State {
    /// `None` until the session is open.
    open: Option<Open>,
    early_end: Option<ServeError>,
    last_activity: Instant,
    /// Given back when the session has failed or its response stream is gone, whichever is first: a
    /// client that never reads keeps its response stream for as long as it likes.
    ticket: Option<Ticket>,
}

#[derive(Debug)]
struct Open {
    inbox: Inbox,
    outbox: Outbox,
    max_queued_frames: usize,
}

/// What the producer should do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Work on this.
    Work(Work),
    /// Everything is done.
    Exhausted,
}

impl Conversation {
    pub(super) fn new(ticket: Ticket) -> Self {
        let state = State {
            open: None,
            early_end: None,
            last_activity: Instant::now(),
            ticket: Some(ticket),
        };
        Self {
            state: Mutex::new(state),
            for_producer: Notify::new(),
            for_responses: Notify::new(),
        }
    }

    /// Begins: from now on there is an inbox and an outbox, whose first message is `opened`.
    pub(super) fn open(
        &self,
        inbox: Inbox,
        mut outbox: Outbox,
        max_queued_frames: usize,
        opened: v1::Opened,
    ) {
        outbox.push(Message::Opened(opened));
        self.lock().open = Some(Open {
            inbox,
            outbox,
            max_queued_frames,
        });
        self.for_responses.notify_one();
    }

    /// Takes audio; audio of a cleared segment is answered with a warning.
    pub(super) fn push_audio(&self, segment_id: u64, data: &[u8]) -> Result<(), ServeError> {
        self.with_open(|open| {
            if open.inbox.push_audio(segment_id, data)? == Pushed::Discarded {
                open.outbox.warn(v1::Warning {
                    code: "audio_discarded".into(),
                    text: format!("segment {segment_id} was cleared; its audio is dropped"),
                });
            }
            Ok(())
        })
    }

    /// Ends a segment.
    pub(super) fn end_segment(&self, segment_id: u64) -> Result<(), ServeError> {
        self.with_open(|open| open.inbox.end_segment(segment_id))
    }

    /// Interrupts: one segment, or everything.
    pub(super) fn clear(&self, segment_id: Option<u64>) -> Result<(), ServeError> {
        self.with_open(|open| {
            open.inbox.clear(segment_id);
            let Open { inbox, outbox, .. } = open;
            outbox.clear(segment_id, |id| inbox.is_cleared(id))
        })
    }

    /// The client sends nothing more.
    pub(super) fn finish_input(&self) {
        // Before `open` there is nothing to finish; the reader reports that case itself.
        let _unopened = self.with_open(|open| {
            open.inbox.finish();
            Ok(())
        });
    }

    /// The server takes nothing more: what was sent is finished, then the stream ends with `error`.
    pub(super) fn take_leave(&self, error: ServeError) {
        // Before `open` there is nothing to finish; the reader reports that case itself.
        let _unopened = self.with_open(|open| {
            open.inbox.finish();
            open.outbox.set_farewell(error);
            Ok(())
        });
    }

    /// Ends the stream: after what is queued, or at once with an error.
    pub(super) fn end(&self, error: Option<ServeError>) {
        {
            let mut state = self.lock();
            if error.is_some() {
                state.ticket = None;
            }
            match &mut state.open {
                Some(open) => open.outbox.finish(error),
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
            match &state.open {
                Some(open) => open.outbox.is_ending(),
                None => state.early_end.is_some(),
            }
        };
        if !is_settled {
            self.end(Some(ServeError::internal(
                "a task of the session ended early",
            )));
        }
    }

    /// The response stream is gone.
    pub(super) fn release(&self) {
        self.lock().ticket = None;
    }

    /// Waits for work.
    pub(super) async fn next_work(&self) -> Next {
        loop {
            let changed = self.for_producer.notified();
            if let Some(open) = &mut self.lock().open {
                if open.outbox.is_ending() {
                    return Next::Exhausted;
                }
                if let Some(work) = open.inbox.pop() {
                    return Next::Work(work);
                }
                if open.inbox.is_exhausted() {
                    return Next::Exhausted;
                }
            }
            changed.await;
        }
    }

    /// Waits until the outbox has room, and gives the place of the next frame on the timeline; `None`
    /// when the segment was cleared meanwhile.
    pub(super) async fn room_for(&self, segment_id: u64) -> Option<u64> {
        loop {
            let changed = self.for_producer.notified();
            if let Some(open) = &self.lock().open {
                if open.inbox.is_cleared(segment_id) || open.outbox.is_ending() {
                    return None;
                }
                if open.outbox.has_room(open.max_queued_frames) {
                    return Some(open.outbox.next_index());
                }
            }
            changed.await;
        }
    }

    /// Returns when the segment is cleared or the session ends.
    pub(super) async fn interrupted(&self, segment_id: u64) {
        loop {
            let changed = self.for_producer.notified();
            if self.is_interrupted(segment_id) {
                return;
            }
            changed.await;
        }
    }

    /// Whether frames of the segment are not wanted any more.
    pub(super) fn is_interrupted(&self, segment_id: u64) -> bool {
        let state = self.lock();
        state
            .open
            .as_ref()
            .is_none_or(|open| open.inbox.is_cleared(segment_id) || open.outbox.is_ending())
    }

    /// Queues a message of a segment unless the segment has been cleared, as one step.
    pub(super) fn push_unless_cleared(&self, segment_id: u64, message: Message) {
        {
            let mut state = self.lock();
            let Some(open) = &mut state.open else { return };
            if open.inbox.is_cleared(segment_id) || open.outbox.is_ending() {
                return;
            }
            match message {
                Message::Frame(frame) => open.outbox.push_frame(frame),
                other => open.outbox.push(other),
            }
        }
        self.for_responses.notify_one();
    }

    /// Waits for the next message to send; `Err` ends the stream badly, `None` well.
    pub(super) async fn next_response(&self) -> Option<Result<Message, ServeError>> {
        loop {
            let changed = self.for_responses.notified();
            match self.pop_response() {
                Popped::Message(message) => {
                    self.for_producer.notify_one();
                    return Some(Ok(message));
                }
                Popped::End(None) => return None,
                Popped::End(Some(error)) => return Some(Err(error)),
                Popped::Empty => changed.await,
            }
        }
    }

    fn pop_response(&self) -> Popped {
        let mut state = self.lock();
        if let Some(error) = state.early_end.take() {
            return Popped::End(Some(error));
        }
        let Some(open) = &mut state.open else {
            return Popped::Empty;
        };
        let popped = open.outbox.pop();
        if matches!(popped, Popped::Message(_)) {
            state.last_activity = Instant::now();
        }
        popped
    }

    /// When something last came in or went out.
    pub(super) fn last_activity(&self) -> Instant {
        self.lock().last_activity
    }

    fn with_open(
        &self,
        change: impl FnOnce(&mut Open) -> Result<(), ServeError>,
    ) -> Result<(), ServeError> {
        let result = {
            let mut state = self.lock();
            state.last_activity = Instant::now();
            match &mut state.open {
                Some(open) => change(open),
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so that a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
