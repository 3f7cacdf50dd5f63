//! From files to a model that is ready.

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use lipsync_core::{AudioKind, FaceGeometry};
use lipsync_engine::{AudioEncoder, EngineError, Generator};

use crate::{
    Model, ModelConfig, NetworkLoader, RegistryError,
    background::BackgroundCache,
    budget::Charge,
    files::{self, MAX_ONNX_BYTES},
    frames::FrameFiles,
    layout::Avatar,
    usage::Usage,
};

const GENERATOR: &str = "generator";
const AUDIO_ENCODER: &str = "audio encoder";

/// Gets room for a model: makes the charge one model of so many bytes.
pub(crate) trait Room {
    fn charge(&self, charge: &mut Charge, n_bytes: u64) -> Result<(), RegistryError>;
    fn nothing(&self) -> Charge;
}

/// What loading needs to know besides the model's own configuration.
pub(crate) struct Loading<'a> {
    pub config: &'a ModelConfig,
    pub loader: &'a dyn NetworkLoader,
    pub cache_frames: usize,
    pub preload_frames: usize,
}

impl Loading<'_> {
    /// Reads, checks and warms up a model. Blocks for as long as that takes.
    ///
    /// Room is made before any network is, from the sizes of the files, and corrected once the
    /// networks can be asked. So a network that takes more memory than its file is over the budget
    /// for a moment, and refused then if nothing else can go. What the engine needs while it reads
    /// a file is not counted.
    pub(crate) fn run(&self, usage: &Arc<Usage>, room: &dyn Room) -> Result<Model, RegistryError> {
        let avatar = Avatar::find(self.config)?;
        let frames = FrameFiles::check(avatar.frames, &avatar.rectangles)?;
        let capacity = self.cache_frames.clamp(1, frames.len() as usize);
        let cache_bytes = |geometry| capacity as u64 * frames.frame_bytes(geometry);

        let mut estimate = files::size(&avatar.generator, GENERATOR)?;
        if let Some(path) = &avatar.audio_encoder {
            estimate += files::size(path, AUDIO_ENCODER)?;
        }
        let mut charge = room.nothing();
        room.charge(&mut charge, estimate + cache_bytes(FaceGeometry::LARGE))?;

        let generator = self.generator(&avatar.generator, avatar.audio_kind)?;
        let encoder_path = avatar.audio_encoder.as_deref();
        let audio_encoder = encoder_path
            .map(|path| self.audio_encoder(path, avatar.audio_kind))
            .transpose()?;
        let cache_bytes = cache_bytes(generator.geometry());
        let model = Model {
            id: self.config.id.clone(),
            generator,
            audio_encoder,
            audio_kind: avatar.audio_kind,
            fps: avatar.fps,
            frames,
            cache: BackgroundCache::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN)),
            usage: Arc::clone(usage),
            charge,
        };
        self.make_ready(model, cache_bytes, room)
    }

    fn make_ready(
        &self,
        mut model: Model,
        cache_bytes: u64,
        room: &dyn Room,
    ) -> Result<Model, RegistryError> {
        let n_bytes = model.weights_bytes() + cache_bytes;
        room.charge(&mut model.charge, n_bytes)?;
        self.loader
            .warm_up(&*model.generator)
            .map_err(|e| network("warm-up of the generator", e))?;
        model.preload(self.preload_frames)?;
        Ok(model)
    }

    fn generator(&self, path: &Path, kind: AudioKind) -> Result<Arc<dyn Generator>, RegistryError> {
        let onnx = files::read(path, GENERATOR, MAX_ONNX_BYTES)?;
        let generator = self.loader.generator(&onnx);
        let generator = generator.map_err(|e| network(GENERATOR, e))?;
        let geometry = generator.geometry();
        if FaceGeometry::for_region(geometry.region_px) != Some(geometry) {
            return Err(RegistryError::Contract {
                expected: "a face region of 320 or 160 pixels".into(),
                found: format!("{} pixels", geometry.region_px),
            });
        }
        let shape = generator.audio_shape();
        let allowed = audio_shapes(kind);
        if !allowed.contains(&shape) {
            return Err(RegistryError::Contract {
                expected: format!("{kind} windows of {allowed:?}"),
                found: format!("{shape:?}"),
            });
        }
        Ok(generator)
    }

    fn audio_encoder(
        &self,
        path: &Path,
        kind: AudioKind,
    ) -> Result<Arc<dyn AudioEncoder>, RegistryError> {
        let Some(step) = kind.step_shape() else {
            return Err(RegistryError::Contract {
                expected: format!("no audio encoder: {kind} features are made by clients"),
                found: "one".into(),
            });
        };
        let onnx = files::read(path, AUDIO_ENCODER, MAX_ONNX_BYTES)?;
        let encoder = self.loader.audio_encoder(&onnx);
        let encoder = encoder.map_err(|e| network(AUDIO_ENCODER, e))?;
        if encoder.step_floats() != step.n_floats {
            return Err(RegistryError::Contract {
                expected: format!("{kind} feature steps of {} floats", step.n_floats),
                found: encoder.step_floats().to_string(),
            });
        }
        Ok(encoder)
    }
}

/// `[C, H, W]` of the audio windows in the wild, per kind; the second of two is that of newer
/// 160-pixel networks.
fn audio_shapes(kind: AudioKind) -> &'static [[usize; 3]] {
    match kind {
        AudioKind::Ave => &[[32, 16, 16]],
        AudioKind::Hubert => &[[32, 32, 32], [16, 32, 32]],
        AudioKind::Wenet => &[[256, 16, 32], [128, 16, 32]],
    }
}

fn network(what: &'static str, error: EngineError) -> RegistryError {
    RegistryError::Network {
        what,
        source: Arc::new(error),
    }
}
