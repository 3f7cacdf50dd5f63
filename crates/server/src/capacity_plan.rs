//! The memory that a configuration needs, and what fits: weights, caches and what each worker holds, known from the
//! files alone.

use std::{collections::BTreeMap, fmt};

use lipsync_core::ModelId;
use lipsync_engine::{
    EngineError, LoadOptions,
    cuda::{Footprint, kept_bytes},
    inspect_plan,
};

/// A capacity plan; its `Display` is the answer of `lipsync-server plan`.
#[derive(Debug)]
pub struct CapacityPlan {
    /// Worker threads in all.
    pub n_workers: usize,
    /// CUDA devices that they are spread over, as far as there are any.
    pub n_gpus: usize,
    /// `capacity.max_memory_gb`, bytes.
    pub max_bytes: u64,
    /// `engine.visual_cache_mb`, bytes.
    pub visual_cache_bytes: u64,
    /// `capacity.max_host_memory_gb`, bytes.
    pub max_frame_bytes: u64,
    /// Memory of the smallest device, if one was found or given.
    pub device_bytes: Option<u64>,
    /// Every configured model.
    pub models: Vec<ModelPlan>,
}

/// The memory that one model needs.
#[derive(Debug)]
pub struct ModelPlan {
    /// Its id.
    pub id: ModelId,
    /// Background frames.
    pub n_frames: u64,
    /// What its audio encoder takes.
    pub encoder: EncoderNeeds,
    /// On the CPU, in f32.
    pub cpu: Needs,
    /// On a CUDA device, in f16.
    pub gpu: Needs,
    /// Frames of a batch there, at most.
    pub gpu_batch: usize,
}

/// Bytes for an audio encoder; 0 without one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncoderNeeds {
    /// Of its file, which its weights take on the host where networks run there.
    pub file: u64,
    /// The same where generators run on a GPU.
    pub beside_gpu: u64,
    /// On the GPU, if it runs there: once for all models whose files are equal.
    pub on_gpu: u64,
}

/// Bytes on one kind of device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Once a device.
    pub weights: u64,
    /// For each worker; a worker needs the largest of its models' only.
    pub arena: u64,
    /// For each worker and model: captured launches, on a GPU.
    pub captured: u64,
    /// For each background frame that is kept.
    pub kept_frame: u64,
}

impl ModelPlan {
    /// Reads what a generator's file says; `batch_on_gpu` knows the largest batch there.
    ///
    /// # Errors
    /// What the engine finds wrong with the file.
    pub fn read(
        (id, n_frames, encoder): (ModelId, u64, EncoderNeeds),
        onnx: &[u8],
        options: impl Into<LoadOptions>,
        batch_on_gpu: impl FnOnce(&Footprint) -> usize,
    ) -> Result<Self, EngineError> {
        let report = inspect_plan(onnx, options)?;
        let footprint = Footprint::of(onnx)?;
        let gpu_batch = batch_on_gpu(&footprint);
        Ok(Self {
            gpu_batch,
            id,
            n_frames,
            encoder,
            cpu: Needs {
                weights: report.weights_bytes,
                arena: report.arena_bytes + report.scratch_bytes,
                captured: 0,
                kept_frame: report.kept_bytes,
            },
            gpu: Needs {
                weights: footprint.weights_bytes,
                arena: footprint.arena_bytes_per_worker(gpu_batch),
                captured: footprint.captured_bytes_per_worker(gpu_batch),
                kept_frame: footprint.visual_cache_bytes_per_frame,
            },
        })
    }
}

impl ModelPlan {
    /// On a CUDA device, with its audio encoder if that runs there.
    fn on_gpu(&self) -> Needs {
        Needs {
            weights: self.gpu.weights + self.encoder.on_gpu,
            ..self.gpu
        }
    }
}

/// The memory that all models together need on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNeeds {
    /// Weights of its share of the models: all of them, dealt to the least charged device; and audio encoders that run
    /// there, with all that they need.
    pub weights: u64,
    /// Workers x the largest arena.
    pub arenas: u64,
    /// Workers x the captured launches of its share of the models.
    pub captured: u64,
    /// The visual cache, as far as there are frames to fill it; on a GPU in slabs, of which the last ones may go beyond
    /// what is configured.
    pub visual_cache: u64,
}

impl DeviceNeeds {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.arenas + self.captured + self.visual_cache
    }
}

impl CapacityPlan {
    /// The host, if networks run there.
    #[must_use]
    pub fn on_cpu(&self) -> DeviceNeeds {
        let encoders = self.models.iter().map(|m| m.encoder.file).sum::<u64>();
        let needs = self.on_one(|m| m.cpu, 1, |n_frames, bytes| n_frames * bytes);
        DeviceNeeds {
            weights: needs.weights + encoders,
            ..needs
        }
    }

    /// The fullest of the CUDA devices; of one, if none is there.
    #[must_use]
    pub fn on_gpu(&self) -> DeviceNeeds {
        self.on_one(ModelPlan::on_gpu, self.n_gpus.max(1), kept_bytes)
    }

    /// `kept_bytes` says what a number of frames takes that each keep so many bytes.
    fn on_one(
        &self,
        needs: impl Fn(&ModelPlan) -> Needs,
        n_devices: usize,
        kept_bytes: impl Fn(u64, u64) -> u64,
    ) -> DeviceNeeds {
        // As the registry places them, if they are asked for in this order.
        let mut shares = vec![(0, 0); n_devices];
        for needs in self.models.iter().map(&needs) {
            if let Some((weights, captured)) = shares.iter_mut().min() {
                *weights += needs.weights;
                *captured += needs.captured;
            }
        }
        let (weights, captured) = shares.into_iter().max().unwrap_or_default();
        let arena = self.models.iter().map(|m| needs(m).arena).max();
        let mut frames_by_size = BTreeMap::new();
        for model in &self.models {
            *frames_by_size.entry(needs(model).kept_frame).or_insert(0) += model.n_frames;
        }
        // Where not all frames find room, models of every size keep the same part of theirs.
        let all: u64 = frames_by_size.iter().map(|(&bytes, &n)| n * bytes).sum();
        let budget = self.visual_cache_bytes.min(all);
        let kept = frames_by_size
            .iter()
            .map(|(&bytes, &n)| kept_bytes(part_of(n, budget, all), bytes));
        let n_workers = self.n_workers.div_ceil(n_devices) as u64;
        DeviceNeeds {
            weights,
            arenas: n_workers * arena.unwrap_or(0),
            captured: n_workers * captured,
            visual_cache: kept.sum(),
        }
    }

    /// Models as heavy as the heaviest that fit `capacity.max_memory_gb`, and the device's own memory
    /// where it is known.
    #[must_use]
    pub fn n_models_that_fit(&self) -> Option<u64> {
        let n_workers = self.n_workers.div_ceil(self.n_gpus.max(1)) as u64;
        let on_device = |m: Needs| m.weights + n_workers * m.captured;
        let heaviest = self.models.iter().map(|m| on_device(m.on_gpu())).max()?;
        let needs = self.on_gpu();
        let left = self.device_bytes.unwrap_or(u64::MAX);
        let left = left.saturating_sub(needs.visual_cache + needs.arenas);
        left.min(self.max_bytes).checked_div(heaviest)
    }
}

/// `n * part / all`.
fn part_of(n: u64, part: u64, all: u64) -> u64 {
    let scaled = u128::from(n) * u128::from(part) / u128::from(all.max(1));
    u64::try_from(scaled).unwrap_or(n)
}

/// Bytes as megabytes (10^6) with one digit.
struct Mb(u64);

impl fmt::Display for Mb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_add(50_000) / 100_000;
        f.pad(&format!("{}.{}", tenths / 10, tenths % 10))
    }
}

impl fmt::Display for CapacityPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Memory in MB (10^6 bytes): weights + visual cache + workers x (arena + captured launches of each model)\n"
        )?;
        writeln!(
            f,
            "{:24} {:>8} | {:>9} {:>9} {:>9} | {:>9} {:>6} {:>9} {:>9} {:>9}",
            "model",
            "frames",
            "CPU: f32",
            "arena",
            "a frame",
            "GPU: f16",
            "batch",
            "arena",
            "captured",
            "a frame"
        )?;
        for ModelPlan {
            id,
            n_frames,
            cpu,
            gpu,
            gpu_batch,
            ..
        } in &self.models
        {
            let [a, b, c] = [cpu.weights, cpu.arena, cpu.kept_frame].map(Mb);
            let [d, e, h, g] = [gpu.weights, gpu.arena, gpu.captured, gpu.kept_frame].map(Mb);
            writeln!(
                f,
                "{:24} {n_frames:>8} | {a:>9} {b:>9} {c:>9} | {d:>9} {gpu_batch:>6} {e:>9} {h:>9} {g:>9}",
                id.as_str()
            )?;
        }
        self.fmt_devices(f)
    }
}

impl CapacityPlan {
    fn fmt_devices(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_gpus = self.n_gpus.max(1);
        let n_workers = self.n_workers.div_ceil(n_gpus);
        let (cpu, gpu) = (self.on_cpu(), self.on_gpu());
        writeln!(f, "\non the CPU, audio encoders included: {cpu}")?;
        match self.n_gpus {
            0 | 1 => writeln!(f, "on a GPU, {n_workers} workers: {gpu}")?,
            _ => writeln!(f, "on each of {n_gpus} GPUs, {n_workers} workers: {gpu}")?,
        }
        let encoders: u64 = self.models.iter().map(|m| m.encoder.beside_gpu).sum();
        writeln!(
            f,
            "on the host, in addition to GPUs: {} audio encoders; frames of all models at most {} MB",
            Mb(encoders),
            Mb(self.max_frame_bytes)
        )?;
        match self.device_bytes {
            Some(bytes) => write!(f, "the smallest GPU has {} MB", Mb(bytes))?,
            None => write!(f, "no GPU was found or given (--device-memory-gb)")?,
        }
        writeln!(
            f,
            "; capacity.max_memory_gb allows {} MB",
            Mb(self.max_bytes)
        )?;
        match self.n_models_that_fit() {
            Some(n) => write!(
                f,
                "fits on a GPU: {n} models as heavy as the heaviest of these, beside arenas and visual cache"
            ),
            None => write!(f, "no models are configured"),
        }
    }
}

impl fmt::Display for DeviceNeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [weights, cache, arenas] = [self.weights, self.visual_cache, self.arenas].map(Mb);
        write!(
            f,
            "{weights} weights + {cache} visual cache + {arenas} workers' arenas"
        )?;
        if self.captured > 0 {
            write!(f, " + {} captured launches", Mb(self.captured))?;
        }
        write!(f, " = {} MB", Mb(self.total()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(n_gpus: usize, weights: &[u64]) -> CapacityPlan {
        let model = |(n, &weights): (usize, &u64)| ModelPlan {
            id: ModelId::new(&format!("m{n}")).unwrap(),
            n_frames: 10,
            encoder: EncoderNeeds {
                file: 5,
                beside_gpu: 5,
                on_gpu: 0,
            },
            cpu: Needs {
                weights: 2 * weights,
                arena: 7,
                captured: 0,
                kept_frame: 3,
            },
            gpu: Needs {
                weights,
                arena: weights / 10,
                captured: 2,
                kept_frame: 1,
            },
            gpu_batch: 64,
        };
        CapacityPlan {
            n_workers: 8,
            n_gpus,
            max_bytes: 1000,
            visual_cache_bytes: 25,
            max_frame_bytes: 99,
            device_bytes: None,
            models: weights.iter().enumerate().map(model).collect(),
        }
    }

    #[test]
    fn the_formula_is_weights_plus_caches_plus_workers_times_arena() {
        let needs = plan(0, &[100, 60, 50]).on_gpu();
        assert_eq!(needs.weights, 210);
        assert_eq!(needs.arenas, 8 * 10, "the largest, not the sum");
        assert_eq!(needs.visual_cache, 28, "25 frames, in slabs of 4, 8, 16");
        assert_eq!(needs.captured, 8 * 3 * 2, "for each model and worker");
        assert_eq!(needs.total(), 210 + 80 + 48 + 28);
        let cpu = plan(0, &[100, 60, 50]).on_cpu();
        assert_eq!(cpu.visual_cache, 24, "no more than is configured");
        assert_eq!((cpu.weights, cpu.arenas), (2 * 210 + 3 * 5, 8 * 7));
        // The least charged device gets the next model.
        let needs = plan(2, &[100, 60, 50]).on_gpu();
        assert_eq!((needs.weights, needs.arenas), (110, 4 * 10));
        // All its frames, in slabs of 4 and 8.
        assert_eq!(plan(1, &[100]).on_gpu().visual_cache, 12);
        // An encoder on a GPU is there and not on the host.
        let mut plan = plan(1, &[100]);
        plan.models[0].encoder = EncoderNeeds {
            file: 5,
            beside_gpu: 0,
            on_gpu: 9,
        };
        assert_eq!((plan.on_gpu().weights, plan.on_cpu().weights), (109, 205));
    }

    #[test]
    fn what_fits_is_bounded_by_the_budget_and_the_device() {
        let mut plan = plan(1, &[100]);
        assert_eq!(plan.n_models_that_fit(), Some(1000 / (100 + 8 * 2)));
        plan.device_bytes = Some(500);
        assert_eq!(plan.n_models_that_fit(), Some((500 - 12 - 80) / 116));
        plan.device_bytes = Some(5);
        assert_eq!(plan.n_models_that_fit(), Some(0));
        plan.models.clear();
        assert_eq!(plan.n_models_that_fit(), None);
        assert!(plan.to_string().contains("no models are configured"));
    }
}
