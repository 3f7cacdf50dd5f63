//! Models on a temporary disk and a loader of fake networks, for tests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use image::{Rgb, RgbImage};
use lipsync_core::{FaceGeometry, ModelId};
use lipsync_engine::{
    AudioEncoder, Device, EngineError, FaceInput, Generator, OutputRange, Precision, Workspace,
};

use crate::{
    DeviceRoom, EvictionPolicy, ModelConfig, ModelSource, NetworkLoader, PrecisionChoice, Registry,
    RegistryConfig, lock, manifest,
};

/// Side of the tests' background frames, px.
pub(crate) const SIDE: u32 = 8;
/// Bytes of the tests' ONNX files, and of the weights that the fake makes of them.
pub(crate) const WEIGHTS: u64 = 1000;

pub(crate) fn id(text: &str) -> ModelId {
    ModelId::new(text).expect("a valid id")
}

/// A temporary folder of models.
pub(crate) struct Disk {
    pub root: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            root: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, contents).expect("written");
    }

    /// A fake ONNX file of [`WEIGHTS`] bytes; the words tell [`FakeLoader`] what to make of it.
    pub(crate) fn network(&self, relative: &str, words: &str) {
        let width = usize::try_from(WEIGHTS).expect("small");
        self.write(relative, format!("{words:width$}"));
    }

    pub(crate) fn frame(&self, relative: &str, index: u32, (width, height): (u32, u32)) {
        self.write(relative, b"");
        RgbImage::from_pixel(width, height, colour(index))
            .save(self.path(relative))
            .expect("a PNG");
    }

    pub(crate) fn frames(&self, folder: &str, n_frames: u32) {
        for index in 0..n_frames {
            let path = format!("{folder}/frame_{index:04}.png");
            self.frame(&path, index, (SIDE, SIDE));
        }
    }

    /// As many equal rectangles as frames, in the array form.
    pub(crate) fn rectangles(&self, relative: &str, n_frames: u32) {
        let rectangles = vec!["[1,1,7,7]"; n_frames as usize].join(",");
        self.write(relative, format!("[{rectangles}]"));
    }

    /// A model with a manifest; `words` are for its generator.
    pub(crate) fn avatar(&self, name: &str, n_frames: u32, words: &str) -> ModelConfig {
        self.write(
            &format!("{name}/{}", manifest::FILE_NAME),
            "audio_kind: ave\ngenerator: g.onnx\nframes: frames\ncrop_rectangles: rects.json\n",
        );
        self.network(&format!("{name}/g.onnx"), words);
        self.frames(&format!("{name}/frames"), n_frames);
        self.rectangles(&format!("{name}/rects.json"), n_frames);
        folder(name, self.path(name))
    }
}

/// The colour of a frame tells its index.
pub(crate) fn colour(index: u32) -> Rgb<u8> {
    let [low, high, ..] = index.to_le_bytes();
    Rgb([low, high, 77])
}

pub(crate) fn folder(name: &str, path: impl AsRef<Path>) -> ModelConfig {
    ModelConfig {
        id: id(name),
        source: ModelSource::Folder(path.as_ref().to_owned()),
        audio_kind: None,
        fps: None,
        audio_encoder: None,
        precision: None,
        preload: false,
        follow_links: false,
    }
}

/// One cached frame per model, no limits, no baking.
pub(crate) fn settings(models: Vec<ModelConfig>) -> RegistryConfig {
    RegistryConfig {
        models,
        max_models: usize::MAX,
        max_bytes: u64::MAX,
        eviction: EvictionPolicy::Lru,
        max_frame_bytes: u64::MAX,
        idle_timeout: Some(Duration::from_secs(60)),
        frames_idle: Duration::from_secs(60),
        precision: PrecisionChoice::Auto,
        background_cache_frames: 1,
        decoded_frames: 1,
        preload_frames: 0,
        jpeg_quality: 85,
        cache_dir: None,
        bake: false,
        max_frames: 10_000,
        max_pack_bytes: u64::MAX,
    }
}

pub(crate) fn registry(config: RegistryConfig) -> (Registry, Arc<FakeLoader>) {
    let loader = Arc::new(FakeLoader::default());
    (Registry::new(config, Arc::clone(&loader) as _), loader)
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Weights in memory, now and at most.
#[derive(Default)]
pub(crate) struct Live {
    now: AtomicU64,
    pub peak: AtomicU64,
}

impl Live {
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }
}

/// Holds loads back until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    is_closed: bool,
    n_held: usize,
}

impl Gate {
    pub(crate) fn set_closed(&self, is_closed: bool) {
        lock(&self.state).is_closed = is_closed;
        self.changed.notify_all();
    }

    /// Returns once `n` loads stand before it.
    pub(crate) fn wait_for_held(&self, n: usize) {
        self.wait_while(|state| state.n_held < n);
    }

    fn pass(&self) {
        lock(&self.state).n_held += 1;
        self.changed.notify_all();
        self.wait_while(|state| state.is_closed);
        lock(&self.state).n_held -= 1;
    }

    fn wait_while(&self, is_early: impl Fn(&GateState) -> bool) {
        let state = lock(&self.state);
        let waited = self.changed.wait_while(state, |state| is_early(state));
        drop(waited.expect("nobody panics with the gate in hand"));
    }
}

/// Makes networks from the words at the start of their files: `bad`, `panic`, `cold` (fails when
/// it runs), `small` (160 px), `hubert` (its audio shape), `short` (an encoder's steps), `heavy`
/// (takes ten times its file), `wide` (a workspace needs as much as three files). On GPUs there is memory for as much as `gpus` says.
#[derive(Default)]
pub(crate) struct FakeLoader {
    pub n_generators: AtomicUsize,
    pub n_warm_ups: Arc<AtomicUsize>,
    pub live: Arc<Live>,
    pub gate: Gate,
    pub has_bf16: AtomicBool,
    /// Instead of the host: each GPU's limit as the registry is told it, and what it really has.
    pub gpus: Vec<(u64, u64)>,
    /// Bytes held on each GPU.
    pub on_gpus: Arc<Mutex<BTreeMap<Device, u64>>>,
    pub arena_bytes: u64,
    pub host_workers: u64,
    /// What generators were asked to run in, one after the other.
    pub precisions: Mutex<Vec<Precision>>,
}

impl NetworkLoader for FakeLoader {
    fn generator(
        &self,
        onnx: &[u8],
        device: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        self.gate.pass();
        lock(&self.precisions).push(precision);
        self.n_generators.fetch_add(1, Ordering::SeqCst);
        let words = String::from_utf8_lossy(onnx).into_owned();
        assert!(!words.contains("panic"), "as the test wants it");
        if words.contains("bad") {
            return Err(EngineError::Malformed {
                reason: "not protobuf".into(),
            });
        }
        let factor = if words.contains("heavy") { 10 } else { 1 };
        let n_bytes = onnx.len() as u64 * factor;
        if let Device::Cuda(ordinal) = device {
            let mut on_gpus = lock(&self.on_gpus);
            let held = on_gpus.entry(device).or_default();
            let free = self.gpus[ordinal as usize].1 - *held;
            if free < n_bytes {
                return Err(EngineError::OutOfMemory {
                    needed: n_bytes,
                    free,
                });
            }
            *held += n_bytes;
        }
        let now = self.live.now.fetch_add(n_bytes, Ordering::SeqCst) + n_bytes;
        self.live.peak.fetch_max(now, Ordering::SeqCst);
        Ok(Arc::new(FakeGenerator {
            words,
            n_bytes,
            device,
            on_gpus: Arc::clone(&self.on_gpus),
            live: Arc::clone(&self.live),
            n_runs: Arc::clone(&self.n_warm_ups),
        }))
    }

    fn audio_encoder(&self, onnx: &[u8]) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        let short = onnx.starts_with(b"short");
        Ok(Arc::new(FakeEncoder {
            step_floats: if short { 256 } else { 512 },
        }))
    }

    fn fastest_precision(&self) -> Precision {
        if self.has_bf16.load(Ordering::SeqCst) {
            Precision::Bf16
        } else {
            Precision::F32
        }
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
}

struct FakeGenerator {
    words: String,
    n_bytes: u64,
    device: Device,
    on_gpus: Arc<Mutex<BTreeMap<Device, u64>>>,
    live: Arc<Live>,
    n_runs: Arc<AtomicUsize>,
}

impl Drop for FakeGenerator {
    fn drop(&mut self) {
        self.live.now.fetch_sub(self.n_bytes, Ordering::SeqCst);
        if let Some(held) = lock(&self.on_gpus).get_mut(&self.device) {
            *held -= self.n_bytes;
        }
    }
}

impl Generator for FakeGenerator {
    fn geometry(&self) -> FaceGeometry {
        if self.words.contains("small") {
            FaceGeometry::SMALL
        } else {
            FaceGeometry::LARGE
        }
    }

    fn audio_shape(&self) -> [usize; 3] {
        if self.words.contains("hubert") {
            [32, 32, 32]
        } else {
            [32, 16, 16]
        }
    }

    fn weights_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn device(&self) -> Device {
        self.device
    }

    fn device_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn workspace_bytes(&self) -> u64 {
        if self.words.contains("wide") {
            3 * WEIGHTS
        } else {
            0
        }
    }

    fn output_range(
        &self,
        _: &mut Workspace,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
    ) -> Result<Option<OutputRange>, EngineError> {
        if !self.words.contains("logits") {
            return Ok(None);
        }
        assert!(crop().is_some_and(|crop| crop.len() == self.geometry().crop_bytes()));
        Ok(Some(OutputRange {
            min: -3.0,
            max: 4.5,
            outside: 0.625,
        }))
    }

    fn infer(
        &self,
        _workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        _faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        if self.words.contains("cold") {
            return Err(EngineError::Device {
                reason: "fell off the bus".into(),
            });
        }
        let audio_floats: usize = self.audio_shape().iter().product();
        assert!(
            frames
                .iter()
                .all(|f| f.crop.len() == self.geometry().crop_bytes())
        );
        assert!(frames.iter().all(|f| f.audio.len() == audio_floats));
        self.n_runs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct FakeEncoder {
    step_floats: usize,
}

impl AudioEncoder for FakeEncoder {
    fn step_floats(&self) -> usize {
        self.step_floats
    }

    fn weights_bytes(&self) -> u64 {
        WEIGHTS
    }

    fn encode(&self, _: &mut Workspace, _: &[f32]) -> Result<Vec<f32>, EngineError> {
        Ok(Vec::new())
    }
}
