//! An opened device.

use std::sync::Arc;

use super::{
    DeviceInfo,
    driver::{Driver, nvidia::Nvidia},
};
use crate::{Device, EngineError, Generator, LoadOptions};

/// An opened CUDA device, shared by all that is loaded for it.
#[derive(Debug)]
pub struct Cuda {
    driver: Arc<dyn Driver>,
}

impl Cuda {
    /// Opens the device of this ordinal and compiles the kernels for it.
    ///
    /// # Errors
    /// [`EngineError::DeviceUnavailable`] with a sentence that says what is missing: the driver, a driver
    /// recent enough, a device of that ordinal, or one of compute capability 8.0 or more. What the device
    /// reports otherwise.
    pub fn open(ordinal: u32) -> Result<Arc<Self>, EngineError> {
        Ok(Self::over(Arc::new(Nvidia::open(ordinal)?)))
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

    /// Loads a generator for this device.
    pub(crate) fn load_generator(
        &self,
        onnx: &[u8],
        options: &LoadOptions,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        let _ = (onnx, options);
        Err(EngineError::DeviceUnavailable {
            reason: format!("{}: generators cannot be loaded for it", self.device()),
        })
    }
}
