//! What the registry says about a model.

use std::time::Duration;

use lipsync_core::{AudioKind, Fps, ModelId};
use lipsync_engine::VisualCacheStats;
use lipsync_telemetry::HistogramSnapshot;

use crate::{CacheStats, PackFault, PrecisionInUse};

/// Where a configured model is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// Not in memory.
    Unloaded,
    /// Being loaded.
    Loading,
    /// In memory, warmed up.
    Ready,
    /// The last load failed; the next request tries again.
    Failed,
}

/// Where a model's pack is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackState {
    /// There is none: frames are made from their files.
    None,
    /// It is being baked; until then as with none.
    Baking {
        /// Frames done.
        n_done: u32,
        /// Frames of the avatar.
        n_frames: u32,
    },
    /// Frames are read from it.
    Ready {
        /// Its size on the disk.
        n_bytes: u64,
    },
    /// There is one that is stale, damaged or foreign, or baking failed: as with none.
    Refused {
        /// Why.
        fault: PackFault,
    },
}

/// What is known of a model once it has been loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelInfo {
    /// Which audio encoder its generator was trained with.
    pub audio_kind: AudioKind,
    /// Output frames per second.
    pub fps: Fps,
    /// Background frames.
    pub n_frames: u32,
    /// Width of a frame, px.
    pub width: usize,
    /// Height of a frame, px.
    pub height: usize,
}

/// Why a model was dropped from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnloadReason {
    /// Somebody asked for it.
    Requested,
    /// Another model, or a limit that was lowered, needed the room.
    Room,
    /// Nobody had used it for long.
    Idle,
    /// The configuration of the model has changed.
    Changed,
    /// The model is not configured any more.
    Removed,
}

impl UnloadReason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Requested,
        Self::Room,
        Self::Idle,
        Self::Changed,
        Self::Removed,
    ];

    /// Its name in labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Room => "room",
            Self::Idle => "idle",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// Loads and unloads of one model since the server started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelTimes {
    /// What loads took, those that failed too.
    pub loads: HistogramSnapshot,
    /// Times that it was dropped, by reason.
    pub unloads: [(UnloadReason, u64); UnloadReason::ALL.len()],
}

/// State and statistics of one configured model.
#[derive(Debug, Clone)]
pub struct ModelStatus {
    /// Its name.
    pub id: ModelId,
    /// Where it is in its life.
    pub state: ModelState,
    /// Why the last load failed, without paths.
    pub failure: Option<String>,
    /// Where it runs; `None` unless ready.
    pub device: Option<String>,
    /// In which numbers its generator runs, and why; `None` unless ready.
    pub precision: Option<PrecisionInUse>,
    /// Kept from the last load; `None` before the first.
    pub info: Option<ModelInfo>,
    /// Bytes of the weights in memory, 0 unless ready.
    pub weights_bytes: u64,
    /// The frame cache; `None` unless ready. It starts anew with every load.
    pub background_cache: Option<CacheStats>,
    /// The cache of whole decoded frames; `None` unless ready.
    pub decoded_cache: Option<CacheStats>,
    /// Its pack; `None` unless ready.
    pub pack: Option<PackState>,
    /// What its generator keeps of background frames; `None` unless ready and where nothing is kept.
    pub visual_cache: Option<VisualCacheStats>,
    /// Bytes that the model counts against [`max_bytes`](crate::RegistryConfig::max_bytes), 0 unless
    /// ready: its weights.
    pub reserved_bytes: u64,
    /// Requests that used it since the server started.
    pub usage_count: u64,
    /// The last use, milliseconds since the Unix epoch.
    pub last_used_unix_ms: Option<u64>,
    /// Frames that its network made.
    pub frames: u64,
    /// Network time over all workers.
    pub total_inference: Duration,
    /// Times that it was loaded.
    pub loads: u64,
    /// Times that it was dropped: by request, eviction or idleness.
    pub unloads: u64,
    /// The same in detail.
    pub times: ModelTimes,
}
