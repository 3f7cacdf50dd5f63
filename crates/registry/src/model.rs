//! A model in memory.

use std::{fmt, sync::Arc, time::Duration};

use lipsync_core::{AudioKind, FaceGeometry, ModelId};
use lipsync_engine::{AudioEncoder, Generator};

use crate::{
    BackgroundFrame, CacheStats, ModelInfo, RegistryError, background::BackgroundCache,
    budget::Charge, frames::FrameFiles, usage::Usage,
};

/// A loaded model: its networks and its background frames.
///
/// Whoever holds an `Arc<Model>` pins it: the registry drops only its own reference, and the
/// memory is given back, and no longer counted, when the last one is gone.
pub struct Model {
    pub(crate) id: ModelId,
    pub(crate) generator: Arc<dyn Generator>,
    pub(crate) audio_encoder: Option<Arc<dyn AudioEncoder>>,
    pub(crate) audio_kind: AudioKind,
    pub(crate) fps: u32,
    pub(crate) frames: FrameFiles,
    pub(crate) cache: BackgroundCache,
    pub(crate) usage: Arc<Usage>,
    /// Last, because fields are dropped in order: memory goes before its charge.
    pub(crate) charge: Charge,
}

impl Model {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// The network that redraws the face.
    ///
    /// A clone of this `Arc` outlives the model, uncounted by the budget: hold the model, too.
    #[must_use]
    pub fn generator(&self) -> &Arc<dyn Generator> {
        &self.generator
    }

    /// The network that turns sound into feature steps, where the model has one.
    #[must_use]
    pub fn audio_encoder(&self) -> Option<&Arc<dyn AudioEncoder>> {
        self.audio_encoder.as_ref()
    }

    /// Which audio encoder the generator was trained with.
    #[must_use]
    pub fn audio_kind(&self) -> AudioKind {
        self.audio_kind
    }

    /// `[C, H, W]` of one audio window.
    #[must_use]
    pub fn audio_shape(&self) -> [usize; 3] {
        self.generator.audio_shape()
    }

    /// The squares that the generator works on.
    #[must_use]
    pub fn geometry(&self) -> FaceGeometry {
        self.generator.geometry()
    }

    /// Output frames per second, at least 1.
    #[must_use]
    pub fn fps(&self) -> u32 {
        self.fps
    }

    /// Background frames, at least 1.
    #[must_use]
    pub fn n_frames(&self) -> u32 {
        self.frames.len()
    }

    /// Width of a frame, px.
    #[must_use]
    pub fn width(&self) -> usize {
        self.frames.width()
    }

    /// Height of a frame, px.
    #[must_use]
    pub fn height(&self) -> usize {
        self.frames.height()
    }

    /// Bytes of the weights of both networks.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        let encoder = self.audio_encoder.as_ref();
        self.generator.weights_bytes() + encoder.map_or(0, |e| e.weights_bytes())
    }

    /// Bytes that the model counts against the budget: its weights and a full frame cache.
    #[must_use]
    pub fn reserved_bytes(&self) -> u64 {
        self.charge.amount().bytes
    }

    /// A background frame, `index < n_frames`.
    ///
    /// Blocks for the milliseconds that a missing frame takes to be read and decoded: never call it
    /// on an async thread. However many ask for a missing frame, it is decoded once.
    ///
    /// # Errors
    /// [`RegistryError::FrameIndex`], and what is wrong with the frame's file. A failure is not
    /// kept: the next request reads the file again.
    pub fn background(&self, index: u32) -> Result<Arc<BackgroundFrame>, RegistryError> {
        // Checked first, so that what does not exist is no miss.
        if index >= self.n_frames() {
            return Err(RegistryError::FrameIndex {
                index,
                n_frames: self.n_frames(),
            });
        }
        self.cache
            .get(index, || self.frames.decode(index, self.geometry()))
    }

    /// How the frame cache has fared since the model was loaded.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Counts work that its network did; call it once per finished request.
    pub fn record_use(&self, frames: u64, inference: Duration) {
        self.usage.add_work(frames, inference);
    }

    pub(crate) fn info(&self) -> ModelInfo {
        ModelInfo {
            audio_kind: self.audio_kind,
            fps: self.fps,
            n_frames: self.n_frames(),
            width: self.width(),
            height: self.height(),
        }
    }

    /// Decodes the frames that answers starting at 0 show first.
    pub(crate) fn preload(&self, n_frames: usize) -> Result<(), RegistryError> {
        let n_frames = n_frames.min(self.cache_stats().capacity_frames) as u64;
        for place in 0..n_frames {
            let index = lipsync_core::background_index(place, self.n_frames());
            self.cache
                .preload(index, || self.frames.decode(index, self.geometry()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("id", &self.id)
            .field("info", &self.info())
            .finish_non_exhaustive()
    }
}
