//! What was made and not yet sent: frames and notices in order.
//!
//! Presentation times are given when a message leaves, not when it is made, so that frames dropped
//! by an interruption leave no hole. Pure bookkeeping under the conversation's lock.

use std::collections::VecDeque;

use lipsync::v1::{self, stream_composite_response::Message};
use lipsync_core::pts_us;

use crate::error::ServeError;

/// The outgoing queue of one conversation.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<Message>,
    fps: u32,
    n_queued_frames: usize,
    n_sent: u64,
    last: Option<LastSent>,
    /// Place on the timeline of the frame that will be made next.
    next_index: u64,
    ending: Option<Ending>,
    /// Why a stream ends that would otherwise end well.
    farewell: Option<ServeError>,
}

/// Warnings are dropped, and nothing is made, when so many notices wait.
const MAX_QUEUED_WARNINGS: usize = 256;
/// The answers to interruptions cannot be dropped: more of them end the session.
const MAX_QUEUED_NOTICES: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct LastSent {
    pts_us: u64,
    audio_time_us: Option<u64>,
    frame_index: u64,
}

#[derive(Debug)]
enum Ending {
    /// After what is queued.
    Done(Option<ServeError>),
    /// At once.
    Failed(ServeError),
}

/// What the response stream gets.
#[derive(Debug)]
pub(super) enum Popped {
    /// To be sent now.
    Message(Message),
    /// Nothing yet.
    Empty,
    /// The stream ends, well or with a status.
    End(Option<ServeError>),
}

impl Outbox {
    /// An empty outbox whose first frame has the given place on the timeline.
    pub(super) fn new(fps: u32, start_frame_index: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            fps,
            n_queued_frames: 0,
            n_sent: 0,
            last: None,
            next_index: start_frame_index,
            ending: None,
            farewell: None,
        }
    }

    /// Queues a frame.
    pub(super) fn push_frame(&mut self, frame: v1::CompositedFrame) {
        self.next_index = frame.frame_index + 1;
        self.n_queued_frames += 1;
        self.queue.push_back(Message::Frame(frame));
    }

    /// Queues a notice.
    pub(super) fn push(&mut self, message: Message) {
        self.queue.push_back(message);
    }

    /// Queues a warning, unless a client that does not read has many waiting already.
    pub(super) fn warn(&mut self, warning: v1::Warning) {
        if self.n_notices() < MAX_QUEUED_WARNINGS {
            self.queue.push_back(Message::Warning(warning));
        }
    }

    /// Drops the unsent frames for which `is_cleared` holds, and says what was sent last.
    ///
    /// # Errors
    /// [`ServeError::TooManyMessages`] to a client that interrupts for ever and never reads.
    pub(super) fn clear(
        &mut self,
        segment_id: Option<u64>,
        is_cleared: impl Fn(u64) -> bool,
    ) -> Result<(), ServeError> {
        let first_dropped = self.queue.iter().find_map(|message| match message {
            Message::Frame(f) if is_cleared(f.segment_id) => Some(f.frame_index),
            _ => None,
        });
        self.queue.retain(|message| match message {
            Message::Frame(frame) => !is_cleared(frame.segment_id),
            Message::SegmentEnd(end) => !is_cleared(end.segment_id),
            _ => true,
        });
        self.n_queued_frames = self
            .queue
            .iter()
            .filter(|m| matches!(m, Message::Frame(_)))
            .count();
        // The walk goes on where the viewer last saw it.
        let last_queued = self.queue.iter().rev().find_map(|message| match message {
            Message::Frame(frame) => Some(frame.frame_index),
            _ => None,
        });
        if let Some(dropped) = first_dropped {
            let last = last_queued.or(self.last.map(|l| l.frame_index));
            self.next_index = last.map_or(dropped, |l| l + 1);
        }
        self.queue.push_back(Message::Cleared(v1::Cleared {
            segment_id,
            last_pts_us: self.last.map(|l| l.pts_us),
            last_audio_time_us: self.last.and_then(|l| l.audio_time_us),
        }));
        if self.n_notices() > MAX_QUEUED_NOTICES {
            return Err(ServeError::TooManyMessages {
                what: "answers",
                limit: MAX_QUEUED_NOTICES,
            });
        }
        Ok(())
    }

    /// The next message, stamped with its time.
    pub(super) fn pop(&mut self) -> Popped {
        let Some(mut message) = self.queue.pop_front() else {
            return match self.ending.take() {
                None => Popped::Empty,
                Some(Ending::Done(farewell)) => Popped::End(farewell),
                Some(Ending::Failed(error)) => Popped::End(Some(error)),
            };
        };
        if let Message::Frame(frame) = &mut message {
            frame.pts_us = pts_us(self.n_sent, self.fps);
            self.n_sent += 1;
            self.n_queued_frames -= 1;
            self.last = Some(LastSent {
                pts_us: frame.pts_us,
                audio_time_us: frame.audio_time_us,
                frame_index: frame.frame_index,
            });
        }
        Popped::Message(message)
    }

    /// Nothing more will be queued: the stream ends after what is.
    pub(super) fn finish(&mut self, error: Option<ServeError>) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(match error {
            None => Ending::Done(self.farewell.take()),
            Some(error) => {
                // At once and not when the end is sent: that may be never, if the client does not read.
                self.queue = VecDeque::new();
                self.n_queued_frames = 0;
                Ending::Failed(error)
            }
        });
    }

    /// When the stream comes to a good end, it ends with this status after all that was queued.
    pub(super) fn set_farewell(&mut self, error: ServeError) {
        self.farewell = Some(error);
    }

    /// Whether the stream's end is settled.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether more may be made: `max_frames` frames may wait.
    pub(super) fn has_room(&self, max_frames: usize) -> bool {
        self.n_queued_frames < max_frames && self.n_notices() < MAX_QUEUED_WARNINGS
    }

    fn n_notices(&self) -> usize {
        self.queue.len() - self.n_queued_frames
    }

    /// Place on the timeline of the frame to be made next.
    pub(super) fn next_index(&self) -> u64 {
        self.next_index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(segment_id: u64, frame_index: u64) -> v1::CompositedFrame {
        v1::CompositedFrame {
            segment_id,
            frame_index,
            ..Default::default()
        }
    }

    fn sent(outbox: &mut Outbox) -> Vec<(u64, u64, u64)> {
        let mut all = Vec::new();
        while let Popped::Message(message) = outbox.pop() {
            if let Message::Frame(f) = message {
                all.push((f.segment_id, f.frame_index, f.pts_us));
            }
        }
        all
    }

    #[test]
    fn dropped_frames_leave_no_hole_in_time_or_walk() {
        let mut outbox = Outbox::new(25, 100);
        for i in 100..105 {
            outbox.push_frame(frame(1, i));
        }
        assert!(matches!(outbox.pop(), Popped::Message(Message::Frame(_))));
        assert!(matches!(outbox.pop(), Popped::Message(Message::Frame(_))));
        outbox.clear(Some(1), |id| id == 1).unwrap();
        let Popped::Message(Message::Cleared(cleared)) = outbox.pop() else {
            panic!()
        };
        assert_eq!(cleared.last_pts_us, Some(40_000));
        assert_eq!(outbox.next_index(), 102);
        outbox.push_frame(frame(2, outbox.next_index()));
        assert_eq!(sent(&mut outbox), [(2, 102, 80_000)]);
    }

    #[test]
    fn clearing_before_anything_was_sent_starts_over() {
        let mut outbox = Outbox::new(25, 7);
        outbox.push_frame(frame(1, 7));
        outbox.clear(None, |_| true).unwrap();
        assert_eq!(outbox.next_index(), 7);
        assert_eq!(outbox.n_queued_frames, 0);
        let Popped::Message(Message::Cleared(cleared)) = outbox.pop() else {
            panic!()
        };
        assert_eq!(cleared.last_pts_us, None);
    }

    #[test]
    fn a_failure_ends_the_stream_at_once() {
        let mut outbox = Outbox::new(25, 0);
        outbox.push_frame(frame(1, 0));
        outbox.finish(Some(ServeError::Draining));
        assert!(matches!(
            outbox.pop(),
            Popped::End(Some(ServeError::Draining))
        ));
    }

    #[test]
    fn a_good_end_comes_after_what_is_queued() {
        let mut outbox = Outbox::new(25, 0);
        outbox.push_frame(frame(1, 0));
        outbox.finish(None);
        assert_eq!(sent(&mut outbox), [(1, 0, 0)]);
    }

    #[test]
    fn notices_to_a_client_that_does_not_read_are_bounded() {
        let mut outbox = Outbox::new(25, 0);
        for _ in 0..10_000 {
            outbox.warn(v1::Warning::default());
        }
        assert_eq!(outbox.queue.len(), MAX_QUEUED_WARNINGS);
        assert!(!outbox.has_room(1));
        let refused = (0..10_000).find_map(|_| outbox.clear(None, |_| true).err());
        assert!(matches!(refused, Some(ServeError::TooManyMessages { .. })));
        assert!(outbox.queue.len() <= MAX_QUEUED_NOTICES + 1);
        outbox.finish(refused);
        assert!(outbox.queue.is_empty(), "memory is given back at once");
    }
}
