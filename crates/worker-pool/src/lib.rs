//! Threads and queues: a round-robin dispatcher over workers that run the networks.
//!
//! What only this crate knows: how a job waits, is split into chunks, is run and is put together
//! again. It knows nothing of models on disk, pixels outside the face crop, or the wire; a
//! [`Job`] carries everything that it needs.
//!
//! ```text
//! submit ──try_send──▶ queue ──▶ dispatcher ──▶ worker 0 ──┐
//!  (any thread)       (bounded)  (one thread) ├▶ worker 1 ──┼─▶ reply (oneshot) ──▶ JobHandle
//!                                    ▲        └▶ worker n ──┘
//!                                    └──── "worker i has room again" ────┘
//! ```
//!
//! - A job takes one place in the queue, however many chunks it is split into. It gives it back
//!   when its last chunk is handed to a worker, or when it ends before that.
//! - A job ends exactly once: completed, failed or cancelled. Whoever ends it takes the reply out
//!   of the job's state; there is only one to take.
//! - A worker has at most one chunk that runs and one that waits, so nothing queues unseen.
//! - A worker that has been idle for a moment prepares the frames that its last job may be followed
//!   by ([`FramesAhead`]), until there is a chunk for it.
//! - No lock is held while a network runs.
//!
//! Read [`WorkerPool`] first, then `dispatcher.rs` and `policy.rs` for who gets which chunk, and
//! `task.rs` for how a job ends.
#![forbid(unsafe_code)]

mod ahead;
mod dispatcher;
pub mod error;
pub mod job;
mod policy;
pub mod pool;
pub mod stats;
mod task;
#[cfg(test)]
mod tests;
mod worker;

pub use error::PoolError;
pub use job::{FramesAhead, Job, JobFrame, JobHandle, JobOutput, JobTimings};
pub use pool::{PoolConfig, WorkerPool};
pub use stats::{PoolStats, WorkerStats};
