//! What a hundred avatars cost: memory as the system counts it, and the wait for a cold frame.
//!
//! `cargo bench -p lipsync-registry --bench memory` copies the demo avatar's frames to a temporary
//! folder until there are 500, bakes them once, and gives 100 models links to them. The networks are
//! fakes of a few bytes: only frames are measured. It takes a minute and 0.4 GB of disk.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_core::{FaceGeometry, ModelId, background_index};
use lipsync_engine::{AudioEncoder, EngineError, FaceInput, Generator, Precision, Session};
use lipsync_registry::{
    EvictionPolicy, Model, ModelConfig, ModelSource, NetworkLoader, PackState, PrecisionChoice,
    Registry, RegistryConfig,
};

const N_MODELS: usize = 100;
const N_FRAMES: usize = 500;
/// Places that each model walks, so that its cache is full.
const N_PLACES: u64 = 100;
/// As in `config.yaml`.
const CACHE_FRAMES: usize = 50;
const MAX_FRAME_BYTES: u64 = 3 << 29;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let registry = Registry::new(config(make_avatars(folder.path())?), Arc::new(Fake));
    let pack = bake_all(&registry, folder.path())?;

    println!("{:44} {:>12} {:>12}", "", "resident MB", "frames MB");
    let line = |what: &str| {
        let resident = in_megabytes(resident_bytes());
        let frames = in_megabytes(registry.frame_bytes());
        println!("{what:44} {resident:12.1} {frames:12.1}");
    };
    line("before");
    let models = load_all(&registry)?;
    line("100 models loaded");
    for is_in_page_cache in [false, true] {
        first_frames(&models, &pack, is_in_page_cache)?;
    }

    walk(&models[..1])?;
    let one = models[0].cache_stats();
    let per_frame = one.resident_bytes / u64::try_from(one.resident_frames.max(1))?;
    println!("bytes of one baked frame in memory: {per_frame}");
    walk(&models)?;
    line("100 models, each after 100 frames of its walk");
    registry.tend(Instant::now() + Duration::from_secs(3600));
    line("the same, idle: back to 50 frames each");
    Ok(())
}

/// Bakes the first model and gives the others links to its pack, which they share with its frames.
#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn bake_all(registry: &Registry, folder: &Path) -> Outcome<PathBuf> {
    let started = Instant::now();
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let report = registry.bake(&ModelId::new("m00")?, cores, &mut |_| ())?;
    println!(
        "baked {N_FRAMES} frames of 1280x720 in {:.1} s, {:.0} MB on the disk",
        started.elapsed().as_secs_f64(),
        in_megabytes(report.n_bytes)
    );
    for n in 1..N_MODELS {
        let link = folder.join(format!("m{n:02}/avatar.pack"));
        fs::hard_link(&report.path, link)?;
    }
    Ok(report.path)
}

fn load_all(registry: &Registry) -> Outcome<Vec<Arc<Model>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut models = Vec::new();
    for n in 0..N_MODELS {
        let id = ModelId::new(&format!("m{n:02}"))?;
        let model = runtime.block_on(registry.load(&id))?.model;
        let is_ready = matches!(model.pack_state(), PackState::Ready { .. });
        assert!(is_ready, "every model reads from its pack");
        models.push(model);
    }
    Ok(models)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn first_frames(models: &[Arc<Model>], pack: &Path, is_in_page_cache: bool) -> Outcome<()> {
    let mut waits = Vec::new();
    for (n, model) in models.iter().enumerate() {
        if !is_in_page_cache {
            forget_pages(pack)?;
        }
        let index = if is_in_page_cache { 400 } else { 300 };
        waits.push(first_frame(model, index + u32::try_from(n)?)?);
    }
    waits.sort_unstable();
    let ms = |wait: &Duration| wait.as_secs_f64() * 1e3;
    println!(
        "first composited frame, cold, page cache {}: median {:.2} ms, worst {:.2} ms",
        if is_in_page_cache { "warm" } else { "cold" },
        waits.get(N_MODELS / 2).map_or(0.0, ms),
        waits.last().map_or(0.0, ms),
    );
    Ok(())
}

/// Shows the frames that a hundred requests would.
fn walk(models: &[Arc<Model>]) -> Outcome<()> {
    for model in models {
        for place in 0..N_PLACES {
            model.background(background_index(place, model.n_frames()))?;
        }
    }
    Ok(())
}

/// The wait for a frame of which nothing is in memory.
fn first_frame(model: &Model, index: u32) -> Outcome<Duration> {
    let face = vec![99; model.geometry().region_bytes()];
    let started = Instant::now();
    let frame = model.background(index)?;
    let crop = model.face_crop(index)?;
    std::hint::black_box(frame.baked.splice(&crop, &face, true)?);
    Ok(started.elapsed())
}

/// Avatars that share their frames: folders with links, and the same manifest.
fn make_avatars(folder: &Path) -> Outcome<Vec<ModelConfig>> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/avatars/mira");
    let mut sources: Vec<PathBuf> = demo
        .join("frames")
        .read_dir()?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    sources.sort_unstable();
    let rectangles = fs::read_to_string(demo.join("crop_rectangles.json"))?;
    let rectangles: Vec<[i32; 4]> = serde_json::from_str(&rectangles)?;
    let frames = folder.join("frames");
    fs::create_dir(&frames)?;
    let mut chosen = Vec::new();
    for n in 0..N_FRAMES {
        let n_source = n % sources.len();
        fs::copy(&sources[n_source], frames.join(format!("frame_{n:04}.jpg")))?;
        chosen.push(rectangles[n_source]);
    }
    let rectangles = serde_json::to_vec(&chosen)?;
    let mut models = Vec::new();
    for n in 0..N_MODELS {
        let name = format!("m{n:02}");
        let model = folder.join(&name);
        fs::create_dir(&model)?;
        std::os::unix::fs::symlink(&frames, model.join("frames"))?;
        fs::write(model.join("rects.json"), &rectangles)?;
        fs::write(model.join("g.onnx"), "fake")?;
        fs::write(
            model.join("avatar.yaml"),
            "audio_kind: ave\ngenerator: g.onnx\nframes: frames\ncrop_rectangles: rects.json\n",
        )?;
        models.push(ModelConfig {
            id: ModelId::new(&name)?,
            source: ModelSource::Folder(model),
            audio_kind: None,
            fps: None,
            audio_encoder: None,
            precision: None,
            preload: false,
        });
    }
    Ok(models)
}

fn config(models: Vec<ModelConfig>) -> RegistryConfig {
    RegistryConfig {
        models,
        max_models: N_MODELS,
        max_bytes: u64::MAX,
        max_frame_bytes: MAX_FRAME_BYTES,
        eviction: EvictionPolicy::Lru,
        idle_timeout: None,
        frames_idle: Duration::from_secs(60),
        precision: PrecisionChoice::Auto,
        background_cache_frames: CACHE_FRAMES,
        decoded_frames: 8,
        preload_frames: 8,
        jpeg_quality: 85,
        cache_dir: None,
        bake: false,
    }
}

/// Bytes of this process in memory; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Has the system read a file from the disk again, as far as it listens.
fn forget_pages(path: &Path) -> Outcome<()> {
    let file = fs::File::open(path)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for a table")]
fn in_megabytes(n_bytes: u64) -> f64 {
    n_bytes as f64 / 1e6
}

/// Makes networks of a few bytes.
struct Fake;

impl NetworkLoader for Fake {
    fn generator(&self, _onnx: &[u8], _: Precision) -> Result<Arc<dyn Generator>, EngineError> {
        Ok(Arc::new(FakeGenerator))
    }

    fn audio_encoder(&self, _onnx: &[u8]) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        Err(EngineError::Malformed {
            reason: "not in this benchmark".into(),
        })
    }

    fn device(&self) -> String {
        "fake".into()
    }

    fn warm_up(&self, _generator: &dyn Generator) -> Result<(), EngineError> {
        Ok(())
    }
}

struct FakeGenerator;

impl Generator for FakeGenerator {
    fn geometry(&self) -> FaceGeometry {
        FaceGeometry::LARGE
    }

    fn audio_shape(&self) -> [usize; 3] {
        [32, 16, 16]
    }

    fn weights_bytes(&self) -> u64 {
        1
    }

    fn infer(
        &self,
        _session: &mut Session,
        _frames: &[FaceInput<'_>],
        _faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        Ok(())
    }
}
