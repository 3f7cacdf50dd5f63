//! The turns that the workers of a device take.

use std::{collections::BTreeSet, time::Instant};

use lipsync_engine::Device;

use super::policy::{MAX_LOAD, RoundRobin, max_slow_workers};
use crate::roster::{Roster, WorkerHandle};

/// Which worker of one device gets the next batch.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) device: Device,
    /// The workers whose last batch was of a slow network. Nothing is queued behind that.
    slow: BTreeSet<usize>,
    /// When a job of a network that is not slow last came.
    last_quick: Option<Instant>,
    turns: RoundRobin,
}

impl Lane {
    pub(super) fn new(device: Device) -> Self {
        Self {
            device,
            slow: BTreeSet::new(),
            last_quick: None,
            turns: RoundRobin::default(),
        }
    }

    /// A job has come, of a slow network or not.
    pub(super) fn note_job(&mut self, is_slow: bool, now: Instant) {
        if !is_slow {
            self.last_quick = Some(now);
        }
    }

    pub(super) fn has_room(&self, roster: &Roster) -> bool {
        let mut workers = roster.on(self.device);
        workers.any(|worker| self.load(worker) < MAX_LOAD)
    }

    pub(super) fn n_idle(&self, roster: &Roster) -> usize {
        let workers = roster.on(self.device);
        workers.filter(|worker| worker.load() == 0).count()
    }

    /// The worker whose turn it is; `None` where none has room.
    pub(super) fn take_worker(
        &mut self,
        is_slow: bool,
        now: Instant,
        roster: &Roster,
    ) -> Option<usize> {
        let workers: Vec<&WorkerHandle> = roster.on(self.device).collect();
        let n_slow = workers.iter().filter(|worker| self.is_slow(worker)).count();
        if is_slow && n_slow >= max_slow_workers(workers.len(), self.last_quick, now) {
            return None;
        }
        let loads: Vec<usize> = workers.iter().map(|worker| self.load(worker)).collect();
        let worker = workers[self.turns.choose(&loads, MAX_LOAD)?].number();
        if is_slow {
            self.slow.insert(worker);
        } else {
            self.slow.remove(&worker);
        }
        Some(worker)
    }

    /// Whether it is busy with a slow network.
    fn is_slow(&self, worker: &WorkerHandle) -> bool {
        worker.load() > 0 && self.slow.contains(&worker.number())
    }

    fn load(&self, worker: &WorkerHandle) -> usize {
        if self.is_slow(worker) {
            MAX_LOAD
        } else {
            worker.load()
        }
    }
}
