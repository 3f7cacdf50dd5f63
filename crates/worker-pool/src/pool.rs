//! The pool: starting, submitting, stopping.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use lipsync_core::sync::lock;
use lipsync_engine::{Device, Generator, Workspace};
use tokio::sync::watch;

use crate::{
    Job, JobHandle, LostDevice, PoolError, PoolStats,
    arenas::Arenas,
    dispatcher::{BatchLimits, Channels, Dispatcher},
    execute::{Ceiling, Executor, MakeRoom},
    pace::thread_time,
    policy::MAX_LOAD,
    stats::Ledger,
    task::{Batch, Task},
    warm_up::{self, WarmUp},
    worker::Worker,
};

/// Longest pause between two looks for a place in the queue.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// How large a pool is, and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// The device of each worker thread, at least one; 4 to 8 a device are recommended. Jobs go only to
    /// workers of the device that their generator was loaded for.
    pub devices: Vec<Device>,
    /// Jobs that may wait, at least 1.
    pub queue_capacity: usize,
    /// Frames of one executed batch at most, at least 1.
    pub max_batch_frames: usize,
    /// How long a job may be held back for others of its model to share its batch, while every worker of
    /// its device is busy. Zero: not at all; what waits at the same moment shares a batch even then. On
    /// the CPU, where sharing gains nothing, batches are never shared.
    pub max_batch_wait: Duration,
}

/// Worker threads that run generators, behind one bounded queue.
///
/// Besides the jobs in the queue, each worker holds up to two batches: one that runs, one that is
/// next. A job whose last chunk has got that far has left the queue.
#[derive(Debug)]
pub struct WorkerPool {
    ledger: Arc<Ledger>,
    control: Mutex<Control>,
    /// Second ends of the workers' channels: what waits there is failed when the pool is abandoned.
    slots: Vec<Receiver<Batch>>,
    /// Disconnected when all threads have ended; never has a message.
    ended: Receiver<Infallible>,
    queue_capacity: usize,
    max_batch_frames: usize,
    /// To the workers, with the device of each.
    warm_ups: Vec<(Device, Sender<WarmUp>)>,
}

/// What stopping takes away, step by step.
#[derive(Debug)]
struct Control {
    /// To the dispatcher; gone once the pool stops accepting.
    queue: Option<Sender<Arc<Task>>>,
    /// Gone once the pool is abandoned.
    abandon: Option<Sender<Infallible>>,
    threads: Option<Threads>,
}

#[derive(Debug)]
struct Threads {
    dispatcher: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
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
        let n_workers = config.devices.len();
        let ledger = Arc::new(Ledger::new(config.queue_capacity, &config.devices));
        let (queue_tx, queue) = bounded(config.queue_capacity);
        let (abandon_tx, abandon) = bounded(0);
        let (ended_tx, ended) = bounded(0);
        let (freed_tx, freed) = bounded(n_workers.saturating_mul(MAX_LOAD));
        let (dispatching_tx, dispatching) = bounded(0);
        let mut workers = Vec::with_capacity(n_workers);
        for (worker, &device) in config.devices.iter().enumerate() {
            let (ledger, room) = (Arc::clone(&ledger), Arc::clone(&room));
            let executor = move || Executor {
                worker,
                device,
                ledger,
                room,
                workspace: Workspace::new(),
                ceiling: Ceiling::none(),
                arenas: Arenas::default(),
            };
            let name = format!("lipsync-worker-{worker}");
            let channels = (dispatching.clone(), freed_tx.clone());
            workers.push(WorkerEnds::spawn(name, executor, channels, &ended_tx)?);
        }
        let channels = Channels {
            queue,
            freed,
            abandon,
            workers: workers.iter().map(|w| w.batches.clone()).collect(),
        };
        let limits = BatchLimits {
            max_frames: config.max_batch_frames,
            max_wait: config.max_batch_wait,
        };
        let dispatcher = Dispatcher::new(channels, &config.devices, limits, Arc::clone(&ledger));
        let name = "lipsync-dispatch".to_owned();
        let dispatcher = spawn(name, &ended_tx, move || dispatcher.run(dispatching_tx))?;
        let (mut threads, mut slots, mut warm_ups) = (Vec::new(), Vec::new(), Vec::new());
        for (worker, &device) in workers.into_iter().zip(&config.devices) {
            threads.push(worker.thread);
            slots.push(worker.slot);
            warm_ups.push((device, worker.warm_ups));
        }
        Ok(Self {
            ledger,
            control: Mutex::new(Control {
                queue: Some(queue_tx),
                abandon: Some(abandon_tx),
                threads: Some(Threads {
                    dispatcher,
                    workers: threads,
                }),
            }),
            slots,
            ended,
            queue_capacity: config.queue_capacity,
            max_batch_frames: config.max_batch_frames,
            warm_ups,
        })
    }

    /// Puts a job into the queue, or refuses it; never waits for room.
    ///
    /// # Errors
    /// - [`PoolError::BadJob`]: no frames, or buffers that do not fit the generator.
    /// - [`PoolError::QueueFull`]: all places are taken.
    /// - [`PoolError::NoWorker`], [`PoolError::DeviceLost`]: nothing can be run on its device.
    /// - [`PoolError::ShuttingDown`]: the pool accepts nothing any more.
    /// - [`PoolError::Lost`]: the dispatcher is gone, which is a fault of the pool.
    pub fn submit(&self, job: Job) -> Result<JobHandle, PoolError> {
        let result = self.check(&job).and_then(|()| self.enqueue(job));
        result.inspect_err(|_| self.ledger.reject())
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
                return result.inspect_err(|_| self.ledger.reject());
            }
            // The bound is for places that free themselves without a word: jobs that were cancelled
            // in the channel. The pool's own end is noticed by it as well.
            let freed = self.ledger.freed();
            drop(tokio::time::timeout(MAX_PAUSE, freed).await);
        }
    }

    /// Gets every worker of the generator's device ready for batches of any size; blocks until all are.
    ///
    /// # Errors
    /// [`PoolError::Engine`], [`PoolError::Panicked`], [`PoolError::OutOfMemory`] or
    /// [`PoolError::DeviceLost`]: a worker cannot run it. [`PoolError::NoWorker`], and
    /// [`PoolError::ShuttingDown`].
    pub fn warm_up(&self, generator: &Arc<dyn Generator>) -> Result<(), PoolError> {
        let device = generator.device();
        let workers = self.warm_ups.iter().filter(|(of, _)| *of == device);
        let n_workers = workers.clone().count();
        if n_workers == 0 {
            return Err(PoolError::NoWorker { device });
        }
        let (orders, replies) = WarmUp::orders(generator, self.max_batch_frames, n_workers);
        for ((_, worker), order) in workers.zip(orders) {
            worker.send(order).map_err(|_| PoolError::ShuttingDown)?;
        }
        // Of a worker that ended there is no reply, but the others' end the wait.
        for _ in 0..n_workers {
            replies.recv().map_err(|_| PoolError::ShuttingDown)??;
        }
        Ok(())
    }

    /// Does `run`, which runs one frame of a network on this thread, and takes note of the processor time. So
    /// the first job of a network is cut as well as the next; without it, it is split over the workers as if
    /// frames cost nothing.
    pub fn time_frame<T>(&self, generator: &Arc<dyn Generator>, run: impl FnOnce() -> T) -> T {
        let start = thread_time();
        let done = run();
        let busy = thread_time().saturating_sub(start);
        self.ledger.paces.note(generator, 1, busy);
        done
    }

    fn check(&self, job: &Job) -> Result<(), PoolError> {
        job.check()?;
        let device = job.generator.device();
        if !self.warm_ups.iter().any(|(of, _)| *of == device) {
            return Err(PoolError::NoWorker { device });
        }
        if self.ledger.is_lost(device) {
            return Err(PoolError::DeviceLost { device });
        }
        Ok(())
    }

    fn enqueue(&self, job: Job) -> Result<JobHandle, PoolError> {
        let control = self.control();
        let queue = control.queue.as_ref().ok_or(PoolError::ShuttingDown)?;
        self.ledger.admit()?;
        let (task, handle) = Task::accept(job, Arc::clone(&self.ledger));
        let sent = queue.try_send(task);
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
        self.ledger.snapshot()
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
        drop(self.control().queue.take());
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
        control.queue = None;
        control.abandon = None;
        let threads = control.threads.take();
        drop(control);
        let Some(threads) = threads else {
            return Vec::new();
        };
        join(threads.dispatcher);
        let batches = self.slots.iter().flat_map(Receiver::try_iter);
        for chunk in batches.flat_map(|batch| batch.chunks) {
            chunk.task.fail(PoolError::ShuttingDown);
        }
        threads.workers
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }
}

impl Drop for WorkerPool {
    /// Fails what waits and joins all threads, which waits for the chunks that run; after
    /// [`shutdown`](Self::shutdown) there is nothing left to wait for.
    fn drop(&mut self) {
        self.abandon().into_iter().for_each(join);
    }
}

/// What the pool has of a worker.
struct WorkerEnds {
    batches: Sender<Batch>,
    slot: Receiver<Batch>,
    warm_ups: Sender<WarmUp>,
    thread: JoinHandle<()>,
}

impl WorkerEnds {
    /// The executor is made on the worker's own thread: a workspace never leaves it.
    fn spawn(
        name: String,
        executor: impl FnOnce() -> Executor + Send + 'static,
        (dispatching, freed): (Receiver<Infallible>, Sender<usize>),
        ended: &Sender<Infallible>,
    ) -> Result<Self, PoolError> {
        let (batches, slot) = bounded(MAX_LOAD);
        let (warm_ups, orders) = bounded(warm_up::MAX_WAITING);
        let chunks = slot.clone();
        let run = move || Worker::new(chunks, dispatching, freed, orders, executor()).run();
        Ok(Self {
            batches,
            slot,
            warm_ups,
            thread: spawn(name, ended, run)?,
        })
    }
}

impl PoolConfig {
    fn check(&self) -> Result<(), PoolError> {
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
        let mut devices = self.devices.clone();
        devices.sort_unstable();
        for of_one in devices.chunk_by(|a, b| a == b) {
            let (device, n_workers) = (of_one[0], of_one.len());
            if !(4..=8).contains(&n_workers) {
                tracing::warn!(%device, n_workers, "4 to 8 workers are recommended");
            }
        }
        Ok(())
    }
}

/// Starts a thread that keeps `ended` connected while it runs.
fn spawn(
    name: String,
    ended: &Sender<Infallible>,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, PoolError> {
    let ended = ended.clone();
    let run = move || {
        body();
        drop(ended);
    };
    let thread = thread::Builder::new().name(name);
    thread.spawn(run).map_err(PoolError::Spawn)
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the worker pool panicked");
    }
}
