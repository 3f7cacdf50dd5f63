//! Threads and queues: a dispatcher, and workers that run the networks.
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
//! - What runs next, where and in which batch is decided by an order, which is a value without threads,
//!   clocks and locks. The dispatcher does what it says.
//! - A worker belongs to one device, and runs only what was loaded for it. It has at most one batch that
//!   runs and one that waits, so nothing queues unseen. Workers may join and leave while the pool runs
//!   ([`WorkerPool::join_worker`], [`WorkerPool::leave_worker`]).
//! - On a GPU, the batch that waits is started behind the one that the device computes, where the engine can
//!   (`overlap.rs`), and jobs of one model that wait at the same moment share a batch. What becomes of one, be it
//!   cancelled, late or at fault, is not noticed by those that it shared with.
//! - A worker that has been idle for a moment prepares the frames that its last job may be followed
//!   by ([`FramesAhead`]), until there is a batch for it.
//! - No lock is held while a network runs.
//!
//! Read [`WorkerPool`] first, then `order.rs` and what lies under it for who gets which chunk, `dispatcher.rs`
//! for what happens when, `roster.rs` and `membership.rs` for workers that come and go and [`scaling`] for when they
//! should, `execute.rs` for what happens when a run fails, `recovery.rs` and `breaker.rs` for what is tried then, and
//! `task.rs` for how a job ends.
#![forbid(unsafe_code)]
// It panics where standard error is gone, and waits where nobody reads it.
#![deny(clippy::print_stderr)]

mod ahead;
mod arenas;
mod backlog;
mod breaker;
mod cost;
mod dispatcher;
pub mod error;
mod execute;
mod face;
pub mod job;
mod membership;
mod order;
mod overlap;
pub mod pool;
mod recovery;
mod roster;
pub mod scaling;
pub mod stats;
mod task;
#[cfg(test)]
mod tests;
mod warm_up;
mod worker;

pub use breaker::{BreakerRules, BreakerState, NetworkHealth};
pub use cost::FrameCost;
pub use error::PoolError;
pub use face::Face;
pub use job::{
    Claim, FailedFrame, FramesAhead, Job, JobFrame, JobHandle, JobOutput, JobTimings, Work,
};
pub use order::{
    N_SIZE_CLASSES, Rehearsal, RehearsedBatch, RehearsedJob, RehearsedStep, Scheduling,
};
pub use pool::{PoolConfig, WorkerPool};
pub use recovery::{Recovery, RecoveryStats};
pub use stats::{JobTimes, LostDevice, PoolStats, SharedBatches, WorkerStats};
