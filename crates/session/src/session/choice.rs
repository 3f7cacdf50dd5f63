//! Which frames are made together, and how.

use std::time::{Duration, Instant};

use super::Session;
use crate::{
    SessionFault,
    batch::{BATCH_FRAMES, Batch, FIRST_FRAMES, PACED_FRAMES, Shot, TOO_LATE},
    fade::follow,
    outbox::Cursor,
    pace::FRAME_BUFFER,
};

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
        let due = self.pacer.as_ref().and_then(|pacer| pacer.due(number));
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
            due,
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
