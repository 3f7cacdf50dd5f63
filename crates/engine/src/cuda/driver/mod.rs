//! What the engine asks of a device: a small seam with two sides.
//!
//! [`nvidia`] is the real thing, [`fake`] a device that exists in the host's memory only. Device memory is
//! named by addresses; host memory never is: copies go through a stream's own staging memory, which is
//! not handed out while a copy may be under way.

use std::{fmt, ops::Range, sync::Arc};

use super::{DeviceInfo, launch::Launch};
use crate::EngineError;

pub(crate) mod fake;
pub(crate) mod nvidia;
mod options;
mod patience;

pub use options::DeviceOptions;

/// Device memory comes in pages of so many bytes; smaller pieces share one. An estimate, until `gpu-check` has
/// measured what an entry takes.
const PAGE_BYTES: u64 = 2 << 20;
/// Device memory that a captured launch takes, by what NVIDIA says of its graphs ("around 10KB per kernel node").
/// `gpu-check` measures it.
const CAPTURED_LAUNCH_BYTES: u64 = 10 << 10;

/// What an allocation of so many bytes takes on a device.
pub(super) fn held_bytes(n_bytes: u64) -> u64 {
    if n_bytes < PAGE_BYTES / 2 {
        return n_bytes;
    }
    n_bytes.next_multiple_of(PAGE_BYTES)
}

/// What `n` captured launches take on a device.
pub(super) fn captured_bytes(n: usize) -> u64 {
    n as u64 * CAPTURED_LAUNCH_BYTES
}

/// An opened device, its kernels compiled.
pub(crate) trait Driver: fmt::Debug + Send + Sync {
    /// What it is.
    fn info(&self) -> &DeviceInfo;

    /// Free and total memory, in bytes.
    fn memory(&self) -> Result<(u64, u64), EngineError>;

    /// Reserves memory; what it holds is arbitrary.
    fn allocate(&self, n_bytes: usize) -> Result<u64, EngineError>;

    /// Gives memory back that [`allocate`](Self::allocate) gave, once nothing uses it any more.
    fn free(&self, address: u64);

    /// Copies to the device and waits until that is done.
    fn write(&self, bytes: &[u8], to: u64) -> Result<(), EngineError>;

    /// Copies from the device what work that was waited for has left there.
    fn read(&self, from: u64, bytes: &mut [u8]) -> Result<(), EngineError>;

    /// A queue of work of its own.
    fn stream(self: Arc<Self>) -> Result<Box<dyn Stream>, EngineError>;
}

/// Which of a stream's two staging memories: while one batch computes, the next is filled into the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    First,
    Second,
}

impl Set {
    pub(super) fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A CUDA stream: work that is done in order, beside that of other streams. One thread's.
pub(crate) trait Stream: fmt::Debug + Send {
    /// Host memory that copies go through, at least so long; waits for copies that are under way there.
    fn staging(&mut self, set: Set, n_bytes: usize) -> Result<&mut [u8], EngineError>;

    /// Copies a range of a staging memory to the device.
    fn upload(&mut self, from: (Set, Range<usize>), to: u64) -> Result<(), EngineError>;

    /// Copies from the device to a range of a staging memory.
    fn download(&mut self, from: u64, to: (Set, Range<usize>)) -> Result<(), EngineError>;

    /// Takes what was started so far for what [`wait`](Self::wait) waits for.
    fn mark(&mut self, set: Set) -> Result<(), EngineError>;

    /// Waits until all is done that was started before the mark, but no longer than until `stop` says so: `false`. A
    /// device that takes longer than [`DeviceOptions::hang_limit`] is lost. Without a mark, waits for everything.
    fn wait(&mut self, set: Set, stop: &dyn Fn() -> bool) -> Result<bool, EngineError>;

    /// Starts a kernel.
    fn launch(&mut self, launch: &Launch) -> Result<(), EngineError>;

    /// Records launches without running them, to be started together later.
    fn capture(&mut self, launches: &[Launch]) -> Result<Captured, EngineError>;

    /// Sends what was captured to the device, so that its first start need not.
    fn prepare(&mut self, captured: &Captured) -> Result<(), EngineError>;

    /// Starts what was captured.
    fn replay(&mut self, captured: &Captured) -> Result<(), EngineError>;

    /// Waits until all that was started is done; a device that takes longer is lost.
    fn synchronize(&mut self) -> Result<(), EngineError>;
}

/// Records launches, and ends the recording whatever came of them: until then the stream can do nothing else. Where
/// one failed, that is the reason; the end's own error says only that the recording is not valid any more.
fn record<T>(
    launches: &[Launch],
    start: impl FnMut(&Launch) -> Result<(), EngineError>,
    end: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let started = launches.iter().try_for_each(start);
    let ended = end();
    started.and(ended)
}

/// Launches that were recorded, ready to run on any stream of their device.
#[derive(Debug)]
pub(crate) enum Captured {
    /// A CUDA graph.
    Graph(nvidia::Graph),
    /// The launches themselves, and what they are charged for.
    Launches(fake::Recorded),
}

/// Device memory that is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Allocation {
    driver: Arc<dyn Driver>,
    pub address: u64,
    pub n_bytes: usize,
}

impl Allocation {
    pub fn new(driver: &Arc<dyn Driver>, n_bytes: usize) -> Result<Self, EngineError> {
        Ok(Self {
            address: driver.allocate(n_bytes)?,
            driver: Arc::clone(driver),
            n_bytes,
        })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.driver.free(self.address);
    }
}
