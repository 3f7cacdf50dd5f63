//! GPU status through NVML: memory, load, temperature, power.
//!
//! NVIDIA's management library comes with the driver and is looked for when the server starts. Where there
//! is none, nothing is known and nothing is amiss. It is asked once a second, never by a request: an answer
//! can take milliseconds.

use std::{
    ffi::OsStr,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use lipsync_core::sync::lock;
use lipsync_engine::cuda::DeviceInfo;
use nvml_wrapper::{Nvml, enum_wrappers::device::TemperatureSensor, error::NvmlError};

const INTERVAL: Duration = Duration::from_secs(1);
/// The library's names; machines without the developers' package have only the second.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so", "libnvidia-ml.so.1"];

/// How a GPU is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuStatus {
    /// `cuda:` and its number.
    pub device: String,
    /// As its maker calls it.
    pub name: String,
    /// By which NVIDIA's tools tell it from all others; empty where the library does not say.
    pub uuid: String,
    /// Memory in use, whoever uses it.
    pub memory_used_bytes: u64,
    /// All its memory.
    pub memory_total_bytes: u64,
    /// The part of the last second in which it computed, percent.
    pub utilization_percent: u32,
    /// Temperature, degrees Celsius.
    pub temperature_c: u32,
    /// Power that it draws, mW.
    pub power_mw: u32,
    /// The most that it may draw, mW.
    pub power_limit_mw: u32,
}

/// Asks GPUs how they are.
pub trait GpuProbe: Send + Sync {
    /// One entry a GPU. May take milliseconds.
    fn look(&self) -> Vec<GpuStatus>;
}

/// What was last seen of the GPUs. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Gpus(Arc<Mutex<Vec<GpuStatus>>>);

impl Gpus {
    /// One entry a GPU; none where nothing is known.
    #[must_use]
    pub fn latest(&self) -> Vec<GpuStatus> {
        lock(&self.0).clone()
    }

    pub(crate) async fn look(&self, probe: &Arc<dyn GpuProbe>) {
        let probe = Arc::clone(probe);
        let Ok(seen) = tokio::task::spawn_blocking(move || probe.look()).await else {
            return;
        };
        *lock(&self.0) = seen;
    }

    pub(crate) async fn keep_looking(self, probe: Arc<dyn GpuProbe>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            self.look(&probe).await;
        }
    }
}

/// NVIDIA's management library, and the GPUs that are of interest.
pub struct NvmlProbe {
    library: Nvml,
    devices: Vec<DeviceInfo>,
}

impl NvmlProbe {
    /// Finds the library; `None` where there is none, or no GPU to look after.
    #[must_use]
    pub fn find(devices: Vec<DeviceInfo>) -> Option<Arc<dyn GpuProbe>> {
        if devices.is_empty() {
            return None;
        }
        let open = |name| Nvml::builder().lib_path(OsStr::new(name)).init();
        match open(LIBRARIES[0]).or_else(|_| open(LIBRARIES[1])) {
            Ok(library) => Some(Arc::new(Self { library, devices })),
            Err(error) => {
                tracing::info!(%error, "no NVML: temperature, power and load of the GPUs are unknown");
                None
            }
        }
    }

    fn look_at(&self, info: &DeviceInfo) -> Result<GpuStatus, NvmlError> {
        // Numbers of devices differ between CUDA and the library, places do not.
        let gpu = self
            .library
            .device_by_pci_bus_id(info.pci_bus_id.as_str())?;
        let memory = gpu.memory_info()?;
        Ok(GpuStatus {
            uuid: gpu.uuid().unwrap_or_default(),
            memory_used_bytes: memory.used,
            memory_total_bytes: memory.total,
            utilization_percent: gpu.utilization_rates().map_or(0, |rates| rates.gpu),
            temperature_c: gpu.temperature(TemperatureSensor::Gpu).unwrap_or(0),
            power_mw: gpu.power_usage().unwrap_or(0),
            power_limit_mw: gpu.enforced_power_limit().unwrap_or(0),
            ..named(info)
        })
    }
}

/// What is known without the library.
fn named(info: &DeviceInfo) -> GpuStatus {
    GpuStatus {
        device: format!("cuda:{}", info.ordinal),
        name: info.name.clone(),
        memory_total_bytes: info.total_bytes,
        ..GpuStatus::default()
    }
}

impl GpuProbe for NvmlProbe {
    fn look(&self) -> Vec<GpuStatus> {
        let look = |info| {
            self.look_at(info).unwrap_or_else(|error| {
                tracing::debug!(%error, ordinal = info.ordinal, "a GPU does not report its status");
                named(info)
            })
        };
        self.devices.iter().map(look).collect()
    }
}

/// A GPU in one line, for the banner.
pub struct InWords<'a>(pub &'a GpuStatus);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GpuStatus {
            device,
            name,
            memory_used_bytes,
            memory_total_bytes,
            utilization_percent,
            temperature_c,
            power_mw,
            power_limit_mw,
            uuid: _,
        } = self.0;
        let tenths = |bytes: &u64| bytes / 100_000_000;
        let [used, total] = [memory_used_bytes, memory_total_bytes].map(tenths);
        write!(
            f,
            "{device} {name}: {}.{} of {}.{} GB, {utilization_percent} % busy, {temperature_c} °C, {} of {} W",
            used / 10,
            used % 10,
            total / 10,
            total % 10,
            power_mw / 1000,
            power_limit_mw / 1000,
        )
    }
}

#[cfg(test)]
mod tests {
    use lipsync_engine::cuda::FakeDevice;
    use tokio::time::Instant;

    use super::*;

    /// A made-up GPU that gets warmer each time.
    #[derive(Default)]
    struct Warming(Mutex<u32>);

    impl GpuProbe for Warming {
        fn look(&self) -> Vec<GpuStatus> {
            let mut degrees = self.0.lock().unwrap();
            *degrees += 1;
            vec![GpuStatus {
                device: "cuda:0".into(),
                name: "A Card".into(),
                uuid: "GPU-1".into(),
                memory_used_bytes: 1_540_000_000,
                memory_total_bytes: 80_000_000_000,
                utilization_percent: 12,
                temperature_c: *degrees,
                power_mw: 71_900,
                power_limit_mw: 400_000,
            }]
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gpus_are_looked_at_about_once_a_second() {
        let gpus = Gpus::default();
        assert!(gpus.latest().is_empty());
        let probe: Arc<dyn GpuProbe> = Arc::new(Warming::default());
        gpus.look(&probe).await;
        let words = InWords(&gpus.latest()[0]).to_string();
        assert_eq!(
            words,
            "cuda:0 A Card: 1.5 of 80.0 GB, 12 % busy, 1 °C, 71 of 400 W"
        );
        let looking = tokio::spawn(gpus.clone().keep_looking(probe));
        let begun = Instant::now();
        while gpus.latest()[0].temperature_c < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        looking.abort();
        // The first look of the five may come at once.
        let took = begun.elapsed().as_secs_f64();
        assert!((3.9..5.6).contains(&took), "{took} s");
    }

    /// Wherever the tests run, there is no card in this place, and perhaps no library.
    #[test]
    fn a_missing_library_or_card_is_no_error() {
        assert!(NvmlProbe::find(Vec::new()).is_none());
        let info = FakeDevice::new(7, 1 << 30).open().info().clone();
        if let Some(probe) = NvmlProbe::find(vec![info]) {
            let seen = probe.look();
            assert_eq!((&*seen[0].device, seen[0].power_mw), ("cuda:7", 0));
        }
    }
}
