//! Conversations: the avatar listens and speaks in turns, and its frames have their time.

use lipsync_serving::live::MAX_PACED_MS;
use lipsync_session::{FIRST_FRAMES, FRAME_BUFFER, PACED_FRAMES, TOO_LATE};
use lipsync_worker_pool::{Claim, Work};

use super::{Event, World, nanos};
use crate::visit::{Kind, Talk, Turn};

/// A frame of a session lasts so long: 25 a second.
const FRAME_NS: u64 = 40_000_000;
/// A session whose frames find no place in the queue tries again.
const RETRY_NS: u64 = 50_000_000;

impl World {
    /// A session is open.
    pub(super) fn begin_talk(&mut self, visit: usize) {
        let of = &self.visits[visit];
        let took_us = (self.now_ns - of.began_ns) / 1000;
        if of.counts {
            self.found.open_us.saturating_record(took_us);
        }
        self.n_open += 1;
        self.found.max_open = self.found.max_open.max(self.n_open);
        let listens_ns = self.listens_ns();
        self.at(self.now_ns + listens_ns, Event::Go(visit));
    }

    fn listens_ns(&mut self) -> u64 {
        let pattern = self.pattern.as_ref();
        pattern.map_or(0, |pattern| pattern.listens_ns(&mut self.dice))
    }

    fn talk(&mut self, visit: usize) -> Option<&mut Talk> {
        match &mut self.visits[visit].kind {
            Kind::Session(talk) => Some(talk),
            Kind::Call(_) => None,
        }
    }

    pub(super) fn reply_goes_on(&mut self, visit: usize) {
        let (now_ns, counts) = (self.now_ns, self.visits[visit].counts);
        let Some(talk) = self.talk(visit) else {
            return;
        };
        let n_batch = talk.n_batch;
        talk.n_made += n_batch;
        let is_first = talk.clock_ns.is_none();
        let waited_us = (now_ns - talk.spoke_ns) / 1000;
        let clock_ns = *talk.clock_ns.get_or_insert(now_ns + nanos(FRAME_BUFFER));
        let (n_made, n_frames) = (talk.n_made, talk.n_frames);
        if counts {
            self.found.n_live_frames += n_batch;
            if is_first {
                self.found.first_frame_us.saturating_record(waited_us);
            }
        }
        if n_made < n_frames {
            // Up to this much video is made ahead.
            let n_ahead = u64::from(MAX_PACED_MS) * 1_000_000 / FRAME_NS - PACED_FRAMES as u64;
            let due_ns = clock_ns + n_made.saturating_sub(n_ahead) * FRAME_NS;
            return self.turn(visit, Turn::Batch, due_ns.max(now_ns));
        }
        let end_ns = (clock_ns + n_frames * FRAME_NS).max(now_ns);
        let listens_ns = self.listens_ns();
        let Some(talk) = self.talk(visit) else {
            return;
        };
        let lasted_ns = n_frames * FRAME_NS + listens_ns;
        talk.left_ns = talk.left_ns.saturating_sub(lasted_ns);
        match talk.left_ns {
            0 => self.turn(visit, Turn::End, end_ns),
            _ => self.turn(visit, Turn::Reply, end_ns + listens_ns),
        }
    }

    fn turn(&mut self, visit: usize, next: Turn, at_ns: u64) {
        if let Some(talk) = self.talk(visit) {
            talk.next = next;
        }
        self.at(at_ns, Event::Go(visit));
    }

    pub(super) fn go_on(&mut self, visit: usize) {
        match self.talk(visit).map(|talk| talk.next) {
            Some(Turn::Reply) => {
                self.begin_reply(visit);
                self.next_batch(visit);
            }
            Some(Turn::Batch) => self.next_batch(visit),
            Some(Turn::End) => {
                self.n_open -= 1;
                let replica = self.visits[visit].replica;
                self.leave(visit);
                self.balancer.end(replica);
            }
            None => {}
        }
    }

    fn begin_reply(&mut self, visit: usize) {
        let pattern = self.pattern.as_ref();
        let speaks_ns = pattern.map_or(0, |pattern| pattern.speaks_ns(&mut self.dice));
        let now_ns = self.now_ns;
        if let Some(talk) = self.talk(visit) {
            talk.spoke_ns = now_ns;
            talk.n_frames = (speaks_ns / FRAME_NS).max(1);
            talk.n_made = 0;
            talk.clock_ns = None;
            talk.next = Turn::Batch;
        }
    }

    fn next_batch(&mut self, visit: usize) {
        let (now_ns, counts) = (self.now_ns, self.visits[visit].counts);
        let Some(talk) = self.talk(visit) else {
            return;
        };
        let n_left = talk.n_frames - talk.n_made;
        let due_ns = talk.due_ns(talk.n_made, FRAME_NS);
        if due_ns.is_some_and(|due_ns| due_ns + nanos(TOO_LATE) < now_ns) {
            // As many as are late already, up to a large batch.
            let n_late = due_ns.map_or(0, |due_ns| (now_ns - due_ns).div_ceil(FRAME_NS));
            talk.n_batch = n_late.min(n_left).clamp(1, 2 * PACED_FRAMES as u64);
            let n_batch = talk.n_batch;
            self.found.n_skipped_frames += if counts { n_batch } else { 0 };
            return self.paste(visit);
        }
        let n_most = if talk.n_made == 0 {
            FIRST_FRAMES
        } else {
            PACED_FRAMES
        };
        let n_batch = n_left.min(n_most as u64);
        talk.n_batch = n_batch;
        let claim = Claim {
            work: Work::Live,
            due: due_ns.map(|due_ns| self.instant(due_ns)),
            ..Claim::default()
        };
        if !self.order(visit, usize::try_from(n_batch).unwrap_or(usize::MAX), claim) {
            self.at(now_ns + RETRY_NS, Event::Go(visit));
        }
    }
}
