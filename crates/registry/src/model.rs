//! A model in memory.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lipsync_compositor::{BakeSettings, FaceCrop, Picture};
use lipsync_core::{
    AudioKind, FaceGeometry, Fps, ModelId, PixelRect, background_index, family::AudioForm,
};
use lipsync_engine::{AudioEncoder, Device, Generator};

use crate::{
    BackgroundFrame, CacheStats, ModelInfo, PackState, PrecisionInUse, RegistryError, RestFaces,
    budget::{Amount, Charge},
    frames::Frames,
    read_ahead::ReadAhead,
    usage::Usage,
};

/// A loaded model: its networks and its background frames.
///
/// Whoever holds an `Arc<Model>` pins it: the registry drops only its own reference, and the
/// memory is given back, and no longer counted, when the last one is gone.
pub struct Model {
    pub(crate) id: ModelId,
    pub(crate) generator: Arc<dyn Generator>,
    pub(crate) generator_path: PathBuf,
    pub(crate) precision: PrecisionInUse,
    pub(crate) audio_encoder: Option<Arc<dyn AudioEncoder>>,
    pub(crate) audio: &'static AudioForm,
    pub(crate) fps: Fps,
    pub(crate) frames: Arc<Frames>,
    /// Percent of the face's side.
    pub(crate) feather: u8,
    pub(crate) rest: Option<RestFaces>,
    pub(crate) read_ahead: ReadAhead,
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

    /// The file that the generator was read from.
    #[must_use]
    pub fn generator_path(&self) -> &Path {
        &self.generator_path
    }

    /// In which numbers the generator runs, and why.
    #[must_use]
    pub fn precision(&self) -> &PrecisionInUse {
        &self.precision
    }

    /// The network that turns sound into feature steps, where the model has one.
    #[must_use]
    pub fn audio_encoder(&self) -> Option<&Arc<dyn AudioEncoder>> {
        self.audio_encoder.as_ref()
    }

    /// Which audio encoder the generator was trained with.
    #[must_use]
    pub fn audio_kind(&self) -> AudioKind {
        self.audio.kind
    }

    /// Whether the server makes windows of sound for it.
    #[must_use]
    pub fn hears_sound(&self) -> bool {
        let has_steps = self.audio_encoder.is_some() && self.audio.steps_at(self.fps).is_ok();
        has_steps || self.audio.is_mel_at(self.fps)
    }

    /// How its audio comes to the generator.
    #[must_use]
    pub fn audio_form(&self) -> &'static AudioForm {
        self.audio
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

    /// How wide the soft edge of a pasted face is, pixels of the generator's face; 0 where it is hard.
    #[must_use]
    pub fn feather_px(&self) -> usize {
        self.geometry().region_px * usize::from(self.feather) / 100
    }

    /// The faces that it shows where nobody speaks; `None` where it shows its background frames.
    #[must_use]
    pub fn rest_faces(&self) -> Option<&RestFaces> {
        self.rest.as_ref()
    }

    /// Output frames per second.
    #[must_use]
    pub fn fps(&self) -> Fps {
        self.fps
    }

    /// Background frames, at least 1.
    #[must_use]
    pub fn n_frames(&self) -> u32 {
        self.frames.files.len()
    }

    /// Width of a frame, px.
    #[must_use]
    pub fn width(&self) -> usize {
        self.frames.files.width()
    }

    /// Height of a frame, px.
    #[must_use]
    pub fn height(&self) -> usize {
        self.frames.files.height()
    }

    /// Bytes of the weights of both networks.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        let encoder = self.audio_encoder.as_ref();
        self.generator.weights_bytes() + encoder.map_or(0, |e| e.weights_bytes())
    }

    /// Bytes that the model counts against the budget of weights, of its device and of the host.
    #[must_use]
    pub fn reserved_bytes(&self) -> u64 {
        let amount = self.charge.amount();
        amount.bytes + amount.host_bytes
    }

    /// What it takes, and where.
    pub(crate) fn amount(&self) -> Amount {
        let encoder = self.audio_encoder.as_ref();
        let [on_host, on_device] = match encoder.map(|e| (e, e.device())) {
            None => [0, 0],
            Some((encoder, Device::Cpu)) => [encoder.weights_bytes(), 0],
            Some((encoder, Device::Cuda(_))) => [0, encoder.device_bytes()],
        };
        let (bytes, host_bytes) = match self.generator.device() {
            Device::Cpu => (self.generator.weights_bytes() + on_host, 0),
            Device::Cuda(_) => (self.generator.device_bytes() + on_device, on_host),
        };
        Amount {
            models: 1,
            bytes,
            host_bytes,
        }
    }

    /// How its background frames are coded.
    #[must_use]
    pub fn bake_settings(&self) -> BakeSettings {
        self.frames.settings
    }

    /// A background frame, `index < n_frames`, baked as [`Self::bake_settings`] says. For one whose file is
    /// damaged, and from then on in all that is asked about it, the nearest good one.
    ///
    /// Blocks where the frame is not in memory, a fraction of a millisecond with a pack and tens of
    /// milliseconds without: never call it on an async thread. However many ask for a missing frame,
    /// it is loaded once.
    ///
    /// # Errors
    /// [`RegistryError::FrameIndex`], what is wrong with the files of all frames, and a file that was
    /// changed or removed since the model was loaded. A failure is not kept: the next request reads the file
    /// again.
    pub fn background(&self, index: u32) -> Result<Arc<BackgroundFrame>, RegistryError> {
        self.frames.get(index)
    }

    /// Where the face of a background frame is. Known without reading anything; of a damaged frame, which is
    /// shown as a neighbour, once it has been found damaged.
    ///
    /// # Errors
    /// [`RegistryError::FrameIndex`].
    pub fn face_rect(&self, index: u32) -> Result<PixelRect, RegistryError> {
        self.frames.rect(index)
    }

    /// The face of a background frame, as the network wants it.
    ///
    /// Blocks: with a pack it is read at every call (320 kB, some 0.1 ms), because to hold the faces
    /// of all frames would double their memory.
    ///
    /// # Errors
    /// As [`Self::background`].
    pub fn face_crop(&self, index: u32) -> Result<FaceCrop, RegistryError> {
        self.frames.crop(index)
    }

    /// As [`Self::face_crop`], of a frame that is at hand: without a pack it holds its face.
    ///
    /// # Errors
    /// As [`Self::background`].
    pub fn face_of(&self, index: u32, frame: &BackgroundFrame) -> Result<FaceCrop, RegistryError> {
        match &frame.crop {
            Some(crop) => Ok(crop.clone()),
            None => self.face_crop(index),
        }
    }

    /// A background frame decoded, for answers that are coded as a whole.
    ///
    /// Blocks for the milliseconds that a missing frame takes to be read and decoded. Only
    /// [`RegistryConfig::decoded_frames`](crate::RegistryConfig::decoded_frames) are kept.
    ///
    /// # Errors
    /// As [`Self::background`].
    pub fn picture(&self, index: u32) -> Result<Arc<Picture>, RegistryError> {
        self.frames.picture(index)
    }

    /// Has the frames of `n_frames` places of the walk from `place` on loaded in the background, as
    /// far as they are missing. Never blocks.
    ///
    /// To be called when they are likely to be asked for soon. More than half of what the cache holds
    /// is not read ahead.
    pub fn read_ahead(&self, place: u64, n_frames: usize) {
        self.read_ahead.request(&self.frames, place, n_frames);
    }

    /// How the frame cache has fared since the model was loaded.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.frames.cache_stats()
    }

    /// The same for the decoded frames.
    #[must_use]
    pub fn decoded_stats(&self) -> CacheStats {
        self.frames.picture_stats()
    }

    /// Where its pack is in its life.
    #[must_use]
    pub fn pack_state(&self) -> PackState {
        self.frames.pack_state()
    }

    /// Counts work that its network did; call it once per finished request.
    pub fn record_use(&self, frames: u64, inference: Duration) {
        self.usage.add_work(frames, inference);
    }

    pub(crate) fn info(&self) -> ModelInfo {
        ModelInfo {
            audio_kind: self.audio.kind,
            fps: self.fps,
            n_frames: self.n_frames(),
            width: self.width(),
            height: self.height(),
        }
    }

    /// Loads the frames that answers starting at 0 show first.
    pub(crate) fn preload(&self, n_frames: usize) -> Result<(), RegistryError> {
        let n_frames = n_frames.min(self.frames.base_frames()) as u64;
        for place in 0..n_frames {
            self.frames
                .preload(background_index(place, self.n_frames()))?;
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
