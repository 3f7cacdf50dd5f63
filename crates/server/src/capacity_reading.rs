//! A plan, read from a configuration and the files of its models.

use std::{collections::HashSet, fs, path::Path, sync::Arc};

use lipsync_core::ModelId;
use lipsync_engine::{
    LoadOptions,
    cuda::{Footprint, encoder_bytes, runs_encoder},
};
use lipsync_registry::Registry;
use sha2::{Digest as _, Sha256};

use crate::{
    Config, CpuLoader,
    capacity_plan::{CapacityPlan, EncoderNeeds, ModelPlan},
    loader::{cache_bytes_on_device, largest_batch},
};

/// The CUDA devices that are planned for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlannedDevices {
    /// How many there are; 0 plans for one.
    pub n: usize,
    /// Memory of the smallest, if that is known.
    pub bytes: Option<u64>,
}

/// A model that has no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplanned {
    /// Which.
    pub id: ModelId,
    /// What is wrong with its files; may name paths.
    pub reason: String,
}

impl CapacityPlan {
    /// Reads every configured model's files; those that cannot be planned for are not in the plan.
    #[must_use]
    pub fn read(config: Config, devices: PlannedDevices) -> (Self, Vec<Unplanned>) {
        let engine = config.engine;
        let mut plan = Self {
            n_workers: config.server.workers.max(),
            n_gpus: devices.n,
            max_bytes: config.registry.max_bytes,
            visual_cache_bytes: engine.visual_cache_bytes,
            max_frame_bytes: config.registry.max_frame_bytes,
            device_bytes: devices.bytes,
            models: Vec::new(),
        };
        let loader = CpuLoader::new(engine.cpu_isa, 0);
        let registry = Registry::new(config.registry, Arc::new(loader));
        let n_workers = plan.n_workers.div_ceil(plan.n_gpus.max(1));
        // Of a device that is not known everything is expected.
        let room = plan.device_bytes.map_or(u64::MAX, |bytes| {
            bytes - cache_bytes_on_device(engine.visual_cache_bytes, bytes)
        });
        let batch_on_gpu =
            |footprint: &Footprint| largest_batch(footprint, engine.max_batch, room, n_workers);
        let mut unplanned = Vec::new();
        let mut on_gpu = engine.encodes_on_gpu.then(HashSet::new);
        let mut read = |id: &ModelId| -> Result<ModelPlan, String> {
            let files = registry.files(id).map_err(|error| error.detail())?;
            let onnx = registry
                .read_generator(id)
                .map_err(|error| error.detail())?;
            let encoder = match &files.audio_encoder {
                Some(path) => read_encoder(path, on_gpu.as_mut())?,
                None => EncoderNeeds::default(),
            };
            let about = (id.clone(), files.n_frames, encoder);
            let options = LoadOptions {
                isa: engine.cpu_isa,
                limits: engine.limits,
                ..LoadOptions::default()
            };
            let plan = ModelPlan::read(about, &onnx, options, batch_on_gpu);
            plan.map_err(|error| error.to_string())
        };
        for status in registry.list() {
            match read(&status.id) {
                Ok(model) => plan.models.push(model),
                Err(reason) => unplanned.push(Unplanned {
                    id: status.id,
                    reason,
                }),
            }
        }
        (plan, unplanned)
    }
}

/// What an audio encoder's file needs. `on_gpu` has what was read before, if encoders run on GPUs: models whose files are
/// equal share one.
fn read_encoder(
    path: &Path,
    on_gpu: Option<&mut HashSet<[u8; 32]>>,
) -> Result<EncoderNeeds, String> {
    let file = fs::metadata(path).map_err(|error| error.to_string())?.len();
    let on_host = EncoderNeeds {
        file,
        beside_gpu: file,
        on_gpu: 0,
    };
    let Some(known) = on_gpu else {
        return Ok(on_host);
    };
    let onnx = fs::read(path).map_err(|error| error.to_string())?;
    if !runs_encoder(&onnx) {
        return Ok(on_host);
    }
    let is_first = known.insert(Sha256::digest(&onnx).into());
    let bytes = encoder_bytes(&onnx).map_err(|error| error.to_string())?;
    Ok(EncoderNeeds {
        file,
        beside_gpu: 0,
        on_gpu: if is_first { bytes } else { 0 },
    })
}
