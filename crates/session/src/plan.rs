//! What is to be made next: the frames whose audio is there, in order.
//!
//! A slot stays in the plan until its frame is in the outbox. So an interruption finds everything in
//! one of the two, and what it displaces in the outbox can return here and be made again.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;

use crate::SegmentEnd;

/// One frame of a segment, before it is made.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Which segment.
    pub segment_id: u64,
    /// Its number in its segment.
    pub n: u64,
    /// `[C, H, W]`.
    pub window: Arc<[f32]>,
    /// False: it shows silence.
    pub speaks: bool,
    /// The audio under it, as it came; empty unless the session asked for echo.
    pub audio: Bytes,
    /// What whoever makes slots has to know to go on with the next one. A session only carries it.
    pub mark: u8,
    /// When its audio was all there; known once it is planned.
    pub(super) heard: Option<Instant>,
    /// What it does to the clock.
    pub(super) restart: Option<Restart>,
}

/// Why the clock does not simply go on with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// It is the first one of what is said: whatever was before is over.
    Begin,
    /// Its audio came after its time.
    Hold,
}

/// An entry of the plan.
#[derive(Debug, Clone)]
pub enum Planned {
    /// A frame to be made.
    Frame(Slot),
    /// The end of a segment, behind its frames.
    End(SegmentEnd),
}

/// Slots and ends of segments, in order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    queue: VecDeque<Planned>,
}

impl Planned {
    pub(super) fn segment_id(&self) -> u64 {
        match self {
            Self::Frame(slot) => slot.segment_id,
            Self::End(end) => end.segment_id,
        }
    }
}

impl Slot {
    /// Frame `n` of a segment, to be made of `window`, with `audio` under it. Unless it `speaks` it shows silence.
    #[must_use]
    pub fn new(segment_id: u64, n: u64, window: Arc<[f32]>, speaks: bool, audio: Bytes) -> Self {
        Self {
            segment_id,
            n,
            window,
            speaks,
            audio,
            mark: 0,
            heard: None,
            restart: None,
        }
    }

    /// With a mark.
    #[must_use]
    pub fn marked(self, mark: u8) -> Self {
        Self { mark, ..self }
    }

    /// Whether both are the same frame of the same segment.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.segment_id, self.n) == (other.segment_id, other.n)
    }
}

impl Plan {
    pub(super) fn push(&mut self, planned: Planned) {
        self.queue.push_back(planned);
    }

    /// Takes back what was made for a place that it will not have.
    pub(super) fn put_back(&mut self, displaced: Vec<Planned>) {
        for planned in displaced.into_iter().rev() {
            self.queue.push_front(planned);
        }
    }

    /// The slots that can be made next: those of the segment in front.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.queue.iter().map_while(|planned| match planned {
            Planned::Frame(slot) => Some(slot),
            Planned::End(_) => None,
        })
    }

    /// Takes the first entry if it is this slot.
    pub(super) fn take(&mut self, slot: &Slot) -> Option<Slot> {
        self.slots().next().filter(|first| first.is(slot))?;
        match self.queue.pop_front() {
            Some(Planned::Frame(slot)) => Some(slot),
            _ => None,
        }
    }

    /// Takes the first entry if it is the end of a segment.
    pub(super) fn take_end(&mut self) -> Option<SegmentEnd> {
        match self.queue.front() {
            Some(&Planned::End(end)) => {
                self.queue.pop_front();
                Some(end)
            }
            _ => None,
        }
    }

    /// Drops what belongs to cleared segments; says whether there was a slot among it.
    pub(super) fn clear(&mut self, is_cleared: impl Fn(u64) -> bool) -> bool {
        let n_slots = self.n_slots();
        self.queue
            .retain(|planned| !is_cleared(planned.segment_id()));
        self.n_slots() < n_slots
    }

    /// The first slot of a later segment than this.
    pub(super) fn first_slot_after(&mut self, segment_id: u64) -> Option<&mut Slot> {
        self.queue.iter_mut().find_map(|planned| match planned {
            Planned::Frame(slot) if slot.segment_id > segment_id => Some(slot),
            Planned::Frame(_) | Planned::End(_) => None,
        })
    }

    /// Slots of all segments.
    pub(super) fn n_slots(&self) -> usize {
        let is_slot = |planned: &&Planned| matches!(planned, Planned::Frame(_));
        self.queue.iter().filter(is_slot).count()
    }

    /// Whether a slot in the plan will set the clock.
    pub(super) fn restarts_clock(&self) -> bool {
        let restarts = |p: &Planned| matches!(p, Planned::Frame(slot) if slot.restart.is_some());
        self.queue.iter().any(restarts)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
