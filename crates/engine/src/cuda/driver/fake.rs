//! A device that exists in the host's memory only: for tests, on any machine.
//!
//! It does what a CUDA device is asked to, numerically, with the kernels' scalar twins, counts what is
//! allocated against a total, and fails where it is told to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Driver;
use crate::{
    Device, EngineError,
    cuda::{Cuda, DeviceInfo},
};

/// What a device is asked to do, as far as it can be told to fail at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Reserving memory on the device.
    Allocate,
    /// Copying to the device or from it.
    Copy,
    /// Starting a kernel or a captured sequence of kernels.
    Launch,
    /// Waiting for what was started.
    Synchronize,
}

/// How a device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no memory left.
    OutOfMemory,
    /// The call fails, later ones work.
    Recoverable,
    /// The call fails, and so does everything after it.
    Sticky,
}

/// A made-up device; clones are the same device.
#[derive(Debug, Clone)]
pub struct FakeDevice {
    info: DeviceInfo,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    used_bytes: u64,
    n_calls: [u64; 4],
    /// Call, its number, what happens.
    planned: Vec<(Call, u64, Fault)>,
    is_broken: bool,
}

impl FakeDevice {
    /// A device of so many bytes of memory.
    #[must_use]
    pub fn new(ordinal: u32, total_bytes: u64) -> Self {
        Self {
            info: DeviceInfo {
                ordinal,
                name: "fake CUDA device".into(),
                compute_capability: (9, 0),
                total_bytes,
                driver_version: (12, 0),
                pci_bus_id: format!("0000:{ordinal:02x}:00.0"),
            },
            state: Arc::default(),
        }
    }

    /// Opens it, as [`Cuda::open`] opens a real one.
    #[must_use]
    pub fn open(&self) -> Arc<Cuda> {
        Cuda::over(Arc::new(self.clone()))
    }

    /// Lets the `nth` call of this kind from now on fail, counted from 0.
    pub fn inject(&self, call: Call, nth: u64, fault: Fault) {
        let mut state = self.lock();
        let number = state.n_calls[call as usize] + nth;
        state.planned.push((call, number, fault));
    }

    /// How many calls of this kind there were.
    #[must_use]
    pub fn n_calls(&self, call: Call) -> u64 {
        self.lock().n_calls[call as usize]
    }

    /// Bytes allocated now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, sticky: bool) -> EngineError {
        EngineError::DeviceFault {
            device: Device::Cuda(self.info.ordinal).to_string(),
            reason: "told to fail".into(),
            sticky,
        }
    }
}

impl Driver for FakeDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory(&self) -> Result<(u64, u64), EngineError> {
        let state = self.lock();
        if state.is_broken {
            return Err(self.fault(true));
        }
        let total = self.info.total_bytes;
        Ok((total - state.used_bytes, total))
    }
}
