//! Networks that are as their files say, for tests of what keeps models in memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use lipsync_core::{FaceGeometry, sync::lock};
use lipsync_engine::{
    AudioEncoder, Device, DeviceRoom, EngineError, FaceInput, Generator, NetworkLoader,
    OutputRange, Precision,
};

use crate::{FakeEncoder, FakeGenerator, Gate};

/// Bytes of the tests' ONNX files, and of the weights that the fake makes of them.
pub const WEIGHTS: u64 = 1000;

/// Weights in memory, now and at most.
#[derive(Debug, Default)]
pub struct Live {
    now: AtomicU64,
    /// Bytes at most so far.
    pub peak: AtomicU64,
}

impl Live {
    /// Bytes now.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn add(&self, n_bytes: u64) {
        let now = self.now.fetch_add(n_bytes, Ordering::SeqCst) + n_bytes;
        self.peak.fetch_max(now, Ordering::SeqCst);
    }

    fn remove(&self, n_bytes: u64) {
        self.now.fetch_sub(n_bytes, Ordering::SeqCst);
    }
}

/// Makes networks from the words at the start of their files: `bad`, `panic`, `cold` (fails when
/// it runs), `small` (160 px), `hubert` (its audio shape), `short` (an encoder's steps), `heavy`
/// (takes ten times its file), `wide` (a workspace needs as much as three files), `logits` (writes numbers outside
/// of 0..1), `saturates` (a GPU's numbers do not hold its values), `cramped` (a GPU has no memory to try that). On GPUs there is memory for as much as `gpus` says.
#[derive(Debug, Default)]
pub struct FileLoader {
    /// Generators that were asked for.
    pub n_generators: AtomicUsize,
    /// Runs of all generators.
    pub n_warm_ups: Arc<AtomicUsize>,
    /// Weights of all generators.
    pub live: Arc<Live>,
    /// Where loads stop.
    pub gate: Gate,
    /// Whether the host multiplies bf16 faster than f32.
    pub has_bf16: AtomicBool,
    /// Instead of the host: each GPU's limit as the registry is told it, and what it really has.
    pub gpus: Vec<(u64, u64)>,
    /// Bytes held on each GPU.
    pub on_gpus: Arc<Mutex<BTreeMap<Device, u64>>>,
    /// Whether audio encoders go to the GPU of their model.
    pub encodes_on_gpus: bool,
    /// Bytes that all workers of a GPU need together.
    pub arena_bytes: u64,
    /// Workers on the host.
    pub host_workers: u64,
    /// What generators were asked to run in, one after the other.
    pub precisions: Mutex<Vec<Precision>>,
    /// The audio windows that generators were tried with, one after the other.
    pub tried: Mutex<Vec<Vec<Vec<f32>>>>,
}

impl FileLoader {
    /// Takes memory on a GPU.
    fn take(&self, ordinal: u32, n_bytes: u64) -> Result<(), EngineError> {
        let mut on_gpus = lock(&self.on_gpus);
        let held = on_gpus.entry(Device::Cuda(ordinal)).or_default();
        let free = self.gpus[ordinal as usize].1 - *held;
        if free < n_bytes {
            return Err(EngineError::OutOfMemory {
                needed: n_bytes,
                free,
            });
        }
        *held += n_bytes;
        Ok(())
    }

    fn fake(&self, words: &str, n_bytes: u64, device: Device) -> FakeGenerator {
        let geometry = match words.contains("small") {
            true => FaceGeometry::SMALL,
            false => FaceGeometry::LARGE,
        };
        let (is_cold, n_runs) = (words.contains("cold"), Arc::clone(&self.n_warm_ups));
        let (live, on_gpus) = (Arc::clone(&self.live), Arc::clone(&self.on_gpus));
        let run = move |_: &[FaceInput<'_>], _: &mut Vec<Vec<u8>>| {
            if is_cold {
                return Err(EngineError::Device {
                    reason: "fell off the bus".into(),
                });
            }
            n_runs.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let mut generator = FakeGenerator::new(geometry, run).on_drop(move || {
            live.remove(n_bytes);
            if let Some(held) = lock(&on_gpus).get_mut(&device) {
                *held -= n_bytes;
            }
        });
        if words.contains("hubert") {
            generator.audio_shape = [32, 32, 32];
        }
        if words.contains("wide") {
            generator.workspace_bytes = 3 * WEIGHTS;
        }
        if words.contains("logits") {
            generator.output_range = Some(OutputRange {
                min: -3.0,
                max: 4.5,
                outside: 0.625,
            });
        }
        (generator.weights_bytes, generator.device_bytes) = (n_bytes, n_bytes);
        generator.device = device;
        generator
    }
}

impl NetworkLoader for FileLoader {
    fn generator(
        &self,
        onnx: &[u8],
        device: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        self.gate.pass();
        lock(&self.precisions).push(precision);
        self.n_generators.fetch_add(1, Ordering::SeqCst);
        let words = String::from_utf8_lossy(onnx);
        assert!(!words.contains("panic"), "as the test wants it");
        if words.contains("bad") {
            return Err(EngineError::Malformed {
                reason: "not protobuf".into(),
            });
        }
        let factor = if words.contains("heavy") { 10 } else { 1 };
        let n_bytes = onnx.len() as u64 * factor;
        if let Device::Cuda(ordinal) = device {
            self.take(ordinal, n_bytes)?;
        }
        self.live.add(n_bytes);
        Ok(Arc::new(self.fake(&words, n_bytes, device)))
    }

    fn encoder_device(&self, _: &[u8], device: Device) -> Device {
        match self.encodes_on_gpus {
            true => device,
            false => Device::Cpu,
        }
    }

    fn audio_encoder(
        &self,
        onnx: &[u8],
        device: Device,
    ) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        let short = onnx.starts_with(b"short");
        Ok(Arc::new(FakeEncoder {
            step_floats: if short { 256 } else { 512 },
            weights_bytes: WEIGHTS,
            device,
        }))
    }

    fn faster_than_f32(&self) -> Vec<Precision> {
        let has_bf16 = self.has_bf16.load(Ordering::SeqCst);
        has_bf16.then_some(Precision::Bf16).into_iter().collect()
    }

    fn device(&self) -> String {
        "fake".into()
    }

    fn devices(&self) -> Vec<DeviceRoom> {
        if self.gpus.is_empty() {
            return vec![DeviceRoom {
                device: Device::Cpu,
                name: self.device(),
                max_bytes: u64::MAX,
            }];
        }
        let room = |(ordinal, &(max_bytes, _)): (u32, &(u64, u64))| DeviceRoom {
            device: Device::Cuda(ordinal),
            name: Device::Cuda(ordinal).to_string(),
            max_bytes,
        };
        (0..).zip(&self.gpus).map(room).collect()
    }

    fn host_workers(&self) -> u64 {
        self.host_workers
    }

    fn arena_bytes(&self, _onnx: &[u8], _: Device) -> u64 {
        self.arena_bytes
    }

    fn try_values(
        &self,
        onnx: &[u8],
        _: Device,
        frames: &[FaceInput<'_>],
    ) -> Result<(), EngineError> {
        lock(&self.tried).push(frames.iter().map(|frame| frame.audio.to_vec()).collect());
        let words = String::from_utf8_lossy(onnx);
        if words.contains("saturates") {
            return Err(EngineError::Saturates { n_values: 7 });
        }
        if words.contains("cramped") {
            return Err(EngineError::OutOfMemory { needed: 2, free: 1 });
        }
        Ok(())
    }
}
