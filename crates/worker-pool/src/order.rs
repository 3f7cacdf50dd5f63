//! In which order waiting jobs are run, by whom, and in which batches.
//!
//! An [`Order`] is the only place that decides this. It knows jobs by what their [`Entry`] says and workers by
//! the [`Roster`]; it starts no thread, reads no clock, takes no lock and sends nothing, so it is tested with
//! values alone. The dispatcher tells it what happens, asks it what to do, and does it.
//!
//! Jobs and workers outlast nothing here: a job is known by its number, and what becomes of it (done, failed,
//! cancelled, late) is the dispatcher's business. There is one order, [`FairOrder`].

mod bins;
mod crew;
mod fair;
mod levels;
pub(crate) mod policy;
mod rehearsal;
mod shares;

use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_engine::{Device, Generator};

pub use bins::{N_SIZE_CLASSES, Scheduling};
pub(crate) use fair::{BatchLimits, FairOrder};
use policy::Closed;
pub use rehearsal::{Rehearsal, RehearsedBatch, RehearsedJob, RehearsedStep};

use crate::{Claim, roster::Roster};

/// Who runs what, and when.
pub(crate) trait Order: Send + fmt::Debug {
    /// A job has come. There is a worker for its device.
    fn push(&mut self, job: Entry, now: Instant, roster: &Roster);

    /// What to do now. Called until it says [`Decision::Wait`]; before each call the roster counts the batch
    /// that was assigned by the last one.
    ///
    /// A batch goes to a worker that is on the roster for its device and holds fewer than
    /// [`MAX_LOAD`](policy::MAX_LOAD). The frames of a job are assigned from the first to the last, each once,
    /// and a job whose last frame is assigned is forgotten.
    fn next(&mut self, now: Instant, roster: &Roster) -> Decision;

    /// A worker is done with the batch that it was assigned first; it took so much of the worker's time.
    fn done(&mut self, worker: usize, took: Duration);

    /// A worker is no more, whatever it was assigned.
    fn gone(&mut self, worker: usize);

    /// From now on no batch has more frames than this, whatever the limits that it began with allow.
    fn limit_batches(&mut self, max_frames: usize);

    /// A job wants nothing any more.
    fn forget(&mut self, job: JobId);
}

/// Names a waiting job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId(pub(crate) u64);

/// Names a network. Jobs that wait at the same moment have the same one if they may share a batch.
///
/// It is an address, so it means nothing once no job of the network waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NetworkId(usize);

impl NetworkId {
    pub(crate) fn of(generator: &Arc<dyn Generator>) -> Self {
        Self(Arc::as_ptr(generator).addr())
    }
}

/// What an order knows of a waiting job.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: JobId,
    pub(crate) network: NetworkId,
    /// Where its network runs.
    pub(crate) device: Device,
    pub(crate) n_frames: usize,
    pub(crate) claim: Claim,
    pub(crate) submitted_at: Instant,
    /// What a frame is expected to cost, from what earlier ones took; `None` where none was measured. The cost
    /// of the job is this for each of its frames.
    pub(crate) frame_cost: Option<Duration>,
    /// Multiply-accumulates of a frame; 0 where nobody knows.
    pub(crate) macs: u64,
}

/// What the dispatcher does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It hands out a batch.
    Assign(Assignment),
    /// Nothing, until something happens or, at the latest, until then.
    Wait(Option<Instant>),
}

/// A batch, and who runs it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Its number on the roster.
    pub(crate) worker: usize,
    /// All of one network, not more than one a job.
    pub(crate) parts: Vec<Part>,
    /// Why there are no more, on a device where jobs share batches.
    pub(crate) closed: Option<Closed>,
}

/// Frames of a job that are run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) job: JobId,
    pub(crate) frames: Range<usize>,
}
