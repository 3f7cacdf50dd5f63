//! `engine`: what runs the networks, and in which numbers.

use std::time::Duration;

use lipsync_core::Foreign;
use lipsync_core::saturate::usize_of;
use lipsync_engine::{CpuIsa, NetworkLimits, cuda::DeviceOptions};
use lipsync_registry::PrecisionChoice;
use serde::Deserialize;

use super::{
    BadValue,
    memory::{Budget, MemoryLimit, Share},
    or_auto::{MebibytesOrAuto, OrAuto},
    section::{gmacs, section},
    text::Text,
};

section! {
    /// `engine`, as it is written.
    RawEngine in "engine";
    cold device: Text = "auto";
    cold cpu_isa: Text = "auto";
    cold visual_cache_mb: MebibytesOrAuto = OrAuto::Auto;
    hot precision: RawPrecision = RawPrecision::Auto;
    cold encoder_device: RawEncoderDevice = RawEncoderDevice::Cpu;
    cold max_batch: u32 = 64, 1..=64;
    cold max_batch_wait_ms: u64 = 2, 0..=1000;
    cold max_gmac: f64 = 40.0;
    cold max_arena_mb: u32 = 256, 1..=1_048_576;
    cold gpu_spin_us: u32 = 100, 0..=1_000_000;
    cold gpu_hang_s: u32 = 20, 1..=600;
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawPrecision {
    Auto,
    F32,
    Bf16,
    Int16,
    Int8,
}

impl From<RawPrecision> for PrecisionChoice {
    fn from(raw: RawPrecision) -> Self {
        match raw {
            RawPrecision::Auto => Self::Auto,
            RawPrecision::F32 => Self::F32,
            RawPrecision::Bf16 => Self::Bf16,
            RawPrecision::Int16 => Self::Int16,
            RawPrecision::Int8 => Self::Int8,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawEncoderDevice {
    Cpu,
    Gpu,
}

/// `engine`, but for the precision, which is the registry's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Where the networks run.
    pub device: DeviceChoice,
    /// Which instructions the CPU engine uses.
    pub cpu_isa: CpuIsa,
    /// Bytes for what depends on background frames alone, on each device; 0 keeps nothing.
    pub visual_cache_bytes: u64,
    /// Frames of one executed batch.
    pub max_batch: usize,
    /// How long a job may be held back for others to share its batch.
    pub max_batch_wait: Duration,
    /// What one network may take.
    pub limits: NetworkLimits,
    /// How CUDA devices are used.
    pub gpu: DeviceOptions,
    /// Whether audio encoders of AVE run on the GPU of their model's generator, if it is on one.
    pub encodes_on_gpu: bool,
}

/// `engine.device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// All CUDA devices that can be used; the CPU where there is none, and as long as the CUDA engine has
    /// not run on a GPU.
    Auto,
    /// The embedded CPU engine.
    Cpu,
    /// All CUDA devices that can be used, at least one.
    Cuda,
    /// The CUDA device of this ordinal.
    CudaAt(u32),
}

const VISUAL_CACHE_SHARE: Share = Share {
    sixteenths: 2,
    at_most: 1 << 30,
};

impl DeviceChoice {
    /// Whether networks run on GPUs for certain.
    pub(super) fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda | Self::CudaAt(_))
    }
}

impl RawEngine {
    pub(super) fn check(&self, memory: Option<MemoryLimit>) -> Result<Engine, BadValue> {
        let device = device_choice(self.device())?;
        let memory = memory.filter(|_| !device.is_gpu());
        let max_batch = self.max_batch()?;
        let wait_ms = self.max_batch_wait_ms()?;
        let isa = self.cpu_isa();
        let cpu_isa = CpuIsa::parse(isa).ok_or_else(|| BadValue {
            key: "engine.cpu_isa".into(),
            message: format!("expected {}, found {:?}", CpuIsa::EXPECTED, Foreign(isa)),
        })?;
        cpu_isa.resolve().map_err(|error| BadValue {
            key: "engine.cpu_isa".into(),
            message: error.to_string(),
        })?;
        let arena = self.max_arena_mb()?;
        let limits = NetworkLimits {
            max_macs: gmacs("engine.max_gmac", self.max_gmac())?,
            max_arena_bytes: arena << 20,
        };
        Ok(Engine {
            device,
            cpu_isa,
            visual_cache_bytes: match self.visual_cache_mb() {
                OrAuto::Value(mb) => u64::from(mb) << 20,
                OrAuto::Auto => VISUAL_CACHE_SHARE.of(memory),
            },
            max_batch: usize_of(max_batch),
            max_batch_wait: Duration::from_millis(wait_ms),
            limits,
            gpu: DeviceOptions {
                spin: Duration::from_micros(self.gpu_spin_us()?),
                hang_limit: Duration::from_secs(self.gpu_hang_s()?),
                ..DeviceOptions::default()
            },
            encodes_on_gpu: matches!(self.encoder_device(), RawEncoderDevice::Gpu),
        })
    }

    /// The budget that this has made of the section.
    pub(super) fn budget(&self, engine: &Engine) -> Option<Budget> {
        let budget = Budget {
            key: "engine.visual_cache_mb",
            bytes: engine.visual_cache_bytes,
            is_auto: self.visual_cache_mb() == OrAuto::Auto,
        };
        (!engine.device.is_gpu()).then_some(budget)
    }

    /// What models run in that do not say.
    pub(super) fn default_precision(&self) -> PrecisionChoice {
        self.precision().into()
    }
}

fn device_choice(text: &str) -> Result<DeviceChoice, BadValue> {
    let ordinal = text.strip_prefix("cuda:").map(str::parse);
    match (text, ordinal) {
        ("auto", _) => Ok(DeviceChoice::Auto),
        ("cpu", _) => Ok(DeviceChoice::Cpu),
        ("cuda", _) => Ok(DeviceChoice::Cuda),
        (_, Some(Ok(ordinal))) => Ok(DeviceChoice::CudaAt(ordinal)),
        _ => Err(BadValue {
            key: "engine.device".into(),
            message: format!(
                "expected auto, cpu, cuda or cuda:0 (a number), found {:?}{}",
                Foreign(text),
                device_advice(text)
            ),
        }),
    }
}

/// What was meant, where that is clear.
fn device_advice(text: &str) -> String {
    let lower = text.trim().to_lowercase();
    let number = lower.strip_prefix("gpu:").unwrap_or(&lower);
    let meant = match lower.as_str() {
        "gpu" | "nvidia" | "true" | "on" => "cuda".to_owned(),
        "none" | "false" | "off" => "cpu".to_owned(),
        "auto" | "cpu" | "cuda" => lower.clone(),
        _ if number.parse::<u32>().is_ok() => format!("cuda:{number}"),
        _ if lower.starts_with("cuda:") && lower != text => lower.clone(),
        _ => return String::new(),
    };
    format!(": write {meant}")
}
