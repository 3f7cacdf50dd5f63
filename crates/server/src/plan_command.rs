//! `lipsync-server plan`: the memory that a configuration needs, without starting a server or having a GPU.

use std::{fs, path::Path, process::ExitCode};

use lipsync_engine::{LoadOptions, cuda::Devices};
use lipsync_registry::Registry;
use lipsync_server::{
    CpuLoader,
    capacity_plan::{CapacityPlan, ModelPlan},
    config::DeviceChoice,
    devices,
    loader::{cache_bytes_on_device, largest_batch},
};

use crate::command_line::{complain, load, say};

/// Plans for this machine's devices, or for one with `device_memory_gb`. Exits with 1 if a model's files
/// cannot be read.
pub fn plan(file: &Path, device_memory_gb: Option<u32>) -> anyhow::Result<ExitCode> {
    let config = load(file)?;
    let choice = config.engine.device;
    let infos = match choice {
        DeviceChoice::Cpu => Vec::new(),
        // A machine without one can still plan for one.
        _ => Devices::discover().unwrap_or_default(),
    };
    let usable = infos.iter().filter(|info| info.unusable().is_none());
    let found: Vec<u64> = usable.map(|info| info.total_bytes).collect();
    let given = device_memory_gb.map(|gb| u64::from(gb) << 30);
    let engine = config.engine;
    let mut plan = CapacityPlan {
        n_workers: config.server.workers.max(),
        n_gpus: found.len(),
        max_bytes: config.registry.max_bytes,
        visual_cache_bytes: engine.visual_cache_bytes,
        max_frame_bytes: config.registry.max_frame_bytes,
        device_bytes: given.or_else(|| found.iter().min().copied()),
        models: Vec::new(),
    };
    let loader = CpuLoader::new(engine.cpu_isa, 0);
    let registry = Registry::new(config.registry, std::sync::Arc::new(loader));
    let n_workers = plan.n_workers.div_ceil(plan.n_gpus.max(1));
    // Of a device that is not known everything is expected.
    let room = plan.device_bytes.map_or(u64::MAX, |bytes| {
        bytes - cache_bytes_on_device(engine.visual_cache_bytes, bytes)
    });
    let batch_on_gpu = |footprint: &_| largest_batch(footprint, engine.max_batch, room, n_workers);
    let mut code = ExitCode::SUCCESS;
    for status in registry.list() {
        let read = || -> anyhow::Result<ModelPlan> {
            let files = registry
                .files(&status.id)
                .map_err(|error| anyhow::anyhow!(error.detail()))?;
            let onnx = registry
                .read_generator(&status.id)
                .map_err(|error| anyhow::anyhow!(error.detail()))?;
            let encoder = files.audio_encoder.as_ref().map(fs::metadata).transpose()?;
            let encoder_bytes = encoder.map_or(0, |metadata| metadata.len());
            let about = (status.id.clone(), files.n_frames, encoder_bytes);
            let options = LoadOptions {
                isa: engine.cpu_isa,
                limits: engine.limits,
                ..LoadOptions::default()
            };
            Ok(ModelPlan::read(about, &onnx, options, batch_on_gpu)?)
        };
        match read() {
            Ok(model) => plan.models.push(model),
            Err(error) => {
                complain(&error.context(status.id.to_string()));
                code = ExitCode::FAILURE;
            }
        }
    }
    say(&plan)?;
    let (_, unproven) = devices::proven(choice, infos.clone());
    if let Some(unproven) = unproven {
        say(&unproven)?;
    }
    Ok(code)
}
