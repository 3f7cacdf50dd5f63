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
//! - A worker belongs to one device, and runs only what was loaded for it. It has at most one batch that
//!   runs and one that waits, so nothing queues unseen.
//! - On a GPU, jobs of one model that wait at the same moment share a batch. What becomes of one, be it
//!   cancelled, late or at fault, is not noticed by those that it shared with.
//! - A worker that has been idle for a moment prepares the frames that its last job may be followed
//!   by ([`FramesAhead`]), until there is a batch for it.
//! - No lock is held while a network runs.
//!
//! Read [`WorkerPool`] first, then `dispatcher.rs` and `policy.rs` for who gets which chunk,
//! `execute.rs` for what happens when a run fails, and `task.rs` for how a job ends.
#![forbid(unsafe_code)]
// It panics where standard error is gone, and waits where nobody reads it.
#![deny(clippy::print_stderr)]

mod ahead;
mod arenas;
mod cost;
mod dispatcher;
pub mod error;
mod execute;
pub mod job;
mod order;
pub mod pool;
pub mod stats;
mod task;
#[cfg(test)]
mod tests;
mod warm_up;
mod worker;

pub use error::PoolError;
pub use job::{FramesAhead, Job, JobFrame, JobHandle, JobOutput, JobTimings};
pub use pool::{PoolConfig, WorkerPool};
pub use stats::{LostDevice, PoolStats, SharedBatches, WorkerStats};
