//! How a device is used, as far as there is a choice.

use std::time::Duration;

use super::patience::Patience;
use crate::{Device, EngineError};

/// How a device is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOptions {
    /// How long a worker asks again and again whether its batch is done, before it naps between two questions. A longer
    /// time gives a quicker answer and costs a core meanwhile.
    pub spin: Duration,
    /// A batch that takes longer has hung, and the device counts as lost.
    pub hang_limit: Duration,
    /// Leave the wait to the driver: it has no limit. To compare speeds.
    pub is_blocking: bool,
    /// Every kernel asks for the largest shared memory, not just those that need it. To compare speeds.
    pub carveout_for_all: bool,
    /// PTX in place of the embedded, for example of kernels that are being worked on.
    pub ptx: Option<String>,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            spin: Duration::from_micros(100),
            hang_limit: Duration::from_secs(20),
            is_blocking: false,
            carveout_for_all: false,
            ptx: None,
        }
    }
}

impl DeviceOptions {
    pub(super) fn patience(&self) -> Patience {
        Patience {
            spin: self.spin,
            limit: self.hang_limit,
        }
    }

    /// What becomes of a device that took longer.
    pub(super) fn hung(&self, device: Device) -> EngineError {
        EngineError::DeviceFault {
            device: device.to_string(),
            reason: format!(
                "work that was started did not finish within {} s: the device hangs",
                self.hang_limit.as_secs_f64()
            ),
            sticky: true,
        }
    }
}
