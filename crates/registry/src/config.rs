//! What the registry is told: which models exist, and how much it may keep in memory.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use lipsync_core::{AudioKind, Fps, ModelId};

use crate::PrecisionChoice;

/// One configured model.
///
/// What is said here wins over the manifest in the model's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// The name that requests use. Ids are unique; of two equal ones the registry keeps the last.
    pub id: ModelId,
    /// Where its files are.
    pub source: ModelSource,
    /// Which audio encoder its generator was trained with. Needed where there is no manifest.
    pub audio_kind: Option<AudioKind>,
    /// Output frames per second; those of the audio kind's [`AudioForm`](lipsync_core::family::AudioForm) where
    /// neither this nor a manifest says.
    pub fps: Option<u32>,
    /// The ONNX file of its audio encoder. Without one, clients send feature steps or windows.
    pub audio_encoder: Option<PathBuf>,
    /// In which numbers its generator runs; [`RegistryConfig::precision`] where nothing is said.
    pub precision: Option<PrecisionChoice>,
    /// Whether [`Registry::preload`](crate::Registry::preload) loads it.
    pub preload: bool,
    /// Whether links may lead out of its folder, and of the files and folders named here.
    pub follow_links: bool,
}

/// Where a model's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl EvictionPolicy {
    /// What a model is worth that was used `count` times, and for the last time in this turn. Models are dropped in
    /// ascending order of this.
    pub(crate) fn worth(self, count: u64, last_turn: u64) -> (u64, u64) {
        match self {
            Self::Lru => (0, last_turn),
            Self::Lfu => (count, last_turn),
        }
    }
}

/// The most frames per second that a model may have.
pub const MAX_FPS: u32 = 120;

/// Frames per second that a model may have; `None` for others.
pub(crate) fn checked_fps(fps: u32) -> Option<Fps> {
    Fps::new(fps).filter(|fps| fps.get() <= MAX_FPS)
}

/// Everything that a [`Registry`](crate::Registry) is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The configured models.
    pub models: Vec<ModelConfig>,
    /// Models in memory at once, those that still finish after an unload included.
    pub max_models: usize,
    /// Bytes for the weights of all models in memory, and on the host for what workers need to run them;
    /// [`u64::MAX`] is no limit.
    pub max_bytes: u64,
    /// Bytes for the background frames of all models in memory; [`u64::MAX`] is no limit. Frames that
    /// requests hold in their hands are not counted.
    pub max_frame_bytes: u64,
    /// Who goes first.
    pub eviction: EvictionPolicy,
    /// Unused for this long, a model is dropped by [`Registry::tend`](crate::Registry::tend); `None`
    /// is never.
    pub idle_timeout: Option<Duration>,
    /// Unused for this long, a model gives back the frames that it holds beyond
    /// `background_cache_frames`, and is the first to give back more.
    pub frames_idle: Duration,
    /// Background frames that a model holds while it is used, at least 1 (0 is taken as 1). It holds
    /// more while `max_frame_bytes` has room.
    pub background_cache_frames: usize,
    /// Frames held decoded per model, for answers that are coded as a whole: at least 1 (0 is taken as
    /// 1).
    pub decoded_frames: usize,
    /// Frames loaded while a model loads, along the walk that its answers start with. At most
    /// `background_cache_frames`.
    pub preload_frames: usize,
    /// Quality of the baked frames, 1 to 100.
    pub jpeg_quality: u8,
    /// In which numbers generators run, unless their model says otherwise.
    pub precision: PrecisionChoice,
    /// The folder for packs; `None` is beside each model. Verdicts on bf16 are looked for there, too.
    pub cache_dir: Option<PathBuf>,
    /// Whether packs that are missing or stale are baked in the background.
    pub bake: bool,
    /// Background frames that one model may have. One with more is refused.
    pub max_frames: usize,
    /// Size of one model's pack. One that would be larger is not baked: frames are made from their files.
    pub max_pack_bytes: u64,
}

/// Why [`Registry::reconfigure`](crate::Registry::reconfigure) refuses a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigRefused {
    /// Two models have one id.
    #[error("model {id} is configured twice")]
    DuplicateId {
        /// The id.
        id: ModelId,
    },
    /// A model cannot have so many frames per second, or none.
    #[error("model {id}: fps must be 1 to {MAX_FPS}, not {fps}")]
    Fps {
        /// The model.
        id: ModelId,
        /// What was asked for.
        fps: u32,
    },
    /// There is no such quality of JPEG.
    #[error("jpeg_quality must be 1 to 100, not {quality}")]
    JpegQuality {
        /// What was asked for.
        quality: u8,
    },
}

impl RegistryConfig {
    /// Whether all of it makes sense.
    pub(crate) fn check(&self) -> Result<(), ConfigRefused> {
        let mut ids = HashSet::new();
        for model in &self.models {
            if !ids.insert(&model.id) {
                let id = model.id.clone();
                return Err(ConfigRefused::DuplicateId { id });
            }
            if let Some(fps) = model.fps.filter(|&fps| checked_fps(fps).is_none()) {
                let id = model.id.clone();
                return Err(ConfigRefused::Fps { id, fps });
            }
        }
        match self.jpeg_quality {
            1..=100 => Ok(()),
            quality => Err(ConfigRefused::JpegQuality { quality }),
        }
    }

    /// Whether `model`, loaded under `self`, is what it would be if it were loaded under `other`.
    ///
    /// Limits and the sizes of caches do not count: loaded models take over new ones as they are.
    pub(crate) fn loads_alike(&self, other: &Self, model: &ModelConfig) -> bool {
        self.jpeg_quality == other.jpeg_quality
            && self.cache_dir == other.cache_dir
            && (model.precision.is_some() || self.precision == other.precision)
    }

    /// Where the pack of a model is: in `cache_dir`, or else in the model's folder, or else beside its
    /// folder of frames.
    ///
    /// Models that share a folder share its pack; models that share frames do not, since their
    /// rectangles or networks differ.
    pub(crate) fn pack_path(&self, model: &ModelConfig) -> PathBuf {
        let name = format!("{}.pack", model.id);
        if let Some(folder) = &self.cache_dir {
            return folder.join(name);
        }
        match &model.source {
            ModelSource::Folder(folder) => folder.join("avatar.pack"),
            ModelSource::Parts { background_dir, .. } => background_dir.with_file_name(name),
        }
    }
}
