//! Which frames are made together, and how.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lipsync_core::pts_us;

use super::Session;
use crate::{
    Frame, SessionFault,
    fade::{FULL, follow},
    outbox::{Cursor, Kind, Look},
    pace::FRAME_BUFFER,
    plan::Slot,
};

/// Frames of the first batch of a segment: few, so that something is seen soon.
const FIRST_FRAMES: usize = 2;
/// Frames of the batches after it.
const BATCH_FRAMES: usize = 8;
/// The same where frames leave at their time: others wait for the workers, too.
const PACED_FRAMES: usize = 4;
/// Frames that would leave so late are shown without the network, until the clock is caught up with.
const TOO_LATE: Duration = Duration::from_millis(120);

/// Frames to be made together, at consecutive places.
#[derive(Debug)]
pub struct Batch {
    /// Place of the first one on the avatar's timeline.
    pub place: u64,
    /// At least one; all need the network, or none.
    pub shots: Vec<Shot>,
}

/// One frame to be made.
#[derive(Debug)]
pub struct Shot {
    /// How it comes about.
    pub kind: Kind,
    /// The part that the network has in it, of [`FULL`]; 0 = it is not run.
    pub weight: u8,
    /// What it is run on.
    pub window: Option<Arc<[f32]>>,
    /// What it is made of; `None` for idle frames.
    pub slot: Option<Slot>,
}

impl<P, E: From<SessionFault>> Session<P, E> {
    /// How many frames should be made next, if there are as many.
    pub(super) fn batch_frames(&self) -> usize {
        let n = self.plan.slots().next().map_or(0, |slot| slot.n);
        let n_frames = match n {
            0 => FIRST_FRAMES,
            _ if self.rules.is_realtime => PACED_FRAMES,
            _ => BATCH_FRAMES,
        };
        let rules = &self.rules;
        n_frames
            .min(rules.max_batch_frames)
            .min(rules.max_queued_frames)
            .max(1)
    }

    /// The first slots of the plan that can be made together.
    pub(super) fn next_batch(&self, now: Instant) -> Batch {
        let cursor = self.outbox.cursor();
        let number = self.outbox.next_number();
        if self.must_idle_on(&cursor, number, now) {
            return Batch::idle(&cursor);
        }
        let mut weight = cursor.look.weight;
        let mut shots: Vec<Shot> = Vec::new();
        let n_late = self.n_late(number, now);
        for (n, slot) in self.plan.slots().take(self.batch_frames()).enumerate() {
            if self.rules.shows_idle {
                weight = follow(weight, slot.speaks);
            }
            let shot = Shot::of_slot(slot, weight, n < n_late);
            if shots
                .first()
                .is_some_and(|first| first.needs_network() != shot.needs_network())
            {
                break;
            }
            shots.push(shot);
        }
        Batch {
            place: cursor.place,
            shots,
        }
    }

    /// Frames at rest are shown until those of the segment can be made: so there is no gap between.
    fn must_idle_on(&self, cursor: &Cursor, number: u64, now: Instant) -> bool {
        let Some(pacer) = self.pacer.as_ref().filter(|_| self.rules.shows_idle) else {
            return false;
        };
        let ready = now + self.first_batch_time + FRAME_BUFFER;
        let due = pacer.due(number);
        // Idle frames that are late themselves bridge nothing.
        cursor.look.is_idle && due.is_some_and(|due| now <= due && due < ready)
    }

    /// How many of the next frames are to be made without the network.
    fn n_late(&self, number: u64, now: Instant) -> usize {
        let Some(pacer) = &self.pacer else { return 0 };
        let is_due = |n: &u64, ahead| pacer.due(*n).is_some_and(|due| due + ahead < now);
        if self.plan.restarts_clock() || !is_due(&number, TOO_LATE) {
            return 0;
        }
        (number..)
            .take(BATCH_FRAMES)
            .take_while(|n| is_due(n, Duration::ZERO))
            .count()
    }
}

impl Batch {
    /// The next idle frame; after speech the mouth comes to rest.
    pub(super) fn idle(cursor: &Cursor) -> Self {
        let window = cursor.look.window.clone();
        let weight = window
            .as_ref()
            .map_or(0, |_| follow(cursor.look.weight, false));
        Self {
            place: cursor.place,
            shots: vec![Shot {
                kind: Kind::Idle,
                weight,
                window: window.filter(|_| weight > 0),
                slot: None,
            }],
        }
    }

    /// Whether it begins a segment.
    pub(super) fn is_first(&self) -> bool {
        let first = self.shots.first().and_then(|shot| shot.slot.as_ref());
        first.is_some_and(|slot| slot.n == 0) && self.needs_network()
    }

    /// Whether the network has a part in it.
    pub fn needs_network(&self) -> bool {
        self.shots.first().is_some_and(Shot::needs_network)
    }
}

impl Shot {
    fn of_slot(slot: &Slot, weight: u8, is_late: bool) -> Self {
        let kind = match weight {
            0 => Kind::Silent,
            _ if is_late => Kind::Skipped,
            _ => Kind::Spoken,
        };
        Self {
            kind,
            weight,
            window: (weight > 0).then(|| Arc::clone(&slot.window)),
            slot: Some(slot.clone()),
        }
    }

    fn needs_network(&self) -> bool {
        self.weight > 0 && self.kind != Kind::Skipped
    }

    /// Whether the background frame's own face shows through.
    pub fn is_faded(&self) -> bool {
        self.weight < FULL
    }

    pub(super) fn look(&self) -> Look {
        Look {
            weight: self.weight,
            window: self.window.clone(),
            is_idle: self.kind == Kind::Idle,
        }
    }

    /// The frame that it has become.
    pub(super) fn frame<P>(&self, place: u64, fps: u32, picture: P) -> Frame<P> {
        let slot = self.slot.as_ref();
        Frame {
            place,
            pts_us: 0,
            segment_id: slot.map_or(0, |slot| slot.segment_id),
            audio_time_us: slot.map(|slot| pts_us(slot.n, fps)),
            audio: slot.map_or_else(Bytes::new, |slot| slot.audio.clone()),
            picture,
        }
    }
}
