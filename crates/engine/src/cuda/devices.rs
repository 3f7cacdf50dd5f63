//! Which CUDA devices this machine has.

use super::driver::nvidia;
use crate::EngineError;

/// What is known of a device before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number among the devices that the driver shows to this process.
    pub ordinal: u32,
    /// The card's name.
    pub name: String,
    /// Major and minor compute capability; 8.0 and above are supported.
    pub compute_capability: (u32, u32),
    /// Memory in bytes.
    pub total_bytes: u64,
    /// Major and minor version of the CUDA interface that the driver implements.
    pub driver_version: (u32, u32),
    /// Where it is plugged in, `domain:bus:device.function`, as NVML names it.
    pub pci_bus_id: String,
}

/// The devices of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Devices;

impl Devices {
    /// Lists the devices that the driver shows, usable or not; see [`DeviceInfo::unusable`]. Opens none.
    ///
    /// # Errors
    /// [`EngineError::NoDriver`]; [`EngineError::DeviceUnavailable`] with a sentence: the driver is too old, it does
    /// not start, or it shows no device.
    pub fn discover() -> Result<Vec<DeviceInfo>, EngineError> {
        nvidia::discover()
    }
}

impl DeviceInfo {
    /// Why no network can run on it, if so, as a sentence.
    #[must_use]
    pub fn unusable(&self) -> Option<String> {
        let (major, minor) = self.compute_capability;
        (major < 8).then(|| {
            format!(
                "cuda:{} ({}) has compute capability {major}.{minor}; the kernels need 8.0 or more (Ampere and later)",
                self.ordinal, self.name
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_before_ampere_are_refused_in_words() {
        let mut info = DeviceInfo {
            ordinal: 1,
            name: "Tesla T4".into(),
            compute_capability: (7, 5),
            total_bytes: 1,
            driver_version: (12, 0),
            pci_bus_id: String::new(),
        };
        let reason = info.unusable().unwrap_or_default();
        assert!(
            reason.contains("cuda:1 (Tesla T4)") && reason.contains("7.5"),
            "{reason}"
        );
        info.compute_capability = (8, 0);
        assert_eq!(info.unusable(), None);
    }

    /// On a machine without a driver this is a sentence and no panic; with one, a list.
    #[test]
    fn looking_for_devices_never_panics() {
        match Devices::discover() {
            Ok(devices) => assert!(!devices.is_empty()),
            Err(EngineError::DeviceUnavailable { reason }) => {
                assert!(reason.len() > 20, "{reason}")
            }
            Err(EngineError::NoDriver) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
