//! What the registry is told: which models exist, and how much it may keep in memory.

use std::{path::PathBuf, time::Duration};

use lipsync_core::{AudioKind, ModelId};

/// One configured model.
///
/// What is said here wins over the manifest in the model's folder.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The name that requests use. Ids are unique; of two equal ones the registry keeps the last.
    pub id: ModelId,
    /// Where its files are.
    pub source: ModelSource,
    /// Which audio encoder its generator was trained with. Needed where there is no manifest.
    pub audio_kind: Option<AudioKind>,
    /// Output frames per second; [`AudioKind::default_fps`] where neither this nor a manifest says.
    pub fps: Option<u32>,
    /// The ONNX file of its audio encoder. Without one, clients send feature steps or windows.
    pub audio_encoder: Option<PathBuf>,
    /// Whether [`Registry::preload`](crate::Registry::preload) loads it.
    pub preload: bool,
}

/// Where a model's files are.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A folder with an `avatar.yaml`, or one of the layouts that the [crate] lists.
    Folder(PathBuf),
    /// Each part named by itself.
    Parts {
        /// The generator's ONNX file.
        model_path: PathBuf,
        /// The folder of background frames.
        background_dir: PathBuf,
        /// The rectangles: a JSON file, or a folder of `.lms` landmarks.
        crop_rects_path: PathBuf,
        /// How many of the frames to use; all of them when `None`.
        n_frames: Option<u32>,
    },
}

/// Which idle model is dropped first when room is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// The one whose last use is longest ago.
    #[default]
    Lru,
    /// The one with the fewest uses since the server started; among equals the least recently used.
    Lfu,
}

/// Everything that a [`Registry`](crate::Registry) is made from.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// The configured models.
    pub models: Vec<ModelConfig>,
    /// Models in memory at once, those that still finish after an unload included.
    pub max_models: usize,
    /// Bytes for weights and full frame caches of all models in memory; [`u64::MAX`] is no limit.
    pub max_bytes: u64,
    /// Who goes first.
    pub eviction: EvictionPolicy,
    /// Unused for this long, a model is dropped by
    /// [`Registry::sweep_idle`](crate::Registry::sweep_idle); `None` is never.
    pub idle_timeout: Option<Duration>,
    /// Background frames kept decoded per model, at least 1 (0 is taken as 1).
    pub background_cache_frames: usize,
    /// Frames decoded while a model loads, along the walk that its answers start with. At most the
    /// cache's capacity.
    pub preload_frames: usize,
}
