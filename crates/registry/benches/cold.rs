//! The wait for a background frame that is not in memory: from a pack, and from PNG.
//!
//! `cargo bench -p lipsync-registry --bench cold` writes 100 frames of the demo avatar as PNG, reads
//! each once where there is no pack, bakes them, and reads each once again, in no order that could be
//! foreseen. All files are in the system's page cache. One thread; 0.2 GB of disk.

mod support;

use std::{
    fs,
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_core::ModelId;
use lipsync_registry::{Model, ModelConfig, PackState, Registry, RegistryConfig, RegistryError};

use support::{Outcome, config, demo_frames, describe, loader, model};

const N_FRAMES: u32 = 100;
/// No divisor of [`N_FRAMES`]: this many on and on meets every frame once.
const STRIDE: u32 = 37;
const ID: &str = "cold";

fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    write_frames(folder.path())?;
    let avatar = model(ID, folder.path().to_owned())?;
    let id = ModelId::new(ID)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let load = |registry: &Registry| -> Outcome<Arc<Model>> {
        Ok(runtime.block_on(registry.load(&id))?.model)
    };

    let from_png = load(&registry(&avatar))?;
    measure("from PNG: decoded, baked, face cut out", |index| {
        from_png.background(index).map(drop)
    })?;
    registry(&avatar).bake(&id, NonZeroUsize::MIN, &mut |_| ())?;
    let from_pack = load(&registry(&avatar))?;
    assert!(matches!(from_pack.pack_state(), PackState::Ready { .. }));
    measure("from a pack", |index| from_pack.background(index).map(drop))?;
    measure("from a pack: the face crop", |index| {
        from_pack.face_crop(index).map(drop)
    })
}

/// A registry that has read nothing, and reads nothing that is not asked for.
fn registry(avatar: &ModelConfig) -> Registry {
    let config = RegistryConfig {
        preload_frames: 0,
        ..config(vec![avatar.clone()])
    };
    Registry::new(config, loader())
}

/// Times `read` for every frame, and prints the middle and the longest time.
#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn measure(what: &str, mut read: impl FnMut(u32) -> Result<(), RegistryError>) -> Outcome<()> {
    let mut times = Vec::new();
    for n in 0..N_FRAMES {
        let started = Instant::now();
        read(n * STRIDE % N_FRAMES)?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, Duration::as_secs_f64) * 1e3;
    println!(
        "{what:40} median {:.3} ms, worst {:.3} ms",
        ms(times.get(times.len() / 2)),
        ms(times.last())
    );
    Ok(())
}

/// The avatar: frames of the demo avatar, as PNG.
fn write_frames(folder: &Path) -> Outcome<()> {
    let (sources, rectangles) = demo_frames()?;
    fs::create_dir(folder.join("frames"))?;
    let mut chosen = Vec::new();
    for (n, (source, rectangle)) in (0..N_FRAMES).zip(sources.iter().zip(rectangles)) {
        let to = folder.join(format!("frames/frame_{n:04}.png"));
        image::open(source)?.to_rgb8().save(to)?;
        chosen.push(rectangle);
    }
    describe(folder, &chosen)
}
