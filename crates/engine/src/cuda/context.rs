//! An opened device.

use std::sync::Arc;

use super::{
    DeviceInfo, cases,
    driver::{Driver, nvidia::Nvidia},
};
use crate::{Device, EngineError};

/// An opened CUDA device, shared by all that is loaded for it.
#[derive(Debug)]
pub struct Cuda {
    driver: Arc<dyn Driver>,
}

impl Cuda {
    /// Opens the device of this ordinal, compiles the kernels for it and checks what they compute.
    ///
    /// # Errors
    /// [`EngineError::DeviceUnavailable`] with a sentence that says what is missing: the driver, a driver
    /// recent enough, a device of that ordinal, or one of compute capability 8.0 or more. What the device
    /// reports otherwise.
    pub fn open(ordinal: u32) -> Result<Arc<Self>, EngineError> {
        let cuda = Self::over(Arc::new(Nvidia::open(ordinal)?));
        match cuda.check_kernels(1, 1)? {
            None => Ok(cuda),
            Some(wrong) => Err(EngineError::DeviceUnavailable {
                reason: format!(
                    "{} ({}) computes something else than it should, so it is not used: {wrong}",
                    cuda.device(),
                    cuda.info().name
                ),
            }),
        }
    }

    /// Runs `rounds` launches of every kernel over random shapes and compares them with what the kernels'
    /// scalar twins make of the same; what is wrong first, if anything.
    ///
    /// # Errors
    /// What the device reports.
    pub fn check_kernels(&self, seed: u64, rounds: usize) -> Result<Option<String>, EngineError> {
        for case in cases::draw(seed, rounds) {
            let wrong = case.run(&self.driver)?;
            if wrong.is_some() {
                return Ok(wrong);
            }
        }
        Ok(None)
    }

    /// A device behind a driver of any kind.
    pub(super) fn over(driver: Arc<dyn Driver>) -> Arc<Self> {
        Arc::new(Self { driver })
    }

    /// What it is.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        self.driver.info()
    }

    /// Its name for configurations and clients.
    #[must_use]
    pub fn device(&self) -> Device {
        Device::Cuda(self.info().ordinal)
    }

    /// Free and total memory in bytes, as the device reports them: what other processes hold is not free.
    ///
    /// # Errors
    /// [`EngineError::DeviceFault`], sticky, once the device is lost.
    pub fn memory(&self) -> Result<(u64, u64), EngineError> {
        self.driver.memory()
    }

    pub(super) fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }
}
