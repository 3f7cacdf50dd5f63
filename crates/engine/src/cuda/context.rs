//! An opened device.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    DeviceInfo, cases,
    driver::{Allocation, DeviceOptions, Driver, nvidia::Nvidia},
    entries::{EntryPool, EntryPools},
    worker::ALIGNMENT,
};
use crate::{Device, EngineError};

/// An opened CUDA device, shared by all that is loaded for it.
#[derive(Debug)]
pub struct Cuda {
    driver: Arc<dyn Driver>,
    /// What is kept of background frames, of all generators.
    entries: EntryPools,
}

impl Cuda {
    /// Opens the device of this ordinal, compiles the kernels for it and checks what they compute.
    ///
    /// # Errors
    /// [`EngineError::NoDriver`]; [`EngineError::DeviceUnavailable`] with a sentence that says what is missing: a
    /// driver recent enough, a device of that ordinal, or one of compute capability 8.0 or more. What the device
    /// reports otherwise.
    pub fn open(ordinal: u32, options: DeviceOptions) -> Result<Arc<Self>, EngineError> {
        let cuda = Self::open_unproven(ordinal, options)?;
        let wrong = cuda.wrong_kernels(1, 1);
        if wrong.is_empty() {
            return Ok(cuda);
        }
        Err(EngineError::DeviceUnavailable {
            reason: format!(
                "{} ({}) computes something else than it should, so it is not used: {}",
                cuda.device(),
                cuda.info().name,
                wrong.join("; ")
            ),
        })
    }

    /// Opens a device whatever its kernels compute, for finding out what is wrong with them.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_unproven(ordinal: u32, options: DeviceOptions) -> Result<Arc<Self>, EngineError> {
        Ok(Self::over(Arc::new(Nvidia::open(ordinal, options)?)))
    }

    /// Runs `rounds` launches of every kernel over random shapes and compares them with what the kernels'
    /// scalar twins make of the same; a sentence for each kernel that fails or computes something else.
    #[must_use]
    pub fn wrong_kernels(&self, seed: u64, rounds: usize) -> Vec<String> {
        let mut wrong = BTreeMap::new();
        for case in cases::draw(seed, rounds) {
            let kernel = case.launch.kernel.entry();
            if wrong.contains_key(kernel) {
                continue;
            }
            match case.run(&self.driver) {
                Ok(None) => {}
                Ok(Some(difference)) => {
                    wrong.insert(kernel, difference);
                }
                Err(error) => {
                    wrong.insert(kernel, format!("{kernel}: {error}"));
                    // Nothing runs on a lost device.
                    if let EngineError::DeviceFault { sticky: true, .. } = error {
                        break;
                    }
                }
            }
        }
        wrong.into_values().collect()
    }

    /// A device behind a driver of any kind.
    pub(super) fn over(driver: Arc<dyn Driver>) -> Arc<Self> {
        Arc::new(Self {
            driver,
            entries: EntryPools::default(),
        })
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

    /// Where entries of so many bytes come from.
    pub(super) fn entry_pool(&self, entry_bytes: usize) -> Arc<EntryPool> {
        self.entries.of(&self.driver, entry_bytes)
    }

    /// Memory of the device that holds these weights.
    pub(super) fn place(&self, weights: &[u8]) -> Result<Allocation, EngineError> {
        let n_bytes = weights.len().next_multiple_of(ALIGNMENT);
        let placed = Allocation::new(&self.driver, n_bytes)?;
        self.driver.write(weights, placed.address)?;
        Ok(placed)
    }

    pub(super) fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }
}

#[cfg(test)]
mod tests {
    use crate::cuda::{Call, FakeDevice, Fault};

    #[test]
    fn a_kernel_that_fails_is_named_and_the_others_are_tried() {
        let device = FakeDevice::new(0, 1 << 30);
        let cuda = device.open();
        assert_eq!(cuda.wrong_kernels(1, 1), Vec::<String>::new());
        device.inject(Call::Launch, 0, Fault::Recoverable);
        device.inject(Call::Launch, 2, Fault::Recoverable);
        assert_eq!(cuda.wrong_kernels(1, 1).len(), 2);
        device.inject(Call::Launch, 1, Fault::Sticky);
        let wrong = cuda.wrong_kernels(1, 1);
        assert!(
            wrong.len() == 1 && wrong[0].contains("told to break"),
            "{wrong:?}"
        );
    }
}
