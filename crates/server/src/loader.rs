//! How the registry gets its networks: from the engines that the configuration chose.

use std::sync::Arc;

use lipsync_engine::{
    AudioEncoder, CpuIsa, Device, EngineError, FaceInput, Generator, LoadOptions, NetworkLimits,
    Precision, VisualCache, VisualCacheStats,
    cuda::{Cuda, Footprint, runs_encoder},
    kernels::Isa,
    load_audio_encoder, load_generator,
};
use lipsync_registry::{DeviceRoom, NetworkLoader};
use lipsync_worker_pool::LostDevice;

use crate::{Config, StartError, devices};

/// Loads networks for the embedded CPU engine.
#[derive(Debug, Clone)]
pub struct CpuLoader {
    isa: CpuIsa,
    visual_cache: Arc<VisualCache>,
    limits: NetworkLimits,
    n_workers: usize,
}

/// Loads networks for CUDA devices, and what belongs on the host for it.
#[derive(Debug)]
pub struct EngineLoader {
    host: CpuLoader,
    /// At least one.
    gpus: Vec<Gpu>,
    max_batch: usize,
    encodes_on_gpu: bool,
}

#[derive(Debug)]
struct Gpu {
    cuda: Arc<Cuda>,
    /// Of its own: the entries lie in the device's memory.
    visual_cache: Arc<VisualCache>,
    /// For weights and workers.
    max_bytes: u64,
    n_workers: usize,
}

/// Bytes of a device's visual cache, given the configured bytes and the free ones.
#[must_use]
pub fn cache_bytes_on_device(configured: u64, free: u64) -> u64 {
    configured.min(free / VISUAL_CACHE_PART)
}

/// Workers' arenas may take one part in this many of the rest. If they would need more, batches are smaller.
const ARENAS_PART: u64 = 2;

/// The most frames of a batch for which the arenas of a device's workers leave room for weights, of
/// `max_bytes` for both.
#[must_use]
pub fn largest_batch(
    footprint: &Footprint,
    max_batch: usize,
    max_bytes: u64,
    n_workers: usize,
) -> usize {
    let per_worker = max_bytes / ARENAS_PART / n_workers.max(1) as u64;
    footprint.largest_batch(max_batch, per_worker)
}

/// A device's visual cache takes at most one part in this many of the free memory there, whatever is
/// configured.
const VISUAL_CACHE_PART: u64 = 4;

impl CpuLoader {
    /// A loader whose networks use the given instructions, and keep up to this many bytes of what
    /// depends on background frames alone. Audio encoders always run in f32: they take a few percent
    /// of a frame's time, and what they round is in all frames.
    #[must_use]
    pub fn new(isa: CpuIsa, visual_cache_bytes: u64) -> Self {
        Self {
            isa,
            visual_cache: Arc::new(VisualCache::new(visual_cache_bytes)),
            limits: NetworkLimits::default(),
            n_workers: 0,
        }
    }

    /// The same, for networks that take no more than `limits`.
    #[must_use]
    pub fn limited(self, limits: NetworkLimits) -> Self {
        Self { limits, ..self }
    }

    /// The same for this many workers, whose memory is charged to the models that they run.
    #[must_use]
    pub fn with_workers(self, n_workers: usize) -> Self {
        Self { n_workers, ..self }
    }
}

impl EngineLoader {
    /// A loader for these devices, of which the workers of `config` are dealt in turn. Where there are
    /// none, it is the CPU's.
    ///
    /// # Errors
    /// [`StartError::Device`] and [`StartError::DeviceLost`]: what a device reports when it is asked for its
    /// memory.
    pub fn choose(
        config: &Config,
        cudas: Vec<Arc<Cuda>>,
    ) -> Result<Arc<dyn NetworkLoader>, StartError> {
        let engine = &config.engine;
        let host = CpuLoader::new(engine.cpu_isa, engine.visual_cache_bytes).limited(engine.limits);
        if cudas.is_empty() {
            return Ok(Arc::new(host.with_workers(config.server.workers.max())));
        }
        let all: Vec<Device> = cudas.iter().map(|cuda| cuda.device()).collect();
        let workers = devices::of_workers(&all, config.server.workers.max());
        let gpu = |cuda: Arc<Cuda>| {
            let (free, _) = cuda.memory().map_err(|error| unready(&cuda, error))?;
            let cache_bytes = cache_bytes_on_device(engine.visual_cache_bytes, free);
            Ok(Gpu {
                visual_cache: Arc::new(VisualCache::new(cache_bytes)),
                max_bytes: free - cache_bytes,
                n_workers: workers.iter().filter(|&&of| of == cuda.device()).count(),
                cuda,
            })
        };
        let gpus = cudas.into_iter().map(gpu);
        Ok(Arc::new(Self {
            host,
            gpus: gpus.collect::<Result<_, StartError>>()?,
            max_batch: engine.max_batch,
            encodes_on_gpu: engine.encodes_on_gpu,
        }))
    }

    fn gpu(&self, device: Device) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.cuda.device() == device)
    }
}

/// What it means that a device says this instead of how much memory it has.
fn unready(cuda: &Cuda, error: EngineError) -> StartError {
    match error {
        EngineError::DeviceFault {
            reason,
            sticky: true,
            ..
        } => StartError::DeviceLost(LostDevice {
            device: cuda.device(),
            reason,
        }),
        error => StartError::Device(error),
    }
}

fn kept(cache: &Arc<VisualCache>) -> Option<Arc<VisualCache>> {
    (cache.stats().capacity_bytes > 0).then(|| Arc::clone(cache))
}

impl NetworkLoader for CpuLoader {
    fn generator(
        &self,
        onnx: &[u8],
        _: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        let options = LoadOptions {
            isa: self.isa,
            precision,
            visual_cache: kept(&self.visual_cache),
            limits: self.limits,
            ..LoadOptions::default()
        };
        load_generator(onnx, options)
    }

    fn host_workers(&self) -> u64 {
        self.n_workers as u64
    }

    fn faster_than_f32(&self) -> Vec<Precision> {
        self.isa
            .resolve()
            .map_or_else(|_| vec![], Isa::faster_than_f32)
    }

    fn audio_encoder(&self, onnx: &[u8], _: Device) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        let options = LoadOptions {
            isa: self.isa,
            limits: self.limits,
            ..LoadOptions::default()
        };
        load_audio_encoder(onnx, options)
    }

    fn visual_cache(&self) -> VisualCacheStats {
        self.visual_cache.stats()
    }

    fn limit_visual_cache(&self, percent: u32) {
        self.visual_cache.limit_to(percent);
    }

    fn device(&self) -> String {
        lipsync_engine::device_name(self.isa)
    }
}

impl NetworkLoader for EngineLoader {
    fn generator(
        &self,
        onnx: &[u8],
        device: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        let Some(gpu) = self.gpu(device) else {
            return self.host.generator(onnx, device, precision);
        };
        let options = LoadOptions {
            device: Some(Arc::clone(&gpu.cuda)),
            visual_cache: kept(&gpu.visual_cache),
            max_batch: Some(gpu.largest_batch(&Footprint::of(onnx)?, self.max_batch)),
            n_workers: gpu.n_workers,
            limits: self.host.limits,
            ..LoadOptions::default()
        };
        load_generator(onnx, options)
    }

    fn devices(&self) -> Vec<DeviceRoom> {
        let room = |gpu: &Gpu| DeviceRoom {
            device: gpu.cuda.device(),
            name: gpu.name(),
            max_bytes: gpu.max_bytes,
        };
        self.gpus.iter().map(room).collect()
    }

    fn arena_bytes(&self, onnx: &[u8], device: Device) -> u64 {
        // A file that is not understood here was refused before.
        match (self.gpu(device), Footprint::of(onnx)) {
            (Some(gpu), Ok(footprint)) => {
                let batch = gpu.largest_batch(&footprint, self.max_batch);
                let bytes = footprint.arena_bytes_per_worker(batch);
                bytes.saturating_mul(gpu.n_workers as u64)
            }
            _ => 0,
        }
    }

    fn faster_than_f32(&self) -> Vec<Precision> {
        self.host.faster_than_f32()
    }

    fn encoder_device(&self, onnx: &[u8], device: Device) -> Device {
        match self.gpu(device) {
            Some(_) if self.encodes_on_gpu && runs_encoder(onnx) => device,
            _ => Device::Cpu,
        }
    }

    fn audio_encoder(
        &self,
        onnx: &[u8],
        device: Device,
    ) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        let Some(gpu) = self.gpu(device) else {
            return self.host.audio_encoder(onnx, device);
        };
        let options = LoadOptions {
            device: Some(Arc::clone(&gpu.cuda)),
            limits: self.host.limits,
            ..LoadOptions::default()
        };
        load_audio_encoder(onnx, options)
    }

    fn try_values(
        &self,
        onnx: &[u8],
        device: Device,
        frames: &[FaceInput<'_>],
    ) -> Result<(), EngineError> {
        match self.gpu(device) {
            Some(gpu) => gpu.cuda.try_values(onnx, frames),
            None => Ok(()),
        }
    }

    fn visual_cache(&self) -> VisualCacheStats {
        let add = |sum: VisualCacheStats, gpu: &Gpu| {
            let stats = gpu.visual_cache.stats();
            VisualCacheStats {
                hits: sum.hits + stats.hits,
                misses: sum.misses + stats.misses,
                prepared: sum.prepared + stats.prepared,
                evictions: sum.evictions + stats.evictions,
                resident_frames: sum.resident_frames + stats.resident_frames,
                resident_bytes: sum.resident_bytes + stats.resident_bytes,
                capacity_bytes: sum.capacity_bytes + stats.capacity_bytes,
            }
        };
        self.gpus.iter().fold(VisualCacheStats::default(), add)
    }

    fn device(&self) -> String {
        let names: Vec<_> = self.gpus.iter().map(Gpu::name).collect();
        names.join(", ")
    }
}

impl Gpu {
    fn name(&self) -> String {
        format!("{} ({})", self.cuda.device(), self.cuda.info().name)
    }

    fn largest_batch(&self, footprint: &Footprint, max_batch: usize) -> usize {
        largest_batch(footprint, max_batch, self.max_bytes, self.n_workers)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lipsync_core::ModelId;
    use lipsync_engine::{Workspace, cuda::FakeDevice, network_writer::variants::write_variant};

    use super::*;
    use crate::capacity_plan::{CapacityPlan, DeviceNeeds, EncoderNeeds, ModelPlan};

    #[test]
    fn generators_go_to_the_device_that_they_are_asked_for() {
        const TOTAL: u64 = 4 << 30;
        let yaml = "server: {worker_count: 3}\nengine: {visual_cache_mb: 64}";
        let config = Config::parse(yaml, Path::new("config.yaml"), []).unwrap();
        let gpus = [0, 1].map(|ordinal| FakeDevice::new(ordinal, TOTAL));
        let cudas = gpus.iter().map(FakeDevice::open).collect();
        let loader = EngineLoader::choose(&config, cudas).unwrap();
        let rooms = loader.devices();
        let names: Vec<_> = rooms.iter().map(|room| &*room.name).collect();
        assert_eq!(
            names,
            ["cuda:0 (fake CUDA device)", "cuda:1 (fake CUDA device)"]
        );
        assert!(
            rooms
                .iter()
                .all(|room| room.max_bytes <= TOTAL - (64 << 20))
        );

        let onnx = write_variant("small-opset13").unwrap();
        let [first, second] = [0, 1].map(Device::Cuda);
        let before = gpus[1].used_bytes();
        let generator = loader.generator(&onnx, second, Precision::F32).unwrap();
        assert_eq!(generator.device(), second);
        assert!(gpus[1].used_bytes() > before, "its weights are there");
        // Two of three workers belong to the first device.
        let [two, one] = [first, second].map(|device| loader.arena_bytes(&onnx, device));
        assert_eq!(two, 2 * one);
        assert!(one > 0);
        let host = loader
            .generator(&onnx, Device::Cpu, Precision::F32)
            .unwrap();
        assert_eq!(host.device(), Device::Cpu);
    }

    /// Where batches as large as configured left no room for a model, they are smaller, and nothing fails.
    #[test]
    fn a_small_device_runs_small_batches() {
        let onnx = write_variant("small-opset13").unwrap();
        let footprint = Footprint::of(&onnx).unwrap();
        // The caches take a quarter at most, arenas half of the rest.
        let captured = 2 * footprint.captured_bytes_per_worker(4);
        let total = footprint.arena_bytes_per_worker(4) * 2 * 2 * 4 / 3 + captured + 4096;
        let yaml = "server: {worker_count: 2}\nengine: {max_batch: 64}";
        let config = Config::parse(yaml, Path::new("config.yaml"), []).unwrap();
        let device = FakeDevice::new(0, total);
        let loader = EngineLoader::choose(&config, vec![device.open()]).unwrap();
        let on = Device::Cuda(0);
        let arenas = loader.arena_bytes(&onnx, on);
        assert_eq!(arenas, 2 * footprint.arena_bytes_per_worker(4));
        assert!(footprint.weights_bytes + arenas <= loader.devices()[0].max_bytes);
        let generator = loader.generator(&onnx, on, Precision::F32).unwrap();
        let mut workspaces = [(); 2].map(|()| Workspace::new());
        for workspace in &mut workspaces {
            generator.warm_up(workspace, 64).unwrap();
        }
        assert!(device.used_bytes() <= footprint.weights_bytes + arenas + captured);
    }

    /// What `plan` says of a device is what the device counts, once all workers run all models.
    #[test]
    fn the_plan_is_what_a_device_counts() {
        const TOTAL: u64 = 80 << 30;
        const N_FRAMES: u32 = 30;
        let yaml = "server: {worker_count: 3}\nengine: {max_batch: 4, visual_cache_mb: 2048}";
        let config = Config::parse(yaml, Path::new("config.yaml"), []).unwrap();
        let device = FakeDevice::new(0, TOTAL);
        let loader = EngineLoader::choose(&config, vec![device.open()]).unwrap();
        let onnx = ["small-opset12", "small-opset13", "small-opset13"]
            .map(|variant| write_variant(variant).unwrap());
        let mut workspaces = [(); 3].map(|()| Workspace::new());
        let generators = onnx.each_ref().map(|onnx| {
            let on = Device::Cuda(0);
            let generator = loader.generator(onnx, on, Precision::F32).unwrap();
            let crop = vec![0; generator.geometry().crop_bytes()];
            for index in 0..N_FRAMES {
                let crop = || Some(Arc::from(crop.as_slice()));
                let workspace = &mut workspaces[0];
                generator
                    .prepare(workspace, index, &crop, &|| false)
                    .unwrap();
            }
            for workspace in &mut workspaces {
                generator.warm_up(workspace, 4).unwrap();
                let audio = vec![0.0; generator.audio_shape().iter().product()];
                let crop = crop.as_slice();
                let (frame, audio) = (None, audio.as_slice());
                // Frames that are not kept: the spare entries are part of the arena.
                let frames = [FaceInput { crop, frame, audio }; 4];
                generator.infer(workspace, &frames, &mut vec![]).unwrap();
            }
            generator
        });
        let models = onnx.iter().enumerate().map(|(n, onnx)| {
            let id = ModelId::new(&format!("m{n}")).unwrap();
            let of = (id, u64::from(N_FRAMES), EncoderNeeds::default());
            ModelPlan::read(of, onnx, CpuIsa::Auto, |_| 4).unwrap()
        });
        let plan = CapacityPlan {
            n_workers: 3,
            n_gpus: 1,
            max_bytes: TOTAL,
            visual_cache_bytes: 2048 << 20,
            max_frame_bytes: 0,
            device_bytes: Some(TOTAL),
            models: models.collect(),
        };
        let (planned, counted) = (plan.on_gpu().total(), device.used_bytes());
        assert!(
            planned.abs_diff(counted) * 100 <= counted,
            "{planned} {counted}"
        );
        // And what models are charged for is in it.
        let charged: u64 = generators.iter().map(|g| g.device_bytes()).sum();
        let DeviceNeeds {
            weights, captured, ..
        } = plan.on_gpu();
        assert_eq!(charged, weights + captured);
    }

    #[test]
    fn audio_encoders_go_to_the_gpu_where_that_is_configured() {
        let encoder = write_variant("ave-encoder").unwrap();
        let on = Device::Cuda(1);
        for (key, expected) in [("cpu", Device::Cpu), ("gpu", on)] {
            let yaml = format!("engine: {{encoder_device: {key}}}");
            let config = Config::parse(&yaml, Path::new("config.yaml"), []).unwrap();
            let gpus = [0, 1].map(|ordinal| FakeDevice::new(ordinal, 1 << 30));
            let cudas = gpus.iter().map(FakeDevice::open).collect();
            let loader = EngineLoader::choose(&config, cudas).unwrap();
            assert_eq!(loader.encoder_device(&encoder, on), expected);
            assert_eq!(loader.encoder_device(&encoder, Device::Cpu), Device::Cpu);
            let loaded = loader.audio_encoder(&encoder, expected).unwrap();
            assert_eq!(loaded.device(), expected);
            let used = gpus.map(|gpu| gpu.used_bytes());
            assert_eq!(used, [0, loaded.device_bytes()]);
        }
    }

    #[test]
    fn without_devices_it_is_the_loader_of_the_cpu() {
        let config = Config::parse("", Path::new("config.yaml"), []).unwrap();
        let loader = EngineLoader::choose(&config, Vec::new()).unwrap();
        assert_eq!(loader.devices()[0].device, Device::Cpu);
        assert_eq!(loader.host_workers(), config.server.workers.max() as u64);
        let onnx = write_variant("small-opset13").unwrap();
        let generator = loader.generator(&onnx, Device::Cpu, Precision::F32);
        assert!(generator.unwrap().workspace_bytes() > 0);
    }
}
