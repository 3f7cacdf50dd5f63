//! The workers of one device: what each of them holds, and who gets the next batch.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use lipsync_engine::Device;

use super::{
    NetworkId,
    bins::{Bin, N_SIZE_CLASSES, Scheduling},
    levels::Owner,
    policy::{LOOKAHEAD, MAX_LOAD, QUIET, RoundRobin, SIZE_CLASS_TURN},
    shares::Nanos,
};
use crate::roster::{Roster, WorkerHandle};

/// See the module.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) device: Device,
    /// What each worker holds, by its number: the batch that runs first.
    held: BTreeMap<usize, VecDeque<Handed>>,
    /// When a job of each bin last came.
    last_job: [Option<Instant>; 3],
    classes: [SizeClass; N_SIZE_CLASSES],
    turns: RoundRobin,
}

/// A batch that a worker holds.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) traits: Traits,
    /// How long it will take; `None` where its network was not measured yet.
    pub(super) expected: Option<Duration>,
    /// Who was charged what for it.
    pub(super) charges: Vec<Charge>,
}

/// What an owner was charged for frames of a batch.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) owner: Owner,
    pub(super) n_frames: usize,
    pub(super) cost: Nanos,
}

/// What there is to know of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    pub(super) network: NetworkId,
    pub(super) bin: Bin,
    pub(super) size_class: usize,
}

/// What goes on in a size class.
#[derive(Debug, Clone, Copy, Default)]
struct SizeClass {
    /// When a network last began that was not running.
    changed: Option<Instant>,
    /// The network that waits for one of those that run to make room. They begin nothing until then.
    next: Option<NetworkId>,
}

impl Crew {
    pub(super) fn new(device: Device) -> Self {
        Self {
            device,
            held: BTreeMap::new(),
            last_job: [None; 3],
            classes: [SizeClass::default(); N_SIZE_CLASSES],
            turns: RoundRobin::default(),
        }
    }

    /// A job has come.
    pub(super) fn note_job(&mut self, bin: Bin, now: Instant) {
        self.last_job[bin.index()] = Some(now);
    }

    /// Forgets what workers do not hold any more, and who waits in vain for a size class.
    pub(super) fn look(&mut self, roster: &Roster, is_waiting: impl Fn(NetworkId) -> bool) {
        for worker in roster.on(self.device) {
            if let Some(held) = self.held.get_mut(&worker.number()) {
                let n_done = held.len().saturating_sub(worker.load());
                held.drain(..n_done);
            }
        }
        for class in &mut self.classes {
            class.next = class.next.filter(|&network| is_waiting(network));
        }
    }

    /// A worker is done with the batch that it held longest.
    pub(super) fn take_done(&mut self, worker: usize) -> Option<Handed> {
        self.held.get_mut(&worker)?.pop_front()
    }

    /// A worker is no more.
    pub(super) fn forget_worker(&mut self, worker: usize) {
        self.held.remove(&worker);
    }

    pub(super) fn has_room(&self, roster: &Roster) -> bool {
        let mut workers = roster.on(self.device);
        workers.any(|worker| self.load(worker) < MAX_LOAD)
    }

    pub(super) fn n_idle(&self, roster: &Roster) -> usize {
        let workers = roster.on(self.device);
        workers.filter(|worker| worker.load() == 0).count()
    }

    /// Whether another batch of such a network may run beside those that do.
    pub(super) fn allows(
        &self,
        traits: Traits,
        rules: &Scheduling,
        now: Instant,
        roster: &Roster,
    ) -> bool {
        self.has_share(traits.bin, rules, now, roster) && self.has_class(traits, rules)
    }

    fn has_share(&self, bin: Bin, rules: &Scheduling, now: Instant, roster: &Roster) -> bool {
        let n_workers = roster.on(self.device).count();
        let is_recent =
            |at: &Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < QUIET);
        Bin::ALL
            .into_iter()
            .filter(|&of| of > Bin::Fast && of <= bin)
            .all(|of| {
                let has_quicker = self.last_job[..of.index()].iter().any(is_recent);
                let busy = roster
                    .on(self.device)
                    .filter(|worker| self.bin_of(worker) >= of);
                !has_quicker || busy.count() < rules.max_workers(of, n_workers)
            })
    }

    fn has_class(&self, traits: Traits, rules: &Scheduling) -> bool {
        let class = self.classes[traits.size_class];
        let is_others = class.next.is_some_and(|next| next != traits.network);
        let limit = rules.size_class_limits[traits.size_class];
        let running = self.running(traits.size_class);
        !is_others && (running.contains(&traits.network) || running.len() < limit)
    }

    /// A network may not run now. If those of its class have run for long enough, it is next.
    pub(super) fn note_blocked(&mut self, traits: Traits, rules: &Scheduling, now: Instant) {
        if self.has_class(traits, rules) {
            return;
        }
        let class = &mut self.classes[traits.size_class];
        let is_over = class
            .changed
            .is_none_or(|at| now.saturating_duration_since(at) >= SIZE_CLASS_TURN);
        if is_over && class.next.is_none() {
            class.next = Some(traits.network);
        }
    }

    /// The networks of a size class that run or are next at a worker.
    fn running(&self, size_class: usize) -> Vec<NetworkId> {
        let mut running = Vec::new();
        for Handed { traits, .. } in self.held.values().flatten() {
            if traits.size_class == size_class && !running.contains(&traits.network) {
                running.push(traits.network);
            }
        }
        running
    }

    /// The worker whose turn it is; `None` where none has room.
    pub(super) fn take_worker(&mut self, roster: &Roster) -> Option<usize> {
        let workers: Vec<&WorkerHandle> = roster.on(self.device).collect();
        let loads: Vec<usize> = workers.iter().map(|worker| self.load(worker)).collect();
        Some(workers[self.turns.choose(&loads, MAX_LOAD)?].number())
    }

    /// A worker is given a batch.
    pub(super) fn hand(&mut self, worker: usize, batch: Handed, now: Instant) {
        let Traits {
            network,
            size_class,
            ..
        } = batch.traits;
        if !self.running(size_class).contains(&network) {
            let class = &mut self.classes[size_class];
            class.changed = Some(now);
            class.next = class.next.filter(|&next| next != network);
        }
        self.held.entry(worker).or_default().push_back(batch);
    }

    fn last(&self, worker: &WorkerHandle) -> Option<&Handed> {
        let held = self.held.get(&worker.number())?;
        held.back().filter(|_| worker.load() > 0)
    }

    fn bin_of(&self, worker: &WorkerHandle) -> Bin {
        self.last(worker)
            .map(|batch| batch.traits.bin)
            .unwrap_or_default()
    }

    /// Nothing is queued behind a batch that takes long: what waits there cannot give way to what is more urgent.
    fn load(&self, worker: &WorkerHandle) -> usize {
        let is_long = |batch: &Handed| {
            batch.traits.bin > Bin::Fast || batch.expected.is_some_and(|time| time > LOOKAHEAD)
        };
        if self.last(worker).is_some_and(is_long) {
            MAX_LOAD
        } else {
            worker.load()
        }
    }
}
