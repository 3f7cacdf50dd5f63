//! What a hundred avatars cost: memory as the system counts it, and the wait for a cold frame.
//!
//! `cargo bench -p lipsync-registry --bench memory` copies the demo avatar's frames to a temporary
//! folder until there are 500, bakes them once, and gives 100 models links to them. The networks are
//! fakes of a few bytes: only frames are measured. It takes a minute and 0.4 GB of disk.
//! With `-- held` it measures 2,000 baked frames that are all in memory instead.

mod support;

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_core::{ModelId, background_index};
use lipsync_registry::{Model, ModelConfig, PackState, Registry, RegistryConfig};

use support::{Outcome, config, demo_frames, describe, loader, model};

const N_MODELS: usize = 100;
const N_FRAMES: usize = 500;
/// Places that each model walks, so that its cache is full.
const N_PLACES: u64 = 100;
/// Models whose frames are held all together.
const N_HELD: usize = 4;

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let avatars = make_avatars(folder.path())?;
    let registry = Registry::new(config(avatars.clone()), loader());
    let pack = bake_all(&registry, folder.path())?;
    if std::env::args().any(|arg| arg == "held") {
        return hold_all(&avatars[..N_HELD]);
    }

    println!("{:44} {:>12} {:>12}", "", "resident MB", "frames MB");
    let line = |what: &str| {
        let resident = in_megabytes(resident_bytes());
        let frames = in_megabytes(registry.frame_bytes());
        println!("{what:44} {resident:12.1} {frames:12.1}");
    };
    line("before");
    let models = load_all(&registry, N_MODELS)?;
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

/// All frames of some models, held by caches that are large enough.
#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn hold_all(avatars: &[ModelConfig]) -> Outcome<()> {
    let registry = Registry::new(
        RegistryConfig {
            background_cache_frames: N_FRAMES,
            ..config(avatars.to_vec())
        },
        loader(),
    );
    let models = load_all(&registry, avatars.len())?;
    let before = resident_bytes();
    let mut n_held = 0;
    for model in &models {
        for index in 0..model.n_frames() {
            model.background(index)?;
        }
        n_held += model.cache_stats().resident_frames;
    }
    println!(
        "{n_held} baked frames held: {:.0} MB, and {:.0} MB more resident",
        in_megabytes(registry.frame_bytes()),
        in_megabytes(resident_bytes().saturating_sub(before)),
    );
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

fn load_all(registry: &Registry, n_models: usize) -> Outcome<Vec<Arc<Model>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut models = Vec::new();
    for n in 0..n_models {
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
    let (sources, rectangles) = demo_frames()?;
    let frames = folder.join("frames");
    fs::create_dir(&frames)?;
    let mut chosen = Vec::new();
    for n in 0..N_FRAMES {
        let n_source = n % sources.len();
        fs::copy(&sources[n_source], frames.join(format!("frame_{n:04}.jpg")))?;
        chosen.push(rectangles[n_source]);
    }
    let mut models = Vec::new();
    for n in 0..N_MODELS {
        let name = format!("m{n:02}");
        let model_folder = folder.join(&name);
        fs::create_dir(&model_folder)?;
        std::os::unix::fs::symlink(&frames, model_folder.join("frames"))?;
        describe(&model_folder, &chosen)?;
        models.push(model(&name, model_folder)?);
    }
    Ok(models)
}

/// Bytes of this process in memory; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Has the system read a file from the disk again, as far as it listens. Only Linux is asked.
fn forget_pages(path: &Path) -> Outcome<()> {
    let file = fs::File::open(path)?;
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    #[cfg(not(target_os = "linux"))]
    drop(file);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for a table")]
fn in_megabytes(n_bytes: u64) -> f64 {
    n_bytes as f64 / 1e6
}
