//! From files to a model that is ready.

use std::{path::Path, sync::Arc};

use lipsync_core::{
    Family,
    family::{AudioForm, StepForm, WindowSource},
};
use lipsync_engine::{AudioEncoder, Device, EngineError, Generator, MakeRoom, with_room};

use crate::{
    Model, ModelConfig, NetworkLoader, PrecisionInUse, PrecisionReason, RegistryConfig,
    RegistryError, Rest, RestFaces, Verdict,
    budget::{Amount, Charge, Wanted},
    encoders::{self, Encoders},
    fence::Fence,
    frame_budget::FrameBudget,
    frame_files::FrameFiles,
    frames::Frames,
    layout::Avatar,
    network_file,
    read_ahead::ReadAhead,
    trial,
    usage::Usage,
};

pub(crate) const GENERATOR: &str = "generator";
const AUDIO_ENCODER: &str = "audio encoder";

/// Gets room for a model.
pub(crate) trait Room: MakeRoom {
    /// Chooses a device and charges what is wanted there.
    fn place(&self, wanted: Wanted) -> Result<Charge, RegistryError>;

    /// Makes a charge what is wanted, on the device where it is.
    fn charge(&self, charge: &mut Charge, wanted: Wanted) -> Result<(), RegistryError>;

    /// Takes note of the workers' memory for a model that has run.
    fn keep_arenas(&self, charge: &Charge, n_bytes: u64);
}

/// What loading needs to know besides the model's own configuration.
pub(crate) struct Loading<'a> {
    pub config: &'a ModelConfig,
    pub registry: &'a RegistryConfig,
    pub loader: &'a dyn NetworkLoader,
    pub frame_budget: &'a Arc<FrameBudget>,
    pub read_ahead: &'a ReadAhead,
    pub encoders: &'a Encoders,
}

impl Loading<'_> {
    /// Reads, checks and warms up a model. Blocks for as long as that takes.
    ///
    /// Room is made before any network is, from the sizes of the files, and corrected once the
    /// networks can be asked. So a network that takes more memory than its file is over the budget
    /// for a moment, and refused then if nothing else can go. What the engine needs while it reads
    /// a file is not counted.
    pub(crate) fn run(&self, usage: &Arc<Usage>, room: &dyn Room) -> Result<Model, RegistryError> {
        let avatar = Avatar::find(self.config, self.registry.max_frames)?;
        let fence = avatar.fence;
        let files = FrameFiles::check(&fence, avatar.frames, &avatar.rectangles)?;

        let mut estimate = network_file::size(&fence, &avatar.generator, GENERATOR)?;
        if let Some(path) = &avatar.audio_encoder {
            estimate += network_file::size(&fence, path, AUDIO_ENCODER)?;
        }
        let charge = room.place(Wanted {
            amount: Amount {
                models: 1,
                bytes: estimate,
                host_bytes: 0,
            },
            arena_bytes: 0,
        })?;

        let onnx = network_file::read(&fence, &avatar.generator, GENERATOR)?;
        let device = charge.room().device;
        let source = (&*avatar.generator, &*onnx);
        let (generator, precision) = with_room(room, device, || {
            self.generator(source, device, avatar.audio)
        })?;
        let arena_bytes = match device {
            Device::Cpu => self
                .loader
                .host_workers()
                .saturating_mul(generator.workspace_bytes()),
            Device::Cuda(_) => self.loader.arena_bytes(&onnx, device),
        };
        // It is needed once more where the generator is to be tried.
        let onnx = (device != Device::Cpu).then_some(onnx);
        let encoder_path = avatar.audio_encoder.as_deref();
        let audio_encoder = encoder_path
            .map(|path| self.audio_encoder((&fence, path), avatar.audio, (device, room)))
            .transpose()?;
        let hears_mel = avatar.audio.is_mel_at(avatar.fps);
        if avatar.rest == Rest::Generated && audio_encoder.is_none() && !hears_mel {
            return Err(RegistryError::RestWithoutEncoder);
        }
        let n_frames = files.len();
        let rest =
            (avatar.rest == Rest::Generated).then(|| RestFaces::new(n_frames, self.frame_budget));
        let model = Model {
            rest,
            feather: avatar.feather,
            id: self.config.id.clone(),
            frames: Arc::new(self.frames(files, &*generator)),
            generator,
            generator_path: avatar.generator,
            precision,
            audio_encoder,
            audio: avatar.audio,
            fps: avatar.fps,
            read_ahead: self.read_ahead.clone(),
            usage: Arc::clone(usage),
            charge,
        };
        let onnx = onnx.as_deref();
        self.make_ready(model, (arena_bytes, avatar.cuts_output), onnx, room)
    }

    /// The frames of a model, which need its generator only to know the size of the face crops.
    pub(crate) fn find_frames(&self) -> Result<Frames, RegistryError> {
        let avatar = Avatar::find(self.config, self.registry.max_frames)?;
        let fence = avatar.fence;
        let files = FrameFiles::check(&fence, avatar.frames, &avatar.rectangles)?;
        let onnx = network_file::read(&fence, &avatar.generator, GENERATOR)?;
        let source = (&*avatar.generator, &*onnx);
        let (generator, _) = self.generator(source, Device::Cpu, avatar.audio)?;
        Ok(self.frames(files, &*generator))
    }

    fn frames(&self, files: FrameFiles, generator: &dyn Generator) -> Frames {
        let pack_path = self.registry.pack_path(self.config);
        Frames::new(
            files,
            generator.geometry(),
            pack_path,
            self.registry,
            self.frame_budget,
        )
    }

    fn make_ready(
        &self,
        mut model: Model,
        (arena_bytes, cuts_output): (u64, bool),
        onnx: Option<&[u8]>,
        room: &dyn Room,
    ) -> Result<Model, RegistryError> {
        let wanted = Wanted {
            amount: model.amount(),
            arena_bytes,
        };
        room.charge(&mut model.charge, wanted)?;
        let generator = &model.generator;
        with_room(room, generator.device(), || {
            let warm_up = self.loader.warm_up(generator);
            warm_up.map_err(|e| network("warm-up of the generator", e))
        })?;
        room.keep_arenas(&model.charge, arena_bytes);
        // Without a good one, frames are made from their files.
        let _ = model.frames.open_pack();
        if !cuts_output {
            trial::check_range(&model)?;
        }
        if let Some(onnx) = onnx {
            trial::check_values(self.loader, &model, onnx)?;
        }
        model.preload(self.registry.preload_frames)?;
        Ok(model)
    }

    /// In which numbers the generator of the file `path`, which holds `onnx`, is to run on `device`.
    fn precision(&self, (path, onnx): (&Path, &[u8]), device: Device) -> PrecisionInUse {
        if device != Device::Cpu {
            return PrecisionInUse::of_device();
        }
        let choice = self.config.precision.unwrap_or(self.registry.precision);
        let verdict = Verdict::find(path, onnx, self.registry.cache_dir.as_deref());
        let in_use = PrecisionInUse::choose(choice, &self.loader.faster_than_f32(), verdict);
        if matches!(in_use.reason, PrecisionReason::ConfiguredButNotFaster(_)) {
            tracing::warn!(model = %self.config.id, "it runs in f32: {}", in_use.reason);
        }
        in_use
    }

    /// The generator of a file, by its path and contents.
    fn generator(
        &self,
        (path, onnx): (&Path, &[u8]),
        device: Device,
        audio: &AudioForm,
    ) -> Result<(Arc<dyn Generator>, PrecisionInUse), RegistryError> {
        let precision = self.precision((path, onnx), device);
        let generator = self.loader.generator(onnx, device, precision.precision);
        let generator = generator.map_err(|e| network(GENERATOR, e))?;
        let geometry = generator.geometry();
        let family = Family::of_region(geometry.region_px);
        if family.and_then(|family| family.face(geometry.region_px)) != Some(geometry) {
            return Err(RegistryError::Contract {
                expected: format!("a face region of {} pixels", Family::all_sides()),
                found: format!("{} pixels", geometry.region_px),
            });
        }
        let shape = generator.audio_shape();
        let AudioForm { kind, windows, .. } = audio;
        let is_heard = family.is_some_and(|family| family.audio(*kind).is_some());
        if !windows.contains(&shape) || !is_heard {
            return Err(RegistryError::Contract {
                expected: format!("{kind} windows of {windows:?}"),
                found: match Family::kind_of_window(shape) {
                    Some(other) => format!("{shape:?}, which audio_kind: {other} has"),
                    None => format!("{shape:?}"),
                },
            });
        }
        Ok((generator, precision))
    }

    fn audio_encoder(
        &self,
        (fence, path): (&Fence, &Path),
        audio: &AudioForm,
        (device, room): (Device, &dyn Room),
    ) -> Result<Arc<dyn AudioEncoder>, RegistryError> {
        let kind = audio.kind;
        let WindowSource::Steps(step) = audio.source else {
            let expected = if audio.source == WindowSource::Mel {
                format!("no audio encoder: networks of kind {kind} hear the spectrogram itself")
            } else {
                format!("no audio encoder: {kind} features are made by clients")
            };
            let found = "one".into();
            return Err(RegistryError::Contract { expected, found });
        };
        let onnx = network_file::read(fence, path, AUDIO_ENCODER)?;
        let on = self.loader.encoder_device(&onnx, device);
        let load = || with_room(room, on, || self.loader.audio_encoder(&onnx, on));
        let encoder = self.encoders.find_or_load((&*onnx, on), load);
        let encoder = encoder.map_err(|e| network(AUDIO_ENCODER, e))?;
        let found = encoder.step_form();
        if found != step || encoder.step_floats() != step.n_floats {
            return Err(RegistryError::Contract {
                expected: format!(
                    "the audio encoder of {kind}, {} floats a step",
                    step.n_floats
                ),
                found: format!("one of {} floats a step", encoder.step_floats()),
            });
        }
        // Those of AVE are fast everywhere.
        if found != StepForm::AVE {
            let step = encoders::time_step(&*encoder).map_err(|e| network(AUDIO_ENCODER, e))?;
            encoders::report_speed(&self.config.id, &*encoder, step);
        }
        Ok(encoder)
    }
}

pub(crate) fn network(what: &'static str, error: EngineError) -> RegistryError {
    RegistryError::Network {
        what,
        source: Arc::new(error),
    }
}
