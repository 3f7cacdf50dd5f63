//! What a client has sent and nobody has worked on yet: segments in order, their audio, their ends.
//!
//! Pure bookkeeping; no I/O, no waiting.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{Intake, SessionFault, Warning, WholeItems};
use lipsync_core::saturate::{u32_of, usize_of};

/// What to do next, in the order in which it was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    /// Audio of a segment, at most a second of it.
    Audio {
        /// Which one.
        segment_id: u64,
        /// Whole items.
        data: Bytes,
        /// When they came.
        came: Came,
    },
    /// A segment has no more audio.
    End {
        /// Which one.
        segment_id: u64,
        /// When that was said.
        came: Came,
    },
}

/// When something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// The first of it.
    pub began: Instant,
    /// All of it.
    pub whole: Instant,
}

impl Came {
    /// At once.
    pub(super) fn at(now: Instant) -> Self {
        Self {
            began: now,
            whole: now,
        }
    }

    /// When part `n` of `n_parts` was there, if they came evenly.
    pub(super) fn part(&self, n: usize, n_parts: usize) -> Instant {
        let took = self.whole.saturating_duration_since(self.began);
        self.began + took / u32_of(n_parts).max(1) * u32_of(n + 1)
    }
}

/// Whether audio was kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits for its turn.
    Queued,
    /// Its segment was cleared; it is gone.
    Cleared,
    /// Nothing more is taken; it is gone.
    TooLate,
}

/// The queue of one session, whose audio goes through an intake that refuses what is none with an `E`.
///
/// Audio is copied into blocks of up to a second: what waits takes the memory that it is counted
/// with, however small the chunks and however large the messages that they came in.
#[derive(Debug)]
pub struct Inbox<E> {
    queue: VecDeque<Queued>,
    /// Of those, ends of segments.
    n_ends: usize,
    n_bytes: usize,
    max_bytes: usize,
    block_bytes: usize,
    limit_s: u32,
    newest: u64,
    newest_is_open: bool,
    /// Every segment up to this one was cleared.
    cleared_to: u64,
    /// Segments above `cleared_to` that were cleared one by one.
    cleared: BTreeSet<u64>,
    /// The segment that was worked on last: more may yet come of what was taken out.
    taken: u64,
    is_finished: bool,
    /// What the audio of the newest segment goes through first.
    intake: Box<dyn Intake<E>>,
}

#[derive(Debug)]
enum Queued {
    Audio {
        segment_id: u64,
        data: Vec<u8>,
        came: Came,
    },
    End {
        segment_id: u64,
        came: Came,
    },
}

/// Clearing single segments for ever must not fill memory. The oldest of more that have begun are
/// forgotten: late audio for one of those is an error like that for any other old segment. Those to come
/// cannot be forgotten: more of them are refused.
const MAX_SINGLE_CLEARS: usize = 1024;
/// Segments that may wait: without audio they take no bytes of the limit.
const MAX_QUEUED_SEGMENTS: usize = 1024;
/// Audio of less than this part of a second is a crumb, 5 ms.
const CRUMBS_PER_SECOND: usize = 200;
/// So long a crumb waits for more: each piece that is worked on costs a turn at the cores, however short it is.
const CRUMB_PATIENCE: Duration = Duration::from_millis(5);

impl<E: From<SessionFault>> Inbox<E> {
    /// An empty inbox that holds at most `limit_s` seconds of audio, `second_bytes` each.
    #[must_use]
    pub fn new(second_bytes: usize, limit_s: u32) -> Self {
        let n_s = usize_of(limit_s);
        Self {
            queue: VecDeque::new(),
            n_ends: 0,
            n_bytes: 0,
            max_bytes: second_bytes.saturating_mul(n_s),
            block_bytes: second_bytes.max(1),
            limit_s,
            newest: 0,
            newest_is_open: false,
            cleared_to: 0,
            cleared: BTreeSet::new(),
            taken: 0,
            is_finished: false,
            intake: Box::new(WholeItems),
        }
    }

    /// With an intake for samples, which may then be cut anywhere.
    #[must_use]
    pub fn with_intake(self, intake: Box<dyn Intake<E>>) -> Self {
        Self { intake, ..self }
    }

    /// Takes audio for a segment, in whole items unless there is an intake; a new id ends the segment
    /// before.
    pub(super) fn push_audio(
        &mut self,
        segment_id: u64,
        data: &[u8],
        now: Instant,
    ) -> Result<Pushed, E> {
        if segment_id == 0 {
            return Err(
                SessionFault::invalid("audio.segment_id", "expected at least 1, found 0").into(),
            );
        }
        if self.is_cleared(segment_id) {
            return Ok(Pushed::Cleared);
        }
        if self.is_finished {
            return Ok(Pushed::TooLate);
        }
        let reopens =
            segment_id < self.newest || (segment_id == self.newest && !self.newest_is_open);
        if reopens {
            return Err(SessionFault::invalid(
                "audio.segment_id",
                format!(
                    "ids strictly increase and are never reused: {segment_id} came after the end of it or of a later one ({})",
                    self.newest
                ),
            )
            .into());
        }
        let n_bytes = self.intake.n_held() + data.len();
        if n_bytes > self.max_bytes.saturating_sub(self.n_bytes) {
            return Err(SessionFault::TooMuchAudio {
                limit_s: self.limit_s,
            }
            .into());
        }
        if segment_id > self.newest {
            self.begin(segment_id, now)?;
        }
        let whole = self.intake.push(data)?;
        self.append(segment_id, &whole, now);
        Ok(Pushed::Queued)
    }

    /// What the client should know about its audio.
    pub(super) fn take_warnings(&mut self) -> Vec<Warning> {
        self.intake.take_warnings()
    }

    fn begin(&mut self, segment_id: u64, now: Instant) -> Result<(), SessionFault> {
        if self.n_ends >= MAX_QUEUED_SEGMENTS {
            return Err(SessionFault::TooManyMessages {
                what: "segments",
                limit: MAX_QUEUED_SEGMENTS,
            });
        }
        self.end_newest(now);
        self.newest = segment_id;
        self.newest_is_open = true;
        // Even without audio it is worked on, so that its end is told.
        let data = Vec::new();
        self.queue.push_back(Queued::Audio {
            segment_id,
            data,
            came: Came::at(now),
        });
        Ok(())
    }

    /// Appends to the last block while that has room.
    fn append(&mut self, segment_id: u64, mut data: &[u8], now: Instant) {
        self.n_bytes += data.len();
        if let Some(Queued::Audio {
            segment_id: last_id,
            data: last,
            came,
        }) = self.queue.back_mut()
            && *last_id == segment_id
        {
            let room = self.block_bytes.saturating_sub(last.len());
            let (fits, rest) = data.split_at(room.min(data.len()));
            if last.is_empty() {
                came.began = now;
            }
            if !fits.is_empty() {
                came.whole = now;
            }
            last.extend_from_slice(fits);
            data = rest;
        }
        for block in data.chunks(self.block_bytes) {
            self.queue.push_back(Queued::Audio {
                segment_id,
                data: block.to_vec(),
                came: Came::at(now),
            });
        }
    }

    /// Ends a segment; ending an ended or cleared one again changes nothing. One that was never begun had nothing to say: it is
    /// begun and ended without a frame, so that who ends what he has not spoken is told as for any other.
    ///
    /// # Errors
    /// [`SessionFault::TooManyMessages`] where too many segments wait.
    pub(super) fn end_segment(
        &mut self,
        segment_id: u64,
        now: Instant,
    ) -> Result<(), SessionFault> {
        if segment_id > self.newest && !self.is_cleared(segment_id) && !self.is_finished {
            self.begin(segment_id, now)?;
        }
        if segment_id == self.newest {
            self.end_newest(now);
        }
        Ok(())
    }

    /// Drops what is queued for one segment, or for all that were begun so far; says whether there was
    /// any.
    ///
    /// # Errors
    /// [`SessionFault::TooManyMessages`] where too many segments are cleared before they begin.
    pub(super) fn clear(&mut self, segment_id: Option<u64>) -> Result<bool, SessionFault> {
        match segment_id {
            None => Ok(self.clear_all()),
            Some(id) => self.clear_one(id),
        }
    }

    /// Drops what is queued, and all segments that were begun so far; says whether anything was queued.
    pub(super) fn clear_all(&mut self) -> bool {
        let was_queued = !self.queue.is_empty();
        self.queue.clear();
        (self.n_bytes, self.n_ends) = (0, 0);
        self.intake.clear();
        self.cleared_to = self.newest;
        self.newest_is_open = false;
        // Segments that were cleared before they began stay so.
        self.cleared = self.cleared.split_off(&self.newest.saturating_add(1));
        was_queued
    }

    fn clear_one(&mut self, id: u64) -> Result<bool, SessionFault> {
        if !self.is_cleared(id) {
            self.remember_clear(id)?;
        }
        let n_queued = self.queue.len();
        self.queue.retain(|queued| queued.segment_id() != id);
        self.n_bytes = self.queue.iter().map(Queued::n_bytes).sum();
        self.n_ends = self.queue.iter().filter(|queued| queued.is_end()).count();
        if id == self.newest {
            self.newest_is_open = false;
            self.intake.clear();
        }
        Ok(self.queue.len() < n_queued)
    }

    fn remember_clear(&mut self, id: u64) -> Result<(), SessionFault> {
        let begun = self.cleared.range(..=self.newest);
        let n_begun = begun.clone().count();
        if id > self.newest && self.cleared.len() - n_begun >= MAX_SINGLE_CLEARS {
            return Err(SessionFault::TooManyMessages {
                what: "clears of segments to come",
                limit: MAX_SINGLE_CLEARS,
            });
        }
        let n_forgotten = (n_begun + 1).saturating_sub(MAX_SINGLE_CLEARS);
        let can_forget = begun.filter(|&&begun| begun != self.taken);
        let forgotten: Vec<u64> = can_forget.take(n_forgotten).copied().collect();
        for id in forgotten {
            self.cleared.remove(&id);
        }
        self.cleared.insert(id);
        Ok(())
    }

    /// The client has closed its side: the open segment ends, nothing more comes.
    pub(super) fn finish(&mut self, now: Instant) {
        self.end_newest(now);
        self.is_finished = true;
    }

    /// From when on there is something to work on, if there is anything. What has just come and is hardly any audio waits
    /// for more for a moment, unless its segment is over.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let next = self.queue.front()?;
        Some(match next {
            Queued::Audio { data, came, .. }
                if self.queue.len() == 1
                    && self.newest_is_open
                    && (1..self.block_bytes / CRUMBS_PER_SECOND).contains(&data.len()) =>
            {
                came.began + CRUMB_PATIENCE
            }
            Queued::Audio { came, .. } | Queued::End { came, .. } => came.began,
        })
    }

    /// The next thing to work on.
    pub(super) fn pop(&mut self) -> Option<Work> {
        let queued = self.queue.pop_front()?;
        self.n_bytes -= queued.n_bytes();
        self.n_ends -= usize::from(queued.is_end());
        self.taken = queued.segment_id();
        Some(match queued {
            Queued::Audio {
                segment_id,
                data,
                came,
            } => Work::Audio {
                segment_id,
                data: data.into(),
                came,
            },
            Queued::End { segment_id, came } => Work::End { segment_id, came },
        })
    }

    /// The segment that was begun last; 0 before any was.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether nothing more will ever come out.
    pub(super) fn is_exhausted(&self) -> bool {
        self.is_finished && self.queue.is_empty()
    }

    /// Whether frames of this segment must not be sent any more.
    pub(super) fn is_cleared(&self, segment_id: u64) -> bool {
        segment_id <= self.cleared_to || self.cleared.contains(&segment_id)
    }

    fn end_newest(&mut self, now: Instant) {
        if self.newest_is_open {
            self.newest_is_open = false;
            let rest = self.intake.end();
            if !rest.is_empty() {
                self.append(self.newest, &rest, now);
            }
            self.n_ends += 1;
            self.queue.push_back(Queued::End {
                segment_id: self.newest,
                came: Came::at(now),
            });
        }
    }
}

impl Queued {
    fn segment_id(&self) -> u64 {
        match self {
            Self::Audio { segment_id, .. } | Self::End { segment_id, .. } => *segment_id,
        }
    }

    fn is_end(&self) -> bool {
        matches!(self, Self::End { .. })
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::Audio { data, .. } => data.len(),
            Self::End { .. } => 0,
        }
    }
}
