//! `capacity`: what models may take.

use std::{path::PathBuf, time::Duration};

use lipsync_core::saturate::usize_of;
use lipsync_registry::{EvictionPolicy, ModelConfig, PrecisionChoice, RegistryConfig};
use serde::Deserialize;

use super::{
    BadValue,
    memory::{Budget, MemoryLimit, Share},
    or_auto::{GibibytesOrAuto, OrAuto},
    section::{between, gibibytes, in_range, section},
};

section! {
    /// `capacity`, as it is written.
    RawCapacity in "capacity";
    hot max_models: u32 = 100, 1..=1_000_000;
    hot max_memory_gb: GibibytesOrAuto = OrAuto::Auto;
    hot max_host_memory_gb: GibibytesOrAuto = OrAuto::Auto;
    hot eviction_policy: RawEviction = RawEviction::Lru;
    hot idle_timeout_minutes: f64 = 0.0;
    hot background_cache_frames: u32 = 50, 1..=1_000_000;
    hot frames_idle_s: u64 = 60, 1..=86_400;
    hot decoded_frames: u32 = 8, 1..=1_000_000;
    hot bake: RawBake = RawBake::Auto;
    hot preload_frames: u32 = 8;
    hot max_frames: u32 = 10_000, 1..=100_000;
    hot max_pack_gb: f64 = 8.0;
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawBake {
    Auto,
    Off,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawEviction {
    Lru,
    Lfu,
}

/// What other sections say of models.
pub(super) struct Elsewhere {
    pub(super) models: Vec<ModelConfig>,
    pub(super) precision: PrecisionChoice,
    pub(super) jpeg_quality: u8,
    pub(super) cache_dir: Option<PathBuf>,
    /// What the process may take.
    pub(super) memory: Option<MemoryLimit>,
    /// Networks lie in the memory of a GPU.
    pub(super) on_gpu: bool,
}

const MODELS: &str = "capacity.max_memory_gb";
/// In 512 MiB there is room for a full-size network.
const MODELS_SHARE: Share = Share {
    sixteenths: 7,
    at_most: 8 << 30,
};
const FRAMES: &str = "capacity.max_host_memory_gb";
const FRAMES_SHARE: Share = Share {
    sixteenths: 2,
    at_most: 3 << 29,
};

impl RawCapacity {
    pub(super) fn check(&self, elsewhere: Elsewhere) -> Result<RegistryConfig, BadValue> {
        let max_models = self.max_models()?;
        let cache = self.background_cache_frames()?;
        let preload = self.preload_frames().into();
        let preload = in_range("capacity.preload_frames", preload, 0..=cache)?;
        let decoded = self.decoded_frames()?;
        let frames_idle = self.frames_idle_s()?;
        let idle = self.idle_timeout_minutes();
        let idle_timeout = if idle == 0.0 {
            None
        } else {
            let minutes = between("capacity.idle_timeout_minutes", idle, 0.0..=1e6)?;
            Some(Duration::from_secs_f64(minutes * 60.0))
        };
        Ok(RegistryConfig {
            max_models: usize_of(max_models),
            max_bytes: match self.max_memory_gb() {
                OrAuto::Value(gb) => gibibytes(MODELS, gb)?,
                OrAuto::Auto => MODELS_SHARE.of(elsewhere.memory.filter(|_| !elsewhere.on_gpu)),
            },
            max_frame_bytes: match self.max_host_memory_gb() {
                OrAuto::Value(gb) => gibibytes(FRAMES, gb)?,
                OrAuto::Auto => FRAMES_SHARE.of(elsewhere.memory),
            },
            eviction: match self.eviction_policy() {
                RawEviction::Lru => EvictionPolicy::Lru,
                RawEviction::Lfu => EvictionPolicy::Lfu,
            },
            idle_timeout,
            frames_idle: Duration::from_secs(frames_idle),
            background_cache_frames: usize_of(cache),
            decoded_frames: usize_of(decoded),
            preload_frames: usize_of(preload),
            max_frames: usize_of(self.max_frames()?),
            max_pack_bytes: gibibytes("capacity.max_pack_gb", self.max_pack_gb())?,
            bake: matches!(self.bake(), RawBake::Auto),
            models: elsewhere.models,
            precision: elsewhere.precision,
            jpeg_quality: elsewhere.jpeg_quality,
            cache_dir: elsewhere.cache_dir,
        })
    }

    /// The budgets that this has made of the section.
    pub(super) fn budgets(&self, registry: &RegistryConfig, on_gpu: bool) -> Vec<Budget> {
        let models = Budget {
            key: MODELS,
            bytes: registry.max_bytes,
            is_auto: self.max_memory_gb() == OrAuto::Auto,
        };
        let frames = Budget {
            key: FRAMES,
            bytes: registry.max_frame_bytes,
            is_auto: self.max_host_memory_gb() == OrAuto::Auto,
        };
        let in_host_memory = [Some(frames), (!on_gpu).then_some(models)];
        in_host_memory.into_iter().flatten().collect()
    }
}
