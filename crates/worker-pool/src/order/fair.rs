//! The order of the pool: levels of urgency, fair shares of tenants, sessions before calls, and bins that keep
//! slow networks from having every worker.
//!
//! What is charged is time of a worker. A batch is charged when it is handed out, by what its frames are expected
//! to take, and put right when it is done, by what it took. Whoever shares a batch pays for its own frames.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use lipsync_core::saturate::u32_of;
use lipsync_engine::Device;

use super::{
    Assignment, Decision, Entry, JobId, NetworkId, Order, Part,
    bins::Scheduling,
    crew::{Charge, Crew, Handed, Traits},
    levels::{Levels, Owner, Rank, Verdict},
    policy::{Chunks, Closed, ESTIMATE, hold_until, shared_frames, shares_batches, turn_frames},
    shares::{Nanos, nanos},
};
use crate::{Work, roster::Roster};

/// How batches are made.
#[derive(Debug, Clone)]
pub(crate) struct BatchLimits {
    pub(crate) max_frames: usize,
    /// For others to join, while all workers of the device are busy.
    pub(crate) max_wait: Duration,
    pub(crate) rules: Scheduling,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FairOrder {
    limits: BatchLimits,
    /// Those of `limits` at first.
    max_frames: usize,
    /// One for each device that a job has come for.
    lanes: Vec<Lane>,
}

/// What waits for a device, and who works there.
#[derive(Debug)]
struct Lane {
    crew: Crew,
    levels: Levels,
    jobs: HashMap<JobId, WaitingJob>,
    n_ranks: u64,
}

/// A job with frames to assign. Each has a place in the queue, which bounds them.
#[derive(Debug)]
struct WaitingJob {
    entry: Entry,
    owner: Owner,
    rank: Rank,
    traits: Traits,
    chunks: Chunks,
    /// Frames of a batch of its network.
    max_frames: usize,
}

impl WaitingJob {
    fn frame_cost(&self) -> Nanos {
        nanos(self.entry.frame_cost.unwrap_or(ESTIMATE))
    }

    fn cost(&self, n_frames: usize) -> Nanos {
        self.frame_cost()
            .saturating_mul(Nanos::try_from(n_frames).unwrap_or(Nanos::MAX))
    }

    /// Cost of its next piece.
    fn next_cost(&self) -> Nanos {
        self.cost(self.chunks.next_frames(self.max_frames))
    }
}

/// What becomes of those that wait for a device.
enum Step {
    Assign(Assignment),
    /// The job that goes next waits for others to join, at most until then.
    Wait(Option<Instant>),
}

impl FairOrder {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self {
            max_frames: limits.max_frames,
            limits,
            lanes: Vec::new(),
        }
    }

    /// The place of a device's lane.
    fn lane(&mut self, device: Device) -> usize {
        let found = self
            .lanes
            .iter()
            .position(|lane| lane.crew.device == device);
        found.unwrap_or_else(|| {
            self.lanes.push(Lane::new(device));
            self.lanes.len() - 1
        })
    }
}

impl Lane {
    fn new(device: Device) -> Self {
        Self {
            crew: Crew::new(device),
            levels: Levels::default(),
            jobs: HashMap::new(),
            n_ranks: 0,
        }
    }

    fn push(&mut self, entry: Entry, limits: &BatchLimits, now: Instant, roster: &Roster) {
        let device = self.crew.device;
        let turn = match shares_batches(device) {
            true => limits.max_frames,
            false => limits.max_frames.min(turn_frames(entry.frame_cost)),
        };
        let batch_time = entry
            .frame_cost
            .map(|cost| cost.saturating_mul(u32_of(turn)));
        let bin = limits.rules.bin(batch_time);
        let max_frames = turn.min(limits.rules.max_batch_frames[bin.index()]).max(1);
        let chunks = match shares_batches(device) {
            true => Chunks::unsplit(entry.n_frames),
            false => {
                let n_workers = roster.on(device).count();
                Chunks::new(entry.n_frames, n_workers.max(1), max_frames)
            }
        };
        self.crew.note_job(bin, now);
        let job = WaitingJob {
            owner: Owner::of(&entry.claim),
            rank: self.rank(&entry, now),
            traits: Traits {
                network: entry.network,
                bin,
                size_class: limits.rules.size_class(entry.macs),
            },
            entry,
            chunks,
            max_frames,
        };
        self.levels.push(&job.owner, job.rank, job.next_cost());
        self.jobs.insert(job.entry.id, job);
    }

    /// The place of a job that has come, or has had its turn.
    fn rank(&mut self, entry: &Entry, now: Instant) -> Rank {
        self.n_ranks += 1;
        let due = entry.claim.due.filter(|_| entry.claim.work == Work::Live);
        Rank {
            at: due.unwrap_or(now),
            number: self.n_ranks,
            job: entry.id,
        }
    }

    fn forget(&mut self, id: JobId) {
        if let Some(job) = self.jobs.remove(&id) {
            self.levels.remove(&job.owner, &job.rank);
        }
    }

    fn step(&mut self, limits: &BatchLimits, now: Instant, roster: &Roster) -> Step {
        let jobs = &self.jobs;
        let is_waiting = |network| jobs.values().any(|job| job.traits.network == network);
        self.crew.look(roster, is_waiting);
        if !self.crew.has_room(roster) {
            return Step::Wait(None);
        }
        let n_idle = self.crew.n_idle(roster);
        let is_shared = shares_batches(self.crew.device);
        let mut wake: Option<Instant> = None;
        // What was found of a network holds for all its jobs.
        let mut judged: Vec<(Traits, Verdict)> = Vec::new();
        let found = self.levels.find(|id| {
            let Some(job) = jobs.get(&id) else {
                return Verdict::Blocked;
            };
            let traits = job.traits;
            let runs_alone = job.entry.claim.runs_alone;
            let known = judged.iter().find(|(of, _)| *of == traits);
            if let Some(&(_, verdict)) =
                known.filter(|(_, of)| !(runs_alone && *of == Verdict::Hold))
            {
                return verdict;
            }
            let held = if is_shared && n_idle == 0 && !runs_alone {
                hold(jobs, job, limits, now)
            } else {
                None
            };
            let verdict = if !self.crew.allows(traits, &limits.rules, now, roster) {
                self.crew.note_blocked(traits, &limits.rules, now);
                Verdict::Blocked
            } else if let Some(until) = held {
                wake = Some(wake.map_or(until, |wake| wake.min(until)));
                Verdict::Hold
            } else {
                return Verdict::Run;
            };
            judged.push((traits, verdict));
            verdict
        });
        let assigned = found.and_then(|id| {
            let worker = self.crew.take_worker(roster)?;
            self.assign(id, worker, n_idle, now)
        });
        assigned.map_or(Step::Wait(wake), Step::Assign)
    }

    /// Hands the next piece of a job to a worker, and what may share its batch.
    fn assign(
        &mut self,
        id: JobId,
        worker: usize,
        n_idle: usize,
        now: Instant,
    ) -> Option<Assignment> {
        let (parts, closed) = if shares_batches(self.crew.device) {
            let (parts, is_full) = self.take_shared(id, n_idle, now);
            let closed = match (is_full, n_idle) {
                (true, _) => Closed::Full,
                (false, 0) => Closed::WaitOver,
                (false, _) => Closed::Idle,
            };
            (parts, Some(closed))
        } else {
            (vec![self.take(id, usize::MAX, now)?], None)
        };
        let traits = parts.first()?.traits;
        let expected = parts.iter().map(|part| part.expected).sum();
        let mut charges = Vec::with_capacity(parts.len());
        let mut assigned = Vec::with_capacity(parts.len());
        for taken in parts {
            charges.push(taken.charge);
            assigned.push(taken.part);
        }
        let batch = Handed {
            traits,
            expected,
            charges,
        };
        self.crew.hand(worker, batch, now);
        Some(Assignment {
            worker,
            parts: assigned,
            closed,
        })
    }

    /// Up to a share of what waits for the network of a job, that job first, and then whole jobs in the order in
    /// which they would go anyway; and whether something was left behind.
    ///
    /// The first job that does not fit closes the batch, so that nobody is overtaken by a smaller one.
    fn take_shared(&mut self, first: JobId, n_idle: usize, now: Instant) -> (Vec<Taken>, bool) {
        let Some(job) = self.jobs.get(&first) else {
            return (Vec::new(), false);
        };
        let (network, max_frames) = (job.traits.network, job.max_frames);
        let runs_alone = job.entry.claim.runs_alone;
        let n_waiting = match runs_alone {
            true => job.chunks.n_rest(),
            false => frames_of(&self.jobs, network),
        };
        let mut n_left = shared_frames(n_waiting, n_idle, max_frames);
        let mut next = Some(first);
        let mut parts = Vec::new();
        while let Some(job) = next.and_then(|id| self.jobs.get(&id)) {
            let n_rest = job.chunks.n_rest();
            if n_rest > n_left && !parts.is_empty() {
                return (parts, true);
            }
            let taken = self.take(job.entry.id, n_left, now);
            n_left = n_left.saturating_sub(n_rest);
            parts.extend(taken);
            if n_left == 0 || runs_alone {
                return (parts, true);
            }
            let jobs = &self.jobs;
            next = self.levels.find(|id| match jobs.get(&id) {
                Some(job) if job.traits.network == network && !job.entry.claim.runs_alone => {
                    Verdict::Run
                }
                _ => Verdict::Hold,
            });
        }
        (parts, false)
    }

    /// The next piece of a job, charged to its owner. A job that has had its turn goes behind the others.
    fn take(&mut self, id: JobId, max_frames: usize, now: Instant) -> Option<Taken> {
        let job = self.jobs.get_mut(&id)?;
        let frames = job.chunks.take(max_frames.min(job.max_frames));
        let n_frames = frames.len();
        let cost = job.cost(n_frames);
        let owner = job.owner.clone();
        let taken = Taken {
            part: Part { job: id, frames },
            traits: job.traits,
            expected: job
                .entry
                .frame_cost
                .map(|cost| cost.saturating_mul(u32_of(n_frames))),
            charge: Charge {
                owner: owner.clone(),
                n_frames,
                cost,
            },
        };
        self.levels.charge_turn(&owner, cost);
        self.levels.remove(&owner, &job.rank);
        if job.chunks.n_rest() == 0 {
            self.jobs.remove(&id);
            return Some(taken);
        }
        let (is_over, next) = (job.chunks.ends_turn(), job.next_cost());
        let rank = match is_over {
            true => {
                let entry = job.entry.clone();
                self.rank(&entry, now)
            }
            false => job.rank,
        };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.rank = rank;
        }
        self.levels.push(&owner, rank, next);
        Some(taken)
    }

    /// Puts right what was charged for a batch that took this long.
    fn settle(&mut self, batch: Handed, took: Duration) {
        let n_frames: usize = batch.charges.iter().map(|charge| charge.n_frames).sum();
        let per_frame = nanos(took) / Nanos::try_from(n_frames.max(1)).unwrap_or(Nanos::MAX);
        for Charge {
            owner,
            n_frames,
            cost,
        } in batch.charges
        {
            let true_cost = per_frame * Nanos::try_from(n_frames).unwrap_or(0);
            self.levels.charge(&owner, true_cost - cost);
        }
    }
}

/// A piece of a job that was taken.
struct Taken {
    part: Part,
    traits: Traits,
    expected: Option<Duration>,
    charge: Charge,
}

fn frames_of(jobs: &HashMap<JobId, WaitingJob>, network: NetworkId) -> usize {
    let like = jobs.values().filter(|job| job.traits.network == network);
    like.map(|job| job.chunks.n_rest()).sum()
}

/// Until when the batch that begins with `job` is held back; see [`hold_until`].
fn hold(
    jobs: &HashMap<JobId, WaitingJob>,
    job: &WaitingJob,
    limits: &BatchLimits,
    now: Instant,
) -> Option<Instant> {
    let network = job.traits.network;
    let like = || jobs.values().filter(|job| job.traits.network == network);
    let first = like().map(|job| job.entry.submitted_at).min()?;
    let deadline = like().filter_map(|job| job.entry.claim.deadline).min();
    let n_waiting = frames_of(jobs, network);
    hold_until(
        n_waiting,
        job.max_frames,
        first + limits.max_wait,
        deadline,
        now,
    )
}

impl Order for FairOrder {
    /// A job is cut by the workers that there are when it comes, and by what its network is known to take.
    fn push(&mut self, job: Entry, now: Instant, roster: &Roster) {
        let place = self.lane(job.device);
        self.lanes[place].push(job, &self.limits, now, roster);
    }

    fn next(&mut self, now: Instant, roster: &Roster) -> Decision {
        let mut wake: Option<Instant> = None;
        for lane in &mut self.lanes {
            match lane.step(&self.limits, now, roster) {
                Step::Assign(assignment) => return Decision::Assign(assignment),
                Step::Wait(until) => wake = wake.into_iter().chain(until).min(),
            }
        }
        Decision::Wait(wake)
    }

    fn done(&mut self, worker: usize, took: Duration) {
        for lane in &mut self.lanes {
            if let Some(batch) = lane.crew.take_done(worker) {
                return lane.settle(batch, took);
            }
        }
    }

    fn gone(&mut self, worker: usize) {
        for lane in &mut self.lanes {
            lane.crew.forget_worker(worker);
        }
    }

    /// Of jobs that wait, too.
    fn limit_batches(&mut self, max_frames: usize) {
        self.limits.max_frames = self.max_frames.min(max_frames.max(1));
        for lane in &mut self.lanes {
            for job in lane.jobs.values_mut() {
                job.max_frames = job.max_frames.min(self.limits.max_frames);
            }
        }
    }

    fn forget(&mut self, job: JobId) {
        for lane in &mut self.lanes {
            lane.forget(job);
        }
    }
}

#[cfg(test)]
mod tests;
