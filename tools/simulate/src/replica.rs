//! One server: the door, the memory and the worker pool of the real one, and what it costs to do the work.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use anyhow::Result;
use lipsync_engine::Device;
use lipsync_registry::{EvictionPolicy, Shelf, ShelfNeeds};
use lipsync_serving::{
    admission::{Admission, Limits},
    phase::Phase,
};
use lipsync_worker_pool::{
    Claim, PoolConfig, PoolError, Recovery, Rehearsal, RehearsedBatch, RehearsedJob, Scheduling,
};
use tokio::sync::watch;

/// What work takes, as it was measured, in nanoseconds of one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Costs {
    /// The network, a frame.
    pub(crate) frame_ns: u64,
    /// Pasting and encoding, a frame.
    pub(crate) paste_ns: u64,
    /// A call or the opening of a session, without its frames.
    pub(crate) call_ns: u64,
    /// Loading a model.
    pub(crate) load_ns: u64,
}

/// How large each server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) n_workers: usize,
    pub(crate) max_models: usize,
    /// Bytes for weights and arenas.
    pub(crate) max_bytes: u64,
    pub(crate) needs: ShelfNeeds,
    pub(crate) eviction: EvictionPolicy,
    pub(crate) max_sessions: usize,
    pub(crate) queue_capacity: usize,
    /// Multiply-accumulates of a frame.
    pub(crate) macs: u64,
}

/// A server.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) door: Admission,
    pub(crate) shelf: Shelf,
    pub(crate) pool: Rehearsal,
    /// Who waits for models that are being loaded, by their numbers.
    pub(crate) loading: HashMap<u32, Vec<usize>>,
    /// What each worker holds: the first batch runs.
    pub(crate) lines: Vec<VecDeque<RehearsedBatch>>,
    /// Whose frames jobs are.
    pub(crate) jobs: HashMap<u64, usize>,
    frame_cost: Duration,
    macs: u64,
    /// Keeps the phase from ending.
    _phase: watch::Sender<Phase>,
}

impl Replica {
    pub(crate) fn new(size: &Size, costs: &Costs) -> Result<Self> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let limits = Limits {
            queue_capacity: size.queue_capacity,
            n_workers: size.n_workers,
            max_sessions: size.max_sessions,
            max_upload_bytes: 1 << 30,
            max_unsent_bytes: 1 << 30,
            // All calls have the proxy's address.
            peer_share_percent: 100,
            tenant_share_percent: 100,
        };
        let pool = Rehearsal::new(PoolConfig {
            devices: vec![Device::Cpu; size.n_workers],
            queue_capacity: size.queue_capacity,
            max_batch_frames: 64,
            max_batch_wait: Duration::ZERO,
            scheduling: Scheduling::default(),
            recovery: Recovery::default(),
        })?;
        Ok(Self {
            door: Admission::new(limits, phases),
            shelf: Shelf::new(size.max_models, size.max_bytes, size.eviction),
            pool,
            loading: HashMap::new(),
            lines: vec![VecDeque::new(); size.n_workers],
            jobs: HashMap::new(),
            frame_cost: Duration::from_nanos(costs.frame_ns),
            macs: size.macs,
            _phase: phase,
        })
    }

    /// Has frames wait for workers, or refuses them.
    ///
    /// # Errors
    /// The pool's.
    pub(crate) fn submit(&mut self, order: FrameOrder, now: Instant) -> Result<(), PoolError> {
        let job = RehearsedJob {
            network: usize::try_from(order.model).unwrap_or(usize::MAX),
            device: Device::Cpu,
            n_frames: order.n_frames,
            claim: order.claim,
            frame_cost: self.frame_cost,
            macs: self.macs,
        };
        let id = self.pool.submit(job, now)?;
        self.jobs.insert(id, order.visit);
        Ok(())
    }
}

/// Frames that somebody wants.
#[derive(Debug)]
pub(crate) struct FrameOrder {
    /// The number of who wants them.
    pub(crate) visit: usize,
    pub(crate) model: u32,
    pub(crate) n_frames: usize,
    pub(crate) claim: Claim,
}
