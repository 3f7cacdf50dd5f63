//! A CUDA device through its driver, found when the program runs.
//!
//! Which devices there are, and what errors mean; `device` is an opened one, `stream` a worker's queue.
#![expect(unsafe_code, reason = "calls into the CUDA driver")]

use std::{ffi::c_int, path::Path};

use cudarc::driver::{
    DriverError, result,
    sys::{self, CUdevice_attribute as Attribute, CUresult},
};

use crate::{EngineError, cuda::DeviceInfo};

/// The interface of CUDA 12.0, which the embedded PTX (ISA 8.0) asks for: driver 525.60 and later.
const MIN_DRIVER_VERSION: (u32, u32) = (12, 0);
/// Where the kernel's half of the driver shows itself.
const KERNEL_DRIVER: &str = "/proc/driver/nvidia";

mod device;
mod stream;

pub(crate) use device::Nvidia;
pub(crate) use stream::Graph;

fn unavailable(reason: String) -> EngineError {
    EngineError::DeviceUnavailable { reason }
}

/// The devices that the driver shows.
pub(crate) fn discover() -> Result<Vec<DeviceInfo>, EngineError> {
    let driver_version = start_driver()?;
    let refused = |error: DriverError| {
        unavailable(format!("the CUDA driver lists no devices: {}", text(error)))
    };
    let n_devices = result::device::get_count().map_err(refused)?;
    if n_devices == 0 {
        return Err(unavailable("the CUDA driver is here but shows no device; check CUDA_VISIBLE_DEVICES and nvidia-smi".into()));
    }
    (0..n_devices)
        .map(|ordinal| describe(ordinal, driver_version).map_err(refused))
        .collect()
}

/// Loads and starts the driver; its CUDA version.
fn start_driver() -> Result<(u32, u32), EngineError> {
    // SAFETY: looks for a library of the driver's name and loads it; loading the driver runs NVIDIA's
    // initialisers only.
    let is_present = unsafe { sys::is_culib_present() };
    if !is_present {
        return Err(without_library(Path::new(KERNEL_DRIVER).exists()));
    }
    let mut version: c_int = 0;
    // SAFETY: the library is there, every driver has this function, and it may be called before
    // `cuInit`; it writes to the integer that it is given.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    if asked != CUresult::CUDA_SUCCESS {
        return Err(unavailable(
            "the CUDA driver does not tell its version".into(),
        ));
    }
    let version = u32::try_from(version).unwrap_or(0);
    let version = (version / 1000, version % 1000 / 10);
    if version < MIN_DRIVER_VERSION {
        return Err(unavailable(format!(
            "the NVIDIA driver is too old: it implements CUDA {}.{}, the kernels need 12.0 (driver 525.60 or later)",
            version.0, version.1
        )));
    }
    result::init()
        .map_err(|error| unavailable(format!("the CUDA driver does not start: {}", text(error))))?;
    Ok(version)
}

/// A container that was not given the GPU still shows the kernel's half of the driver.
fn without_library(has_kernel_driver: bool) -> EngineError {
    if !has_kernel_driver {
        return EngineError::NoDriver;
    }
    unavailable(format!(
        "the NVIDIA driver runs here ({KERNEL_DRIVER}), but its library cannot be loaded (libcuda.so.1): give the \
         container the GPU, or install the library of the same version"
    ))
}

fn describe(ordinal: c_int, driver_version: (u32, u32)) -> Result<DeviceInfo, DriverError> {
    let device = result::device::get(ordinal)?;
    let attribute = |attribute| {
        // SAFETY: `device` is a handle that the driver has just given.
        let value = unsafe { result::device::get_attribute(device, attribute) }?;
        Ok::<u32, DriverError>(u32::try_from(value).unwrap_or(0))
    };
    let compute_capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let [domain, bus, slot] = [
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?,
    ];
    // SAFETY: `device` is a handle that the driver has just given.
    let total_bytes = unsafe { result::device::total_mem(device) }?;
    Ok(DeviceInfo {
        ordinal: ordinal.unsigned_abs(),
        name: result::device::get_name(device)?,
        compute_capability,
        total_bytes: total_bytes as u64,
        driver_version,
        pci_bus_id: format!("{domain:08x}:{bus:02x}:{slot:02x}.0"),
    })
}

/// An error as the driver words it.
fn text(error: DriverError) -> String {
    let name = error
        .error_name()
        .map(|name| name.to_string_lossy().into_owned());
    let words = error
        .error_string()
        .map(|words| words.to_string_lossy().into_owned());
    match (name, words) {
        (Ok(name), Ok(words)) => format!("{name} ({words})"),
        _ => format!("error {}", error.0 as u32),
    }
}

/// Whether a result means that the context is lost for the whole process.
fn is_sticky(result: CUresult) -> bool {
    // Not initialised any more; ECC and NVLink errors; all that a kernel can do wrong; unknown.
    let code = result as u32;
    matches!(
        code,
        4 | 214 | 220 | 226 | 700 | 702 | 709 | 710 | 714..=719 | 721 | 999
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_driver_is_not_none() {
        assert!(matches!(without_library(false), EngineError::NoDriver));
        let half = without_library(true).to_string();
        assert!(half.contains("give the container the GPU"), "{half}");
    }

    #[test]
    fn faults_of_kernels_are_sticky_and_refusals_are_not() {
        assert!(is_sticky(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
        assert!(is_sticky(CUresult::CUDA_ERROR_LAUNCH_FAILED));
        assert!(is_sticky(CUresult::CUDA_ERROR_ECC_UNCORRECTABLE));
        assert!(!is_sticky(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
        assert!(!is_sticky(CUresult::CUDA_ERROR_INVALID_VALUE));
        assert!(!is_sticky(CUresult::CUDA_ERROR_NOT_READY));
    }
}
