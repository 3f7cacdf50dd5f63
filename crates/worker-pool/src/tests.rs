//! The pool with fake generators. Nothing sleeps: a gated fake says when it was entered and waits
//! to be told how to go on.

mod ahead;
mod batching;
mod cancelling;
mod dispatching;
pub(crate) mod fake;
mod faults;
mod joining;
mod memory;
mod overlapping;
mod recovery;
mod refusing;
mod scaling;
mod stopping;
mod stress;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use fake::{Call, Fake};
use lipsync_engine::Device;

use crate::{
    Job, JobHandle, JobOutput, PoolConfig, PoolError, PoolStats, Recovery, Scheduling, WorkerPool,
};

/// Far more than anything here takes; a test that runs into it has found a hang.
const TOO_LONG: Duration = Duration::from_secs(20);

fn pool(n_workers: usize, queue_capacity: usize, max_batch_frames: usize) -> WorkerPool {
    start(PoolConfig {
        devices: vec![Device::Cpu; n_workers],
        queue_capacity,
        max_batch_frames,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    })
}

const GPU: Device = Device::Cuda(0);

/// A pool of one worker on a GPU.
fn gpu_pool(max_batch_frames: usize, max_batch_wait: Duration) -> WorkerPool {
    start(PoolConfig {
        devices: vec![GPU],
        queue_capacity: 32,
        max_batch_frames,
        max_batch_wait,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    })
}

fn start(config: PoolConfig) -> WorkerPool {
    WorkerPool::start(config, Arc::new(())).unwrap()
}

fn wait(handle: JobHandle) -> Result<JobOutput, PoolError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(TOO_LONG, handle).await })
        .expect("the job must end")
}

fn run(pool: &WorkerPool, job: Job) -> JobOutput {
    wait(pool.submit(job).unwrap()).unwrap()
}

/// Waits for what another thread does without an event of its own.
fn until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TOO_LONG, "never came true");
        thread::yield_now();
    }
}

/// Occupies a pool of one worker: a job that runs, and one that waits at the worker.
fn occupy(pool: &WorkerPool) -> (Call, JobHandle, JobHandle) {
    let (gated, calls) = Fake::gated();
    let running = pool.submit(fake::job(&gated, 900..901)).unwrap();
    let call = calls.next();
    let next = pool
        .submit(fake::job(&Arc::new(Fake::default()), 901..902))
        .unwrap();
    until(|| pool.stats().queue_depth == 0);
    (call, running, next)
}

fn assert_adds_up(stats: &PoolStats) {
    let ended = stats.completed + stats.failed + stats.cancelled;
    assert_eq!(stats.submitted, ended + stats.in_flight, "{stats:?}");
    assert!(stats.queue_depth <= stats.queue_capacity, "{stats:?}");
}
