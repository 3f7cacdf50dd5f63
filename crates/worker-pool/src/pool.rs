//! The pool: starting, submitting, stopping.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use crate::{
    Job, JobHandle, PoolError, PoolStats,
    dispatcher::{Channels, Dispatcher},
    policy::MAX_LOAD,
    stats::Ledger,
    task::{Chunk, Task},
    worker::Worker,
};

/// Longest pause between two looks for a place in the queue.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// How large a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Worker threads, at least 1; 4 to 8 are recommended.
    pub n_workers: usize,
    /// Jobs that may wait, at least 1.
    pub queue_capacity: usize,
    /// Frames of one executed batch at most, at least 1.
    pub max_batch_frames: usize,
}

/// Worker threads that run generators, behind one bounded queue.
///
/// Besides the jobs in the queue, each worker holds up to two chunks: one that runs, one that is
/// next. A job whose last chunk has got that far has left the queue.
#[derive(Debug)]
pub struct WorkerPool {
    ledger: Arc<Ledger>,
    control: Mutex<Control>,
    /// Second ends of the workers' channels: what waits there is failed when the pool is abandoned.
    slots: Vec<Receiver<Chunk>>,
    /// Disconnected when all threads have ended; never has a message.
    ended: Receiver<Infallible>,
    queue_capacity: usize,
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
    /// Starts the threads `lipsync-dispatch` and `lipsync-worker-0` and up.
    ///
    /// # Errors
    /// [`PoolError::BadConfig`] where a setting is 0, [`PoolError::Spawn`] if the operating system
    /// refuses a thread.
    pub fn start(config: PoolConfig) -> Result<Self, PoolError> {
        config.check()?;
        let n_workers = config.n_workers;
        let ledger = Arc::new(Ledger::new(config.queue_capacity, n_workers));
        let (queue_tx, queue) = bounded(config.queue_capacity);
        let (abandon_tx, abandon) = bounded(0);
        let (ended_tx, ended) = bounded(0);
        let (freed_tx, freed) = bounded(n_workers.saturating_mul(MAX_LOAD));
        let mut workers = Vec::with_capacity(n_workers);
        let mut slots = Vec::with_capacity(n_workers);
        let mut senders = Vec::with_capacity(n_workers);
        for index in 0..n_workers {
            let (sender, slot) = bounded(MAX_LOAD);
            let worker = Worker::new(index, slot.clone(), freed_tx.clone(), Arc::clone(&ledger));
            let name = format!("lipsync-worker-{index}");
            workers.push(spawn(name, &ended_tx, move || worker.run())?);
            slots.push(slot);
            senders.push(sender);
        }
        let channels = Channels {
            queue,
            freed,
            abandon,
            workers: senders,
        };
        let dispatcher = Dispatcher::new(channels, config.max_batch_frames);
        let name = "lipsync-dispatch".to_owned();
        let dispatcher = spawn(name, &ended_tx, move || dispatcher.run())?;
        Ok(Self {
            ledger,
            control: Mutex::new(Control {
                queue: Some(queue_tx),
                abandon: Some(abandon_tx),
                threads: Some(Threads {
                    dispatcher,
                    workers,
                }),
            }),
            slots,
            ended,
            queue_capacity: config.queue_capacity,
        })
    }

    /// Puts a job into the queue, or refuses it; never waits for room.
    ///
    /// # Errors
    /// - [`PoolError::BadJob`]: no frames, or buffers that do not fit the generator.
    /// - [`PoolError::QueueFull`]: all places are taken.
    /// - [`PoolError::ShuttingDown`]: the pool accepts nothing any more.
    /// - [`PoolError::Lost`]: the dispatcher is gone, which is a fault of the pool.
    pub fn submit(&self, job: Job) -> Result<JobHandle, PoolError> {
        let result = job.check().and_then(|()| self.enqueue(job));
        result.inspect_err(|_| self.ledger.reject())
    }

    /// As [`submit`](Self::submit), but waits while all places are taken, in turn with others that
    /// wait. Dropping the future gives up; a job that waits here is in no counter yet.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), without [`PoolError::QueueFull`].
    pub async fn submit_when_free(&self, job: Job) -> Result<JobHandle, PoolError> {
        loop {
            let result = job.check().and_then(|()| self.enqueue(job.clone()));
            if !matches!(result, Err(PoolError::QueueFull { .. })) {
                return result.inspect_err(|_| self.ledger.reject());
            }
            // The bound is for places that free themselves without a word: jobs that were cancelled
            // in the channel. The pool's own end is noticed by it as well.
            let freed = self.ledger.freed();
            drop(tokio::time::timeout(MAX_PAUSE, freed).await);
        }
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

    /// Stops accepting jobs, waits until all accepted ones have ended, and joins the threads.
    ///
    /// When `grace` is over, jobs with a chunk that has not been started fail with
    /// [`PoolError::ShuttingDown`], and the call returns. A network that is running at that moment
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
        for chunk in self.slots.iter().flat_map(Receiver::try_iter) {
            chunk.task.fail(PoolError::ShuttingDown);
        }
        threads.workers
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn check(&self) -> Result<(), PoolError> {
        let settings = [
            ("worker count", self.n_workers),
            ("queue capacity", self.queue_capacity),
            ("batch size", self.max_batch_frames),
        ];
        for (setting, value) in settings {
            if value == 0 {
                return Err(PoolError::BadConfig { setting });
            }
        }
        if !(4..=8).contains(&self.n_workers) {
            tracing::warn!(n_workers = self.n_workers, "4 to 8 workers are recommended");
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
