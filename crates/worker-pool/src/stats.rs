//! What the pool counts.
//!
//! What becomes of jobs is behind one lock that is held for a few additions at a time, so a snapshot is a
//! state that really existed: in each, `submitted = completed + failed + cancelled + in_flight`.
//! Each worker counts for itself. Whether a device is lost is told here, too: it is the one thing of the pool
//! that others watch.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use lipsync_core::sync::lock;
use lipsync_engine::{Device, Generator};
use lipsync_telemetry::{Buckets, Histogram};
use tokio::sync::{Notify, watch};

use crate::{
    BreakerRules, PoolError, RecoveryStats, Work,
    backlog::Backlog,
    breaker::Healths,
    cost::Costs,
    face::{MAX_SPARE_FACES, SpareFaces},
    order::policy::Closed,
};

/// Counters of a pool at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Places in the queue for jobs of calls. Jobs of sessions have as many of their own.
    pub queue_capacity: usize,
    /// Jobs in the queue: accepted, with a chunk that no worker has been handed yet.
    pub queue_depth: usize,
    /// Those of them that are of sessions.
    pub live_depth: usize,
    /// Jobs accepted so far.
    pub submitted: u64,
    /// Accepted jobs that have not ended; those in the queue are among them.
    pub in_flight: u64,
    /// Jobs that ended with all their faces.
    pub completed: u64,
    /// Jobs that ended with an error.
    pub failed: u64,
    /// Jobs refused by `submit`, for any reason; they are not among `submitted`.
    pub rejected: u64,
    /// Jobs whose handle was dropped before they ended.
    pub cancelled: u64,
    /// One entry for each number that a worker has had, by number. One that has left is
    /// [not here](WorkerStats::is_here), but counts in every total.
    pub workers: Vec<WorkerStats>,
    /// Batches on devices where jobs of one model share them.
    pub shared: SharedBatches,
    /// Calls that were refused because they would have waited for too long; they are among the rejected ones.
    pub shed: u64,
    /// What was done about failures.
    pub recovery: RecoveryStats,
    /// How long jobs have taken.
    pub times: JobTimes,
}

/// Times of jobs so far, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobTimes {
    /// Jobs that a worker has begun.
    pub n_begun: u64,
    /// Their waits for it.
    pub waited: Duration,
    /// Jobs that were completed.
    pub n_done: u64,
    /// Their times from `submit` to the end.
    pub lasted: Duration,
    /// Jobs that came with at least a frame for each worker, on devices where jobs are cut for all of them.
    pub n_wide: u64,
}

impl PoolStats {
    /// Workers that there are now.
    #[must_use]
    pub fn n_workers(&self) -> usize {
        self.workers.iter().filter(|worker| worker.is_here).count()
    }
}

/// Batches on devices where jobs share them, by what closed them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedBatches {
    /// They had their share of what waited, or as many frames as a batch may have.
    pub full: u64,
    /// A worker was idle and nothing else waited: they went at once.
    pub idle: u64,
    /// All workers were busy, and they had been held back for
    /// [`max_batch_wait`](crate::PoolConfig::max_batch_wait).
    pub wait_over: u64,
}

/// A device that failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostDevice {
    /// Which one.
    pub device: Device,
    /// What it reported.
    pub reason: String,
}

/// Counters of one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// Where it runs networks.
    pub device: Device,
    /// Whether there is a worker of this number now. If not, the next one that joins for the device takes the
    /// number, and these counters go on.
    pub is_here: bool,
    /// Batches run, whatever came of them.
    pub batches: u64,
    /// Frames that came out of them.
    pub frames: u64,
    /// Work of these frames, 10^6 multiply-adds; at least 1 for each frame.
    pub work: u64,
    /// Time spent running them.
    pub busy: Duration,
    /// How often the worker was rebuilt after a panic.
    pub restarts: u64,
    /// How often its workspace was rebuilt after a fault of the device.
    pub faults: u64,
    /// Runs for which the device had no memory.
    pub out_of_memory: u64,
}

impl PoolStats {
    fn leave_queue(&mut self, work: Work) {
        self.queue_depth -= 1;
        self.live_depth -= usize::from(work == Work::Live);
    }
}

/// How an accepted job ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Completed,
    Failed {
        /// Because its network does not work.
        by_network: bool,
    },
    Cancelled,
    /// It was never really accepted: the count of its acceptance is taken back.
    Withdrawn,
}

/// The counters of one worker while the pool lives; it outlasts the worker.
#[derive(Debug)]
pub(crate) struct WorkerFigures(Mutex<WorkerStats>);

impl WorkerFigures {
    pub(crate) fn new(device: Device) -> Self {
        Self(Mutex::new(WorkerStats {
            device,
            ..WorkerStats::default()
        }))
    }

    pub(crate) fn update(&self, update: impl FnOnce(&mut WorkerStats)) {
        update(&mut lock(&self.0));
    }

    pub(crate) fn snapshot(&self) -> WorkerStats {
        *lock(&self.0)
    }
}

/// The counters of the jobs while the pool lives.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Without those of the workers.
    stats: Mutex<PoolStats>,
    /// A place in the queue has become free.
    freed: Notify,
    /// The first device that was lost.
    lost: watch::Sender<Option<LostDevice>>,
    /// What networks cost.
    pub(crate) costs: Costs,
    /// Frames of the batches that something came of.
    pub(crate) batch_frames: Histogram,
    /// How networks fare.
    pub(crate) healths: Healths,
    /// What waits.
    pub(crate) backlog: Backlog,
    /// Memory for faces of GPUs.
    pub(crate) spare_faces: Arc<SpareFaces>,
    /// Whether networks that keep failing are refused.
    breaks_circuits: bool,
}

impl Ledger {
    /// Nothing counted yet.
    pub(crate) fn new(queue_capacity: usize, breaker: Option<BreakerRules>) -> Self {
        Self {
            stats: Mutex::new(PoolStats {
                queue_capacity,
                ..PoolStats::default()
            }),
            freed: Notify::new(),
            lost: watch::Sender::new(None),
            costs: Costs::default(),
            batch_frames: Histogram::new(&Buckets::FRAMES),
            healths: Healths::new(breaker.unwrap_or_default()),
            backlog: Backlog::default(),
            spare_faces: SpareFaces::new(MAX_SPARE_FACES),
            breaks_circuits: breaker.is_some(),
        }
    }

    /// The counters of the jobs now; those of the workers are on the roster.
    pub(crate) fn snapshot(&self) -> PoolStats {
        self.lock().clone()
    }

    /// Takes a place in the queue for one job. Jobs of sessions and of calls have as many places each: however many
    /// sessions wait, a call finds the queue no fuller.
    pub(crate) fn admit(&self, work: Work) -> Result<(), PoolError> {
        let mut stats = self.lock();
        let n_like = match work {
            Work::Live => stats.live_depth,
            Work::Unary => stats.queue_depth - stats.live_depth,
        };
        if n_like >= stats.queue_capacity {
            let capacity = stats.queue_capacity;
            return Err(PoolError::QueueFull { capacity });
        }
        stats.queue_depth += 1;
        stats.live_depth += usize::from(work == Work::Live);
        stats.submitted += 1;
        stats.in_flight += 1;
        Ok(())
    }

    /// A job was refused.
    pub(crate) fn reject(&self, error: &PoolError) {
        let mut stats = self.lock();
        stats.rejected += 1;
        match error {
            PoolError::WaitTooLong { .. } => stats.shed += 1,
            PoolError::KeepsFailing { .. } => stats.recovery.breaker_refused += 1,
            _ => {}
        }
    }

    /// Adds to the times of jobs.
    pub(crate) fn times(&self, update: impl FnOnce(&mut JobTimes)) {
        update(&mut self.lock().times);
    }

    /// Counts what is done about failures.
    pub(crate) fn recovery(&self, update: impl FnOnce(&mut RecoveryStats)) {
        update(&mut self.lock().recovery);
    }

    /// Lets a job of a network in, unless that keeps failing.
    pub(crate) fn admit_to(&self, generator: &Arc<dyn Generator>) -> Result<(), PoolError> {
        if !self.breaks_circuits {
            return Ok(());
        }
        let admitted = self.healths.admit(generator, Instant::now());
        admitted.map_err(|retry| PoolError::KeepsFailing { retry })
    }

    /// A job that was let in has ended; see [`Healths::note`].
    pub(crate) fn note_job(&self, generator: &Arc<dyn Generator>, is_success: Option<bool>) {
        if !self.breaks_circuits {
            return;
        }
        if let Some(change) = self.healths.note(generator, is_success, Instant::now()) {
            self.recovery(|stats| stats.note(change));
        }
    }

    /// Gives the place of one job back.
    pub(crate) fn leave_queue(&self, work: Work) {
        self.lock().leave_queue(work);
        self.freed.notify_one();
    }

    /// Returns when a place in the queue has become free since the last one that waited was told.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// A job has ended, which waited in the queue until now if `queued` says as what.
    pub(crate) fn settle(&self, verdict: Verdict, queued: Option<Work>) {
        let mut stats = self.lock();
        stats.in_flight -= 1;
        if let Some(work) = queued {
            stats.leave_queue(work);
        }
        match verdict {
            Verdict::Completed => stats.completed += 1,
            Verdict::Failed { .. } => stats.failed += 1,
            Verdict::Cancelled => stats.cancelled += 1,
            Verdict::Withdrawn => stats.submitted -= 1,
        }
        drop(stats);
        if queued.is_some() {
            self.freed.notify_one();
        }
    }

    pub(crate) fn close_batch(&self, closed: Closed) {
        let shared = &mut self.lock().shared;
        *match closed {
            Closed::Full => &mut shared.full,
            Closed::Idle => &mut shared.idle,
            Closed::WaitOver => &mut shared.wait_over,
        } += 1;
    }

    /// Nothing is run any more on any worker of this device.
    pub(crate) fn lose(&self, device: Device, reason: String) {
        self.lost.send_if_modified(|lost| {
            let is_first = lost.is_none();
            lost.get_or_insert(LostDevice { device, reason });
            is_first
        });
    }

    pub(crate) fn is_lost(&self, device: Device) -> bool {
        self.lost
            .borrow()
            .as_ref()
            .is_some_and(|lost| lost.device == device)
    }

    pub(crate) fn lost(&self) -> watch::Receiver<Option<LostDevice>> {
        self.lost.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, PoolStats> {
        lock(&self.stats)
    }
}
