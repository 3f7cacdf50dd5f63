//! The oldest job first, in turns, and what may share its batch.
//!
//! Tenants and priorities are not looked at. A deadline matters in one place: no job waits beyond it for
//! others to share its batch.

use std::time::{Duration, Instant};

use lipsync_engine::Device;

use super::{
    Assignment, Decision, Entry, JobId, NetworkId, Order,
    lanes::Lane,
    policy::{Chunks, Closed, is_slow, shared_frames, shares_batches, turn_frames},
    waiting::WaitingJobs,
};
use crate::roster::Roster;

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) max_frames: usize,
    /// For others to join, while all workers of the device are busy.
    pub(crate) max_wait: Duration,
}

/// The order of a pool without tenants.
#[derive(Debug)]
pub(crate) struct OldestFirst {
    limits: BatchLimits,
    waiting: WaitingJobs,
    /// One for each device that a job has come for.
    lanes: Vec<Lane>,
}

/// What becomes of the oldest waiting job of a network.
enum Step {
    Assign(Assignment),
    /// It waits for others to join, at most until then.
    Hold(Instant),
    /// No worker has room.
    Full,
}

impl OldestFirst {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            waiting: WaitingJobs::default(),
            lanes: Vec::new(),
        }
    }

    /// The place of a device's lane.
    fn lane(&mut self, device: Device) -> usize {
        let found = self.lanes.iter().position(|lane| lane.device == device);
        found.unwrap_or_else(|| {
            self.lanes.push(Lane::new(device));
            self.lanes.len() - 1
        })
    }

    fn step(&mut self, place: usize, now: Instant, roster: &Roster) -> Step {
        let BatchLimits {
            max_frames,
            max_wait,
        } = self.limits;
        let lane = &mut self.lanes[self.waiting.lane(place)];
        if !lane.has_room(roster) {
            return Step::Full;
        }
        let n_idle = lane.n_idle(roster);
        let is_shared = shares_batches(lane.device);
        if is_shared && n_idle == 0 {
            let held = self.waiting.hold_until(place, max_frames, max_wait, now);
            if let Some(until) = held {
                return Step::Hold(until);
            }
        }
        let is_slow = self.waiting.is_slow(place);
        let Some(worker) = lane.take_worker(is_slow, now, roster) else {
            return Step::Full;
        };
        if !is_shared {
            return Step::Assign(Assignment {
                worker,
                parts: vec![self.waiting.take_alone(place)],
                closed: None,
            });
        }
        let n_waiting = self.waiting.n_frames_like(place);
        let n_frames = shared_frames(n_waiting, n_idle, max_frames);
        let (parts, is_full) = self.waiting.take_shared(place, n_frames);
        let closed = Some(match (is_full, n_idle) {
            (true, _) => Closed::Full,
            (false, 0) => Closed::WaitOver,
            (false, _) => Closed::Idle,
        });
        Step::Assign(Assignment {
            worker,
            parts,
            closed,
        })
    }
}

impl Order for OldestFirst {
    /// A job is cut by the workers that there are when it comes, and by what its network is known to take.
    fn push(&mut self, job: Entry, now: Instant, roster: &Roster) {
        let place = self.lane(job.device);
        if shares_batches(job.device) {
            let chunks = Chunks::unsplit(job.n_frames);
            return self.waiting.push(job, chunks, place, false);
        }
        let max_frames = self.limits.max_frames.min(turn_frames(job.frame_cost));
        let n_workers = roster.on(job.device).count();
        let chunks = Chunks::new(job.n_frames, n_workers.max(1), max_frames);
        let is_slow = is_slow(job.frame_cost);
        self.lanes[place].note_job(is_slow, now);
        self.waiting.push(job, chunks, place, is_slow);
    }

    fn next(&mut self, now: Instant, roster: &Roster) -> Decision {
        let mut wake: Option<Instant> = None;
        if !self.lanes.iter().any(|lane| lane.has_room(roster)) {
            return Decision::Wait(wake);
        }
        let mut held: Vec<NetworkId> = Vec::new();
        for place in 0..self.waiting.len() {
            let network = self.waiting.network(place);
            // Jobs behind one that is held back are part of what it waits for.
            if held.contains(&network) {
                continue;
            }
            match self.step(place, now, roster) {
                Step::Assign(assignment) => return Decision::Assign(assignment),
                Step::Hold(until) => {
                    wake = Some(wake.map_or(until, |wake| wake.min(until)));
                    held.push(network);
                }
                Step::Full => {}
            }
        }
        Decision::Wait(wake)
    }

    fn forget(&mut self, job: JobId) {
        self.waiting.forget(job);
    }
}

#[cfg(test)]
mod tests;
