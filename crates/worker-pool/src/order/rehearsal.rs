//! A pool in virtual time: its queue, its refusals and its order, without threads, networks or a clock.
//!
//! For simulations. What is refused, what runs next, where and in which batch is decided by the code that decides it
//! in a [`WorkerPool`](crate::WorkerPool). Nothing fails here, and workers neither join nor leave.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use lipsync_engine::Device;

use super::{BatchLimits, Decision, Entry, FairOrder, JobId, NetworkId, Order};
use crate::{
    Claim, PoolConfig, PoolError, PoolStats, Work,
    backlog::check_wait,
    roster::{LineEnds, Roster},
    stats::{Ledger, Verdict},
    task::Batch,
};

/// See the module.
#[derive(Debug)]
pub struct Rehearsal {
    order: FairOrder,
    roster: Roster,
    /// The workers' ends: what is handed to them is taken out here.
    lines: Vec<LineEnds>,
    ledger: Ledger,
    jobs: HashMap<u64, Waiting>,
    n_jobs: u64,
}

/// A job, as far as its place in the order depends on it.
#[derive(Debug, Clone)]
pub struct RehearsedJob {
    /// Names its network.
    pub network: usize,
    /// Where that runs.
    pub device: Device,
    /// At least 1.
    pub n_frames: usize,
    /// For whom.
    pub claim: Claim,
    /// What a frame takes, as earlier ones have shown.
    pub frame_cost: Duration,
    /// Multiply-accumulates of a frame; 0 where nobody knows.
    pub macs: u64,
}

/// Frames of jobs that a worker runs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsedBatch {
    /// Number of the worker, from 0.
    pub worker: usize,
    /// Jobs, by what [`Rehearsal::submit`] called them, and how many frames of each.
    pub parts: Vec<(u64, usize)>,
}

/// What a pool does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RehearsedStep {
    /// It hands a batch to a worker, which runs it when it is done with those before.
    Hand(RehearsedBatch),
    /// Nothing, until something happens or, at the latest, until then.
    Wait(Option<Instant>),
}

/// A job with frames that no worker was handed.
#[derive(Debug)]
struct Waiting {
    device: Device,
    claim: Claim,
    frame_cost: Duration,
    n_left: usize,
}

impl Rehearsal {
    /// A pool with nothing to do, and a worker for each of [`PoolConfig::devices`].
    ///
    /// # Errors
    /// [`PoolError::BadConfig`] where a setting is 0.
    pub fn new(config: PoolConfig) -> Result<Self, PoolError> {
        config.check()?;
        let mut roster = Roster::default();
        let mut lines = Vec::new();
        for &device in &config.devices {
            let seat = roster.reserve(device)?;
            roster.admit(seat.number)?;
            lines.push(seat.ends);
        }
        Ok(Self {
            order: FairOrder::new(BatchLimits {
                max_frames: config.max_batch_frames,
                max_wait: config.max_batch_wait,
                rules: config.scheduling,
            }),
            roster,
            lines,
            ledger: Ledger::new(config.queue_capacity, None),
            jobs: HashMap::new(),
            n_jobs: 0,
        })
    }

    /// Has a job wait, or refuses it. Its number names it in batches.
    ///
    /// # Errors
    /// [`PoolError::QueueFull`], [`PoolError::WaitTooLong`], [`PoolError::NoWorker`].
    pub fn submit(&mut self, job: RehearsedJob, now: Instant) -> Result<u64, PoolError> {
        let admitted = self.admit(&job, now);
        admitted.inspect_err(|error| self.ledger.reject(error))?;
        let RehearsedJob {
            network,
            device,
            n_frames,
            claim,
            frame_cost,
            macs,
        } = job;
        let backlog = &self.ledger.backlog;
        backlog.add(device, &claim, n_frames, frame_cost);
        let id = self.n_jobs;
        self.n_jobs += 1;
        let entry = Entry {
            id: JobId(id),
            network: NetworkId(network),
            device,
            n_frames,
            claim: claim.clone(),
            submitted_at: now,
            frame_cost: Some(frame_cost),
            macs,
        };
        self.order.push(entry, now, &self.roster);
        let waiting = Waiting {
            device,
            claim,
            frame_cost,
            n_left: n_frames,
        };
        self.jobs.insert(id, waiting);
        Ok(id)
    }

    fn admit(&self, job: &RehearsedJob, now: Instant) -> Result<(), PoolError> {
        let RehearsedJob { device, claim, .. } = job;
        let n_workers = self.roster.on(*device).count();
        if n_workers == 0 {
            return Err(PoolError::NoWorker { device: *device });
        }
        let backlog = &self.ledger.backlog;
        check_wait(claim, now, || {
            backlog.expected_wait(*device, claim, n_workers)
        })?;
        self.ledger.admit(claim.work)
    }

    /// What the pool does next. To be called until it says [`RehearsedStep::Wait`].
    pub fn step(&mut self, now: Instant) -> RehearsedStep {
        let assignment = match self.order.next(now, &self.roster) {
            Decision::Wait(until) => return RehearsedStep::Wait(until),
            Decision::Assign(assignment) => assignment,
        };
        let worker = assignment.worker;
        let mut parts = Vec::with_capacity(assignment.parts.len());
        for part in assignment.parts {
            let n_frames = part.frames.len();
            self.note_handed(part.job.0, n_frames);
            parts.push((part.job.0, n_frames));
        }
        let chunks = Vec::new();
        self.roster.hand(worker, Batch { chunks });
        drop(self.lines[worker].batches.try_recv());
        RehearsedStep::Hand(RehearsedBatch { worker, parts })
    }

    fn note_handed(&mut self, job: u64, n_frames: usize) {
        let Some(waiting) = self.jobs.get_mut(&job) else {
            return;
        };
        waiting.n_left -= n_frames.min(waiting.n_left);
        let Waiting {
            device,
            claim,
            frame_cost,
            n_left,
        } = waiting;
        let backlog = &self.ledger.backlog;
        backlog.take(*device, claim, n_frames, *frame_cost);
        if *n_left == 0 {
            self.ledger.settle(Verdict::Completed, Some(claim.work));
            self.jobs.remove(&job);
        }
    }

    /// A worker is done with the batch that it was handed first; it took so much of its time.
    pub fn done(&mut self, worker: usize, took: Duration) {
        self.roster.note_done(worker);
        self.order.done(worker, took);
    }

    /// Jobs that wait, and those that were refused. A job counts as completed when its last frame is handed out.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.ledger.snapshot()
    }

    /// Jobs of a kind that wait.
    #[must_use]
    pub fn n_waiting(&self, work: Work) -> usize {
        self.jobs
            .values()
            .filter(|job| job.claim.work == work)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Recovery, Scheduling, order::policy::TURN};

    const MS: Duration = Duration::from_millis(1);

    fn pool(n_workers: usize, queue_capacity: usize) -> Rehearsal {
        Rehearsal::new(PoolConfig {
            devices: vec![Device::Cpu; n_workers],
            queue_capacity,
            max_batch_frames: 64,
            max_batch_wait: Duration::ZERO,
            scheduling: Scheduling::default(),
            recovery: Recovery::default(),
        })
        .unwrap()
    }

    fn job(n_frames: usize, claim: Claim) -> RehearsedJob {
        RehearsedJob {
            network: 1,
            device: Device::Cpu,
            n_frames,
            claim,
            // Five are a turn.
            frame_cost: TURN / 5,
            macs: 0,
        }
    }

    fn handed(pool: &mut Rehearsal, now: Instant) -> Vec<(usize, u64, usize)> {
        let mut all = Vec::new();
        while let RehearsedStep::Hand(batch) = pool.step(now) {
            let parts = batch.parts.into_iter();
            all.extend(parts.map(|(job, n_frames)| (batch.worker, job, n_frames)));
        }
        all
    }

    #[test]
    fn a_job_is_split_over_the_workers_and_a_session_goes_before_calls() {
        let now = Instant::now();
        let mut pool = pool(2, 8);
        let call = pool.submit(job(20, Claim::default()), now).unwrap();
        assert_eq!(handed(&mut pool, now), [(0, call, 5), (1, call, 5)]);
        let live = Claim {
            work: Work::Live,
            ..Claim::default()
        };
        let live = pool.submit(job(8, live), now).unwrap();
        assert_eq!(handed(&mut pool, now), [], "both are busy");
        for worker in [0, 1] {
            pool.done(worker, 100 * MS);
        }
        assert_eq!(handed(&mut pool, now), [(0, live, 4), (1, live, 4)]);
        for worker in [0, 1] {
            pool.done(worker, 40 * MS);
        }
        assert_eq!(handed(&mut pool, now), [(0, call, 5), (1, call, 5)]);
        assert_eq!(pool.stats().queue_depth, 0);
    }

    #[test]
    fn what_would_wait_too_long_or_finds_no_place_is_refused() {
        let now = Instant::now();
        let mut pool = pool(1, 2);
        pool.submit(job(5, Claim::default()), now).unwrap();
        assert_eq!(handed(&mut pool, now).len(), 1);
        pool.submit(job(10, Claim::default()), now).unwrap();
        let hurried = Claim {
            max_wait: Some(TURN),
            ..Claim::default()
        };
        let refused = pool.submit(job(1, hurried), now).unwrap_err();
        assert!(matches!(refused, PoolError::WaitTooLong { expected, .. } if expected == 2 * TURN));
        pool.submit(job(5, Claim::default()), now).unwrap();
        let refused = pool.submit(job(5, Claim::default()), now).unwrap_err();
        assert!(matches!(refused, PoolError::QueueFull { capacity: 2 }));
        assert_eq!(pool.n_waiting(Work::Unary), 2);
        assert_eq!((pool.stats().rejected, pool.stats().shed), (2, 1));
    }
}
