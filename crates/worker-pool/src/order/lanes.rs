//! The workers of one device, and which of them gets the next batch.

use std::time::Instant;

use lipsync_engine::Device;

use crate::order::policy::{MAX_LOAD, RoundRobin, max_slow_workers};

/// The workers of one device.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) device: Device,
    /// Their indices in the pool.
    pub(crate) workers: Vec<usize>,
    /// Batches handed to each that it has not reported as done.
    pub(crate) loads: Vec<usize>,
    /// Whether the last batch handed to each is of a slow network: nothing is queued behind that.
    slow: Vec<bool>,
    /// When a job of a network that is not slow last came.
    last_quick: Option<Instant>,
    policy: RoundRobin,
}

impl Group {
    /// The groups of workers whose devices are given.
    pub(crate) fn of_devices(devices: &[Device]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (worker, &device) in devices.iter().enumerate() {
            match groups.iter_mut().find(|group| group.device == device) {
                Some(group) => group.workers.push(worker),
                None => groups.push(Self {
                    device,
                    workers: vec![worker],
                    loads: Vec::new(),
                    slow: Vec::new(),
                    last_quick: None,
                    policy: RoundRobin::default(),
                }),
            }
        }
        for group in &mut groups {
            group.loads = vec![0; group.workers.len()];
            group.slow = vec![false; group.workers.len()];
        }
        groups
    }

    /// A job has come, of a slow network or not.
    pub(crate) fn note_job(&mut self, is_slow: bool, now: Instant) {
        if !is_slow {
            self.last_quick = Some(now);
        }
    }

    /// This worker of the pool is done with a batch, if it is one of these.
    pub(crate) fn free(&mut self, worker: usize) {
        if let Some(place) = self.workers.iter().position(|&w| w == worker) {
            self.loads[place] -= 1;
            self.slow[place] &= self.loads[place] > 0;
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        (0..self.workers.len()).any(|place| self.load(place) < MAX_LOAD)
    }

    pub(crate) fn n_idle(&self) -> usize {
        self.loads.iter().filter(|&&load| load == 0).count()
    }

    /// The worker whose turn it is, with one batch more; `None` where none has room.
    pub(crate) fn take_worker(&mut self, is_slow: bool, now: Instant) -> Option<usize> {
        let n_slow = self.slow.iter().filter(|&&slow| slow).count();
        if is_slow && n_slow >= max_slow_workers(self.workers.len(), self.last_quick, now) {
            return None;
        }
        let loads: Vec<usize> = (0..self.workers.len()).map(|p| self.load(p)).collect();
        let place = self.policy.choose(&loads, MAX_LOAD)?;
        self.loads[place] += 1;
        self.slow[place] = is_slow;
        Some(self.workers[place])
    }

    fn load(&self, place: usize) -> usize {
        if self.slow[place] {
            MAX_LOAD
        } else {
            self.loads[place]
        }
    }
}
