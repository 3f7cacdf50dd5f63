//! What was made and not yet sent: frames in order, and notices.
//!
//! Presentation times are given when a message leaves, not when it is made, so that frames dropped
//! by an interruption leave no hole. Pure bookkeeping.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use lipsync_core::{Fps, saturate::u64_of};

use crate::{
    Cleared, Frame, Notice, SegmentEnd, SessionFault, Warning,
    plan::{Planned, Slot},
    position::{InSegment, Position},
};

/// The outgoing queue of one session, with pictures `P` and ends `E`.
#[derive(Debug)]
pub(super) struct Outbox<P, E> {
    /// Leave before everything else: an answer to an interruption does not wait for frames.
    notices: VecDeque<Notice>,
    queue: VecDeque<Queued<P>>,
    fps: Fps,
    n_queued_frames: usize,
    n_sent: u64,
    last: Option<LastSent>,
    /// Where the walk is after the last frame sent, and what that showed.
    sent: Cursor,
    /// The segment of the last frame made of audio, until its end is sent or it is cleared.
    segment: Option<InSegment>,
    ending: Option<Ending<E>>,
    /// Why a session ends that would otherwise end well.
    farewell: Option<E>,
}

/// Warnings are dropped, and nothing is made, when so many notices wait.
const MAX_QUEUED_WARNINGS: usize = 256;
/// The answers to interruptions cannot be dropped: more of them end the session.
const MAX_QUEUED_NOTICES: usize = 1024;

/// Where the walk along the avatar's timeline goes on.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    /// Place of the next frame.
    pub(super) place: u64,
    /// What the frame before it showed.
    pub(super) look: Look,
}

/// What a frame shows, as far as the next one has to follow it.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// The part that the network has in it, of [`FULL`](super::fade::FULL).
    pub(super) weight: u8,
    /// The audio that it speaks, if it does.
    pub(super) window: Option<Arc<[f32]>>,
    /// It belongs to no segment.
    pub(super) is_idle: bool,
}

/// How a frame came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By the network.
    Spoken,
    /// A background frame in a segment's silence.
    Silent,
    /// A background frame because there was no time for the network.
    Skipped,
    /// Between segments.
    Idle,
}

/// A frame on its way out.
#[derive(Debug)]
pub(super) struct Made<P> {
    pub(super) frame: Frame<P>,
    pub(super) kind: Kind,
    pub(super) look: Look,
    /// What it was made of; `None` for idle frames.
    pub(super) slot: Option<Slot>,
}

#[derive(Debug)]
enum Queued<P> {
    Frame(Box<Made<P>>),
    End(SegmentEnd),
}

#[derive(Debug, Clone, Copy)]
struct LastSent {
    pts_us: u64,
    audio_time_us: Option<u64>,
}

#[derive(Debug)]
enum Ending<E> {
    /// After what is queued.
    Done(Option<E>),
    /// At once.
    Failed(E),
}

/// What can leave next.
#[derive(Debug)]
pub(super) enum Popped<P, E> {
    /// A notice, or the end of a segment.
    Notice(Notice),
    /// A frame, how it came about, and when its audio was there.
    Frame(Frame<P>, Kind, Option<Instant>),
    /// Nothing yet.
    Empty,
    /// The session ends, well or with a reason.
    End(Option<E>),
}

impl<P, E> Outbox<P, E> {
    /// An empty outbox that goes on from a position.
    pub(super) fn new(fps: Fps, start: &Position) -> Self {
        let look = Look {
            weight: start.weight,
            window: None,
            is_idle: start.is_idle,
        };
        let last_audio = start.segment.filter(|_| !start.is_idle);
        Self {
            notices: VecDeque::new(),
            queue: VecDeque::new(),
            fps,
            n_queued_frames: 0,
            n_sent: start.n_frames,
            last: start.n_frames.checked_sub(1).map(|n| LastSent {
                pts_us: fps.pts_us(n),
                audio_time_us: last_audio
                    .and_then(|segment| Some(fps.pts_us(segment.n_frames.checked_sub(1)?))),
            }),
            sent: Cursor {
                place: start.place,
                look,
            },
            segment: start.segment,
            ending: None,
            farewell: None,
        }
    }

    /// Queues a frame; it has the cursor's place.
    pub(super) fn push_frame(&mut self, made: Made<P>) {
        self.n_queued_frames += 1;
        self.queue.push_back(Queued::Frame(Box::new(made)));
    }

    /// Queues the end of a segment behind its frames.
    pub(super) fn push_end(&mut self, end: SegmentEnd) {
        self.queue.push_back(Queued::End(end));
    }

    /// Queues a notice before all frames.
    pub(super) fn notify(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    /// Queues a warning, unless a client that does not read has many waiting already.
    pub(super) fn warn(&mut self, warning: Warning) {
        if self.n_notices() < MAX_QUEUED_WARNINGS {
            self.notices.push_back(Notice::Warning(warning));
        }
    }

    /// Drops the unsent frames for which `is_cleared` holds, and says what was sent last.
    ///
    /// Gives back what lay behind them and stays wanted, in order: it was made for places on the
    /// timeline that it does not have any more.
    ///
    /// # Errors
    /// [`SessionFault::TooManyMessages`] to a client that interrupts for ever and never reads.
    pub(super) fn clear(
        &mut self,
        segment_id: Option<u64>,
        is_cleared: impl Fn(u64) -> bool,
    ) -> Result<Vec<Planned>, SessionFault> {
        let is_dropped = |queued: &Queued<P>| is_cleared(queued.segment_id());
        let first_dropped = self
            .queue
            .iter()
            .position(|queued| matches!(queued, Queued::Frame(_)) && is_dropped(queued));
        let behind = self
            .queue
            .split_off(first_dropped.unwrap_or(self.queue.len()));
        self.queue.retain(|queued| !is_dropped(queued));
        self.segment
            .take_if(|segment| is_cleared(segment.segment_id));
        let is_frame = |queued: &&Queued<P>| matches!(queued, Queued::Frame(_));
        self.n_queued_frames = self.queue.iter().filter(is_frame).count();
        let displaced = behind.into_iter().filter(|queued| !is_dropped(queued));
        let displaced = displaced.filter_map(Queued::into_planned).collect();
        self.notices.push_back(Notice::Cleared(Cleared {
            segment_id,
            last_pts_us: self.last.map(|l| l.pts_us),
            last_audio_time_us: self.last.and_then(|l| l.audio_time_us),
        }));
        if self.n_notices() > MAX_QUEUED_NOTICES {
            return Err(SessionFault::TooManyMessages {
                what: "answers",
                limit: MAX_QUEUED_NOTICES,
            });
        }
        Ok(displaced)
    }

    /// The next message; a frame is stamped with its time.
    pub(super) fn pop(&mut self) -> Popped<P, E> {
        if let Some(notice) = self.notices.pop_front() {
            return Popped::Notice(notice);
        }
        match self.queue.pop_front() {
            Some(Queued::End(end)) => {
                self.segment
                    .take_if(|segment| segment.segment_id == end.segment_id);
                Popped::Notice(Notice::SegmentEnd(end))
            }
            Some(Queued::Frame(made)) => self.send(*made),
            None => match self.ending.take() {
                None => Popped::Empty,
                Some(Ending::Done(farewell)) => Popped::End(farewell),
                Some(Ending::Failed(error)) => Popped::End(Some(error)),
            },
        }
    }

    fn send(&mut self, made: Made<P>) -> Popped<P, E> {
        let mut frame = made.frame;
        frame.pts_us = self.fps.pts_us(self.n_sent);
        self.n_sent += 1;
        self.n_queued_frames -= 1;
        self.last = Some(LastSent {
            pts_us: frame.pts_us,
            audio_time_us: frame.audio_time_us,
        });
        self.sent = Cursor {
            place: frame.place + 1,
            look: made.look,
        };
        if let Some(slot) = &made.slot {
            self.segment = Some(InSegment {
                segment_id: slot.segment_id,
                n_frames: slot.n + 1,
                mark: slot.mark,
            });
        }
        frame.position = self.position();
        Popped::Frame(frame, made.kind, made.slot.and_then(|slot| slot.heard))
    }

    /// Where the session is after what was sent.
    fn position(&self) -> Position {
        Position {
            n_frames: self.n_sent,
            place: self.sent.place,
            weight: self.sent.look.weight,
            is_idle: self.sent.look.is_idle,
            segment: self.segment,
        }
    }

    /// Whether a frame waits for which `is_cleared` holds.
    pub(super) fn has_frame(&self, is_cleared: impl Fn(u64) -> bool) -> bool {
        let is_frame = |queued: &Queued<P>| matches!(queued, Queued::Frame(_));
        let mut queue = self.queue.iter();
        queue.any(|queued| is_frame(queued) && is_cleared(queued.segment_id()))
    }

    /// Whether a frame waits that was made of audio.
    pub(super) fn owes_frames(&self) -> bool {
        let of_audio =
            |queued: &Queued<P>| matches!(queued, Queued::Frame(made) if made.slot.is_some());
        self.queue.iter().any(of_audio)
    }

    /// Whether the next message is a frame.
    pub(super) fn next_is_frame(&self) -> bool {
        self.notices.is_empty() && matches!(self.queue.front(), Some(Queued::Frame(_)))
    }

    /// Nothing more will be queued: the session ends after what is.
    pub(super) fn finish(&mut self, error: Option<E>) {
        if matches!(self.ending, Some(Ending::Failed(_))) {
            return;
        }
        match error {
            None if self.ending.is_some() => {}
            None => self.ending = Some(Ending::Done(self.farewell.take())),
            Some(error) => {
                // At once and not when the end is sent: that may be never, if the client does not read.
                self.notices = VecDeque::new();
                self.queue = VecDeque::new();
                self.n_queued_frames = 0;
                self.ending = Some(Ending::Failed(error));
            }
        }
    }

    /// When the session comes to a good end, it ends with this reason after all that was queued.
    pub(super) fn set_farewell(&mut self, error: E) {
        self.farewell = Some(error);
    }

    /// Whether the session's end is settled.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether `n_frames` more may be made: `max_frames` frames may wait.
    pub(super) fn has_room(&self, n_frames: usize, max_frames: usize) -> bool {
        self.n_queued_frames.saturating_add(n_frames) <= max_frames
            && self.n_notices() < MAX_QUEUED_WARNINGS
    }

    fn n_notices(&self) -> usize {
        self.notices.len() + self.queue.len() - self.n_queued_frames
    }

    /// Where the frame to be made next belongs.
    pub(super) fn cursor(&self) -> Cursor {
        let last = self.queue.iter().rev().find_map(|queued| match queued {
            Queued::Frame(made) => Some(made),
            Queued::End(_) => None,
        });
        last.map_or_else(
            || self.sent.clone(),
            |made| Cursor {
                place: made.frame.place + 1,
                look: made.look.clone(),
            },
        )
    }

    /// Frames sent so far: the number of the next one to leave.
    pub(super) fn n_sent(&self) -> u64 {
        self.n_sent
    }

    /// The number that the frame to be made next will leave with.
    pub(super) fn next_number(&self) -> u64 {
        self.n_sent + u64_of(self.n_queued_frames)
    }
}

impl<P> Queued<P> {
    /// 0 for idle frames, which no interruption is about.
    fn segment_id(&self) -> u64 {
        match self {
            Self::Frame(made) => made.frame.segment_id,
            Self::End(end) => end.segment_id,
        }
    }

    fn into_planned(self) -> Option<Planned> {
        match self {
            Self::Frame(made) => made.slot.map(Planned::Frame),
            Self::End(end) => Some(Planned::End(end)),
        }
    }
}
