//! The pool: starting, submitting, stopping.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use lipsync_core::sync::lock;
use lipsync_engine::{Device, Generator, MakeRoom};
use lipsync_telemetry::HistogramSnapshot;
use tokio::sync::watch;

use crate::{
    Claim, FrameCost, Job, JobHandle, LostDevice, NetworkHealth, PoolError, PoolStats, Recovery,
    backlog::check_wait,
    cost::thread_time,
    dispatcher::{Channels, Dispatcher, MAX_NOTICES, Notice},
    membership::{Hiring, spawn},
    order::{BatchLimits, FairOrder, Scheduling},
    roster::SharedRoster,
    stats::Ledger,
    task::Task,
};

/// Longest pause between two looks for what may come without a word: a place in the queue, the pool's end.
pub(crate) const MAX_PAUSE: Duration = Duration::from_millis(50);

/// How large a pool is, and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// The device of each worker that the pool starts with, at least one.
    /// Jobs go only to workers of the device that their generator was loaded for.
    pub devices: Vec<Device>,
    /// Jobs of calls that may wait, and as many of sessions; at least 1.
    pub queue_capacity: usize,
    /// Frames of one executed batch at most, at least 1.
    pub max_batch_frames: usize,
    /// How long a job may be held back for others of its model to share its batch, while every worker of
    /// its device is busy. Zero: not at all; what waits at the same moment shares a batch even then. On
    /// the CPU, where sharing gains nothing, batches are never shared.
    pub max_batch_wait: Duration,
    /// What holds for networks that are slow or large.
    pub scheduling: Scheduling,
    /// What is tried before something fails.
    pub recovery: Recovery,
}

/// Worker threads that run generators, behind one bounded queue.
///
/// Besides the jobs in the queue, each worker holds up to two batches: one that runs, one that is
/// next. A job whose last chunk has got that far has left the queue.
#[derive(Debug)]
pub struct WorkerPool {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) roster: Arc<SharedRoster>,
    control: Mutex<Control>,
    /// Disconnected when all threads have ended; never has a message.
    ended: Receiver<Infallible>,
    queue_capacity: usize,
    pub(crate) max_batch_frames: usize,
}

/// What stopping takes away, step by step.
struct Control {
    /// Gone once the pool stops accepting.
    open: Option<Open>,
    /// Gone once the pool is abandoned.
    abandon: Option<Sender<Infallible>>,
    dispatcher: Option<JoinHandle<()>>,
}

/// What an open pool takes in.
struct Open {
    /// Jobs, to the dispatcher.
    queue: Sender<Arc<Task>>,
    /// Workers.
    hiring: Hiring,
}

impl WorkerPool {
    /// Starts the threads `lipsync-dispatch` and `lipsync-worker-0` and up. `room` is asked for memory
    /// when a device has too little; `Arc::new(())` gives none.
    ///
    /// # Errors
    /// [`PoolError::BadConfig`] where a setting is 0, [`PoolError::Spawn`] if the operating system
    /// refuses a thread.
    pub fn start(config: PoolConfig, room: Arc<dyn MakeRoom>) -> Result<Self, PoolError> {
        config.check()?;
        let ledger = Arc::new(Ledger::new(config.queue_capacity, config.recovery.breaker));
        let roster = Arc::new(SharedRoster::default());
        // Jobs of calls, and as many of sessions.
        let (queue_tx, queue) = bounded(config.queue_capacity.saturating_mul(2));
        let (abandon_tx, abandon) = bounded(0);
        let (ended_tx, ended) = bounded(0);
        let (notices_tx, notices) = bounded(MAX_NOTICES);
        let channels = Channels {
            queue,
            notices,
            abandon,
        };
        let order = Box::new(FairOrder::new(BatchLimits {
            max_frames: config.max_batch_frames,
            max_wait: config.max_batch_wait,
            rules: config.scheduling,
        }));
        let (of_dispatcher, counted) = (Arc::clone(&roster), Arc::clone(&ledger));
        // If a thread is refused, it is dropped, which lets go of the workers that there are.
        let dispatcher = Dispatcher::new(channels, order, of_dispatcher, counted);
        let hiring = Hiring {
            roster: Arc::clone(&roster),
            ledger: Arc::clone(&ledger),
            room,
            recovery: config.recovery,
            notices: notices_tx,
            ended: ended_tx,
        };
        for &device in &config.devices {
            let worker = hiring.hire(device)?;
            roster.lock().admit(worker)?;
        }
        let name = "lipsync-dispatch".to_owned();
        let dispatcher = spawn(name, &hiring.ended, move || dispatcher.run())?;
        Ok(Self {
            ledger,
            roster,
            control: Mutex::new(Control {
                open: Some(Open {
                    queue: queue_tx,
                    hiring,
                }),
                abandon: Some(abandon_tx),
                dispatcher: Some(dispatcher),
            }),
            ended,
            queue_capacity: config.queue_capacity,
            max_batch_frames: config.max_batch_frames,
        })
    }

    /// Puts a job into the queue, or refuses it; never waits for room.
    ///
    /// # Errors
    /// - [`PoolError::BadJob`]: no frames, or buffers that do not fit the generator.
    /// - [`PoolError::QueueFull`]: all places are taken.
    /// - [`PoolError::WaitTooLong`]: a call would not be begun in time.
    /// - [`PoolError::KeepsFailing`]: its network is refused for a while.
    /// - [`PoolError::NoWorker`], [`PoolError::DeviceLost`]: nothing can be run on its device.
    /// - [`PoolError::ShuttingDown`]: the pool accepts nothing any more.
    /// - [`PoolError::Lost`]: the dispatcher is gone, which is a fault of the pool.
    pub fn submit(&self, job: Job) -> Result<JobHandle, PoolError> {
        let checked = self.check(&job).and_then(|()| self.check_wait(&job));
        let result = checked.and_then(|()| self.enqueue(job));
        result.inspect_err(|error| self.ledger.reject(error))
    }

    /// As [`submit`](Self::submit), but waits while all places are taken, in turn with others that
    /// wait. Dropping the future gives up; a job that waits here is in no counter yet.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), without [`PoolError::QueueFull`].
    pub async fn submit_when_free(&self, job: Job) -> Result<JobHandle, PoolError> {
        loop {
            let result = self.check(&job).and_then(|()| self.enqueue(job.clone()));
            if !matches!(result, Err(PoolError::QueueFull { .. })) {
                return result.inspect_err(|error| self.ledger.reject(error));
            }
            // The bound is for places that free themselves without a word: jobs that were cancelled
            // in the channel. The pool's own end is noticed by it as well.
            let freed = self.ledger.freed();
            drop(tokio::time::timeout(MAX_PAUSE, freed).await);
        }
    }

    /// Does `run`, which runs one frame of a network on this thread, and takes note of the processor time. So
    /// the first job of a network is cut as well as the next; without it, it is split over the workers as if
    /// frames cost nothing.
    pub fn time_frame<T>(&self, generator: &Arc<dyn Generator>, run: impl FnOnce() -> T) -> T {
        let start = thread_time();
        let done = run();
        let busy = thread_time().saturating_sub(start);
        self.ledger.costs.note(generator, 1, busy);
        done
    }

    fn check(&self, job: &Job) -> Result<(), PoolError> {
        job.check()?;
        let device = job.generator.device();
        if self.ledger.is_lost(device) {
            return Err(PoolError::DeviceLost { device });
        }
        let roster = self.roster.lock();
        if roster.has(device) {
            return Ok(());
        }
        let is_closed = roster.is_closed();
        drop(roster);
        // All are let go of when the pool stops, and when it is broken.
        self.hiring()?;
        Err(if is_closed {
            PoolError::Lost
        } else {
            PoolError::NoWorker { device }
        })
    }

    fn check_wait(&self, job: &Job) -> Result<(), PoolError> {
        let claim = &job.claim;
        check_wait(claim, Instant::now(), || {
            self.expected_wait(job.generator.device(), claim)
        })
    }

    /// How long a job with this claim that came now would wait before it is begun, at least, by what is known of the
    /// work that waits.
    #[must_use]
    pub fn expected_wait(&self, device: Device, claim: &Claim) -> Duration {
        let n_workers = self.roster.lock().on(device).count();
        self.ledger.backlog.expected_wait(device, claim, n_workers)
    }

    /// Has no batch have more frames than this, from those on that are not handed to a worker yet. It never lifts
    /// [`PoolConfig::max_batch_frames`]: so any large number takes the limit back. Changes no frame.
    ///
    /// # Errors
    /// [`PoolError::ShuttingDown`]
    pub fn limit_batches(&self, max_frames: usize) -> Result<(), PoolError> {
        let notice = Notice::LimitBatches { max_frames };
        let sent = self.hiring()?.notices.send(notice);
        sent.map_err(|_| PoolError::ShuttingDown)
    }

    /// Frames of one batch at most, as it was started.
    #[must_use]
    pub fn max_batch_frames(&self) -> usize {
        self.max_batch_frames
    }

    /// How a network fares.
    #[must_use]
    pub fn health(&self, generator: &Arc<dyn Generator>) -> NetworkHealth {
        self.ledger.healths.of(generator)
    }

    /// Changes whenever a network begins or ceases to be refused.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<u64> {
        self.ledger.healths.watch()
    }

    fn enqueue(&self, job: Job) -> Result<JobHandle, PoolError> {
        let control = self.control();
        let open = control.open.as_ref().ok_or(PoolError::ShuttingDown)?;
        self.ledger.admit_to(&job.generator)?;
        if let Err(error) = self.ledger.admit(job.claim.work) {
            self.ledger.note_job(&job.generator, None);
            return Err(error);
        }
        let (task, handle) = Task::accept(job, Arc::clone(&self.ledger));
        let sent = open.queue.try_send(task);
        drop(control);
        match sent {
            Ok(()) => Ok(handle),
            // There was a place, but jobs that were cancelled a moment ago are still in the way.
            Err(TrySendError::Full(task)) => {
                task.withdraw();
                let capacity = self.queue_capacity;
                Err(PoolError::QueueFull { capacity })
            }
            Err(TrySendError::Disconnected(task)) => {
                task.withdraw();
                Err(PoolError::Lost)
            }
        }
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let workers = self.roster.lock().figures();
        PoolStats {
            workers,
            ..self.ledger.snapshot()
        }
    }

    /// Frames of the batches that were run.
    #[must_use]
    pub fn batch_frames(&self) -> HistogramSnapshot {
        self.ledger.batch_frames.snapshot()
    }

    /// What a frame of a network takes, as measured; `None` where it has not run yet.
    #[must_use]
    pub fn frame_cost(&self, generator: &Arc<dyn Generator>) -> Option<FrameCost> {
        self.ledger.costs.of(generator)
    }

    /// The first device that failed for good; `None` as long as there is none.
    #[must_use]
    pub fn lost_device(&self) -> watch::Receiver<Option<LostDevice>> {
        self.ledger.lost()
    }

    /// Says that a device has failed for good, noticed elsewhere than in a run: nothing is run on it any
    /// more.
    pub fn report_lost(&self, device: Device, reason: &str) {
        self.ledger.lose(device, reason.to_owned());
    }

    /// Stops accepting jobs, waits until all accepted ones have ended, and joins the threads.
    ///
    /// When `grace` is over, jobs with a chunk that has not been started fail with
    /// [`PoolError::ShuttingDown`], and the call returns. A frame that is running at that moment
    /// cannot be interrupted: its thread is left behind, still answers if that completes a job, and
    /// ends. The call blocks, so it does not belong on a thread of an async runtime.
    pub fn shutdown(&self, grace: Duration) {
        drop(self.control().open.take());
        let all_ended = match Instant::now().checked_add(grace) {
            Some(deadline) => {
                self.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Disconnected)
            }
            None => self.ended.recv().is_err(),
        };
        for worker in self.abandon() {
            if all_ended || worker.is_finished() {
                join(worker);
            }
        }
    }

    /// Fails what waits, joins the dispatcher and gives the workers, which end after their chunk.
    fn abandon(&self) -> Vec<JoinHandle<()>> {
        let mut control = self.control();
        control.open = None;
        control.abandon = None;
        let dispatcher = control.dispatcher.take();
        drop(control);
        if let Some(dispatcher) = dispatcher {
            join(dispatcher);
        }
        let mut roster = self.roster.lock();
        let (waiting, workers) = (roster.take_waiting(), roster.take_threads());
        drop(roster);
        for chunk in waiting {
            chunk.task.fail(PoolError::ShuttingDown);
        }
        workers
    }

    /// What a worker needs that joins.
    pub(crate) fn hiring(&self) -> Result<Hiring, PoolError> {
        let control = self.control();
        let open = control.open.as_ref().ok_or(PoolError::ShuttingDown)?;
        Ok(open.hiring.clone())
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("is_open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

impl Drop for WorkerPool {
    /// Fails what waits and joins all threads, which waits for the chunks that run; after
    /// [`shutdown`](Self::shutdown) there is nothing left to wait for.
    fn drop(&mut self) {
        self.abandon().into_iter().for_each(join);
    }
}

impl PoolConfig {
    /// Refuses settings that cannot work.
    pub(crate) fn check(&self) -> Result<(), PoolError> {
        let settings = [
            ("worker count", self.devices.len()),
            ("queue capacity", self.queue_capacity),
            ("batch size", self.max_batch_frames),
        ];
        for (setting, value) in settings {
            if value == 0 {
                return Err(PoolError::BadConfig { setting });
            }
        }
        Ok(())
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the worker pool panicked");
    }
}
