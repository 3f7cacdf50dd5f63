//! What can go wrong in the pool.

use std::time::Duration;

use lipsync_engine::{Device, EngineError, Shortage};

/// Why the pool did not start, refused a job, or could not finish it.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The pool was asked for with a setting that cannot work.
    #[error("the worker pool needs a {setting} of at least 1")]
    BadConfig {
        /// Field of [`PoolConfig`](crate::PoolConfig).
        setting: &'static str,
    },
    /// The operating system did not give a thread.
    #[error("a thread of the worker pool could not be started")]
    Spawn(#[source] std::io::Error),
    /// Every place in the queue is taken; a later try may succeed.
    #[error("the queue is full: {capacity} jobs are waiting")]
    QueueFull {
        /// Places in the queue.
        capacity: usize,
    },
    /// The job would wait for longer than it may, or beyond its deadline.
    #[error(
        "{} ms of work wait before this, and it can wait for {} ms",
        expected.as_millis(), limit.as_millis()
    )]
    WaitTooLong {
        /// How long it would wait, at least.
        expected: Duration,
        /// How long it may.
        limit: Duration,
    },
    /// The job's network kept failing, and is tried again later.
    #[error("the network keeps failing; it is tried again in {} ms", retry.as_millis())]
    KeepsFailing {
        /// When.
        retry: Duration,
    },
    /// The pool takes no jobs any more, or gave up on a waiting one when its grace was over.
    #[error("the worker pool is shutting down")]
    ShuttingDown,
    /// The job's deadline passed before all of it was started.
    #[error("the deadline passed before the job was computed")]
    Expired,
    /// The generator panicked; the worker has been rebuilt.
    #[error("the generator panicked")]
    Panicked,
    /// The generator reported an error.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The job's buffers do not fit its generator.
    #[error("{what}: expected {expected}, got {actual}")]
    BadJob {
        /// Which quantity.
        what: &'static str,
        /// What the generator asks for.
        expected: usize,
        /// What the job has.
        actual: usize,
    },
    /// The device has no memory for a single frame, and nobody could give any back; a later try may
    /// succeed.
    #[error("{device} has no memory for the job: {needed} bytes wanted, {free} free")]
    OutOfMemory {
        /// Which device.
        device: Device,
        /// Bytes wanted.
        needed: u64,
        /// Bytes that it had.
        free: u64,
    },
    /// The device failed for good: nothing runs on it any more before the process is started anew.
    #[error("{device} is lost")]
    DeviceLost {
        /// Which device.
        device: Device,
    },
    /// No worker of the pool belongs to the device that the job's generator was loaded for.
    #[error("no worker runs on {device}")]
    NoWorker {
        /// Which device.
        device: Device,
    },
    /// No worker of the pool has this number, or it is leaving already.
    #[error("there is no worker {worker}")]
    NoSuchWorker {
        /// The number.
        worker: usize,
    },
    /// The worker is the last of its device, and jobs wait for that.
    #[error("worker {worker} is the last on {device}, and jobs wait for it")]
    LastWorker {
        /// The number.
        worker: usize,
        /// Which device.
        device: Device,
    },
    /// The thread that had the job is gone; a fault of the pool.
    #[error("the job was lost")]
    Lost,
}

impl Shortage for PoolError {
    fn missing_bytes(&self) -> Option<u64> {
        match *self {
            Self::OutOfMemory { needed, free, .. } => {
                EngineError::OutOfMemory { needed, free }.missing_bytes()
            }
            _ => None,
        }
    }
}
