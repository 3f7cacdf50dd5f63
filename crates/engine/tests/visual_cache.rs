//! Frames made with the cache of visual results are those made without, bit for bit, and its budget holds.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{sync::Arc, thread};

use lipsync_core::SplitMix64;
use lipsync_engine::{
    CpuIsa, FaceInput, Generator, LoadOptions, Precision, VisualCache, VisualCacheStats, Workspace,
    load_generator, network_writer::variants::write_variant,
};

const N_BACKGROUNDS: u32 = 5;

/// A generator with a cache of so many bytes.
fn load(
    variant: &str,
    precision: Precision,
    cache: Option<&Arc<VisualCache>>,
) -> Arc<dyn Generator> {
    let options = LoadOptions {
        precision,
        visual_cache: cache.map(Arc::clone),
        ..LoadOptions::from(CpuIsa::Auto)
    };
    load_generator(&write_variant(variant).unwrap(), options).unwrap()
}

struct Scene {
    crops: Vec<Vec<u8>>,
    audio: Vec<f32>,
    window: usize,
}

impl Scene {
    fn new(generator: &dyn Generator) -> Self {
        let mut random = SplitMix64::new(11);
        let n_bytes = generator.geometry().crop_bytes();
        let window = generator.audio_shape().iter().product();
        let mut byte = || random.next_u64().to_le_bytes()[7];
        Self {
            crops: (0..N_BACKGROUNDS)
                .map(|_| (0..n_bytes).map(|_| byte()).collect())
                .collect(),
            audio: SplitMix64::new(12).floats(window * 20, -1.0, 1.0),
            window,
        }
    }

    /// Frame `n` of a walk to and fro.
    fn frame(&self, n: u32) -> FaceInput<'_> {
        let place = n % (2 * N_BACKGROUNDS);
        let index = place.min(2 * N_BACKGROUNDS - 1 - place);
        FaceInput {
            crop: &self.crops[index as usize],
            frame: Some(index),
            audio: &self.audio[n as usize % 20 * self.window..][..self.window],
        }
    }

    /// Frames of the places of a range, as one batch.
    fn run(&self, generator: &dyn Generator, places: std::ops::Range<u32>) -> Vec<Vec<u8>> {
        let frames: Vec<FaceInput<'_>> = places.map(|n| self.frame(n)).collect();
        let mut faces = vec![];
        generator
            .infer(&mut Workspace::new(), &frames, &mut faces)
            .unwrap();
        faces
    }
}

/// Bytes of one entry of a variant.
fn entry_bytes(variant: &str, precision: Precision) -> u64 {
    let cache = Arc::new(VisualCache::new(1 << 30));
    let generator = load(variant, precision, Some(&cache));
    Scene::new(&*generator).run(&*generator, 0..1);
    cache.stats().resident_bytes
}

fn check_bits(variant: &str, precision: Precision) {
    let plain = load(variant, precision, None);
    assert_eq!(plain.visual_cache(), None);
    let scene = Scene::new(&*plain);
    let expected = scene.run(&*plain, 0..12);
    let entry = entry_bytes(variant, precision);
    assert!(entry > 0);
    // Room for all, for some, and for none.
    for n_entries in [N_BACKGROUNDS.into(), 2, 0] {
        let cache = Arc::new(VisualCache::new(n_entries * entry));
        let generator = load(variant, precision, Some(&cache));
        for batch in [1, 5, 12] {
            for start in (0..12).step_by(batch as usize) {
                let end = (start + batch).min(12);
                let faces = scene.run(&*generator, start..end);
                assert!(
                    faces == expected[start as usize..end as usize],
                    "{variant} {precision}: {n_entries} entries, batches of {batch}"
                );
                assert!(cache.stats().resident_bytes <= n_entries * entry);
            }
        }
        let stats = generator.visual_cache().unwrap();
        assert_eq!(stats, cache.stats());
        assert_eq!(stats.hits + stats.misses, 3 * 12);
        assert_eq!(stats.resident_frames, n_entries);
        match n_entries {
            0 => assert_eq!(stats.hits, 0),
            2 => assert!(stats.hits > 0 && stats.evictions > 0, "{stats:?}"),
            _ => assert_eq!((stats.misses, stats.evictions), (5, 0)),
        }
    }
}

#[test]
fn frames_are_bit_equal_whatever_is_kept() {
    check_bits("small-opset12", Precision::F32);
    check_bits("small-328-plumbing", Precision::F32);
    check_bits("small-opset13", Precision::Bf16);
}

#[test]
fn workers_share_what_is_kept() {
    let cache = Arc::new(VisualCache::new(1 << 30));
    let generator = load("small-opset13", Precision::F32, Some(&cache));
    let scene = Scene::new(&*generator);
    let expected = scene.run(&*load("small-opset13", Precision::F32, None), 0..12);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(scene.run(&*generator, 0..12) == expected));
        }
    });
    let stats = cache.stats();
    assert_eq!(stats.hits + stats.misses, 36);
    // However many missed a frame at the same time, it is kept once.
    assert_eq!(stats.resident_frames, N_BACKGROUNDS.into());
    // A worker that comes back before another has finished a frame misses it once more.
    assert!(stats.misses >= N_BACKGROUNDS.into(), "{stats:?}");
    drop(generator);
    assert_eq!(
        cache.stats().resident_bytes,
        0,
        "entries go with their generator"
    );
    assert_eq!(cache.stats().hits, stats.hits);
}

#[test]
fn frames_prepared_ahead_are_hits_with_the_same_bits() {
    let cache = Arc::new(VisualCache::new(1 << 30));
    let generator = load("small-opset12", Precision::F32, Some(&cache));
    let scene = Scene::new(&*generator);
    let expected = scene.run(&*load("small-opset12", Precision::F32, None), 0..5);
    let mut workspace = Workspace::new();
    let crop = |index: u32| Some(Arc::from(scene.crops[index as usize].as_slice()));
    for index in 0..N_BACKGROUNDS {
        let crop = || crop(index);
        generator
            .prepare(&mut workspace, index, &crop, &|| false)
            .unwrap();
    }
    // What is there already needs no crop.
    let none = || panic!("nobody needs it");
    generator
        .prepare(&mut workspace, 0, &none, &|| false)
        .unwrap();
    assert!(scene.run(&*generator, 0..5) == expected);
    let stats = cache.stats();
    assert_eq!((stats.prepared, stats.hits, stats.misses), (5, 5, 0));
}

#[test]
fn preparing_that_is_stopped_or_fails_keeps_nothing() {
    let cache = Arc::new(VisualCache::new(1 << 30));
    let generator = load("small-opset12", Precision::F32, Some(&cache));
    let mut workspace = Workspace::new();
    let n_bytes = generator.geometry().crop_bytes();
    let whole = || Some(Arc::from(vec![7; n_bytes]));
    generator
        .prepare(&mut workspace, 1, &whole, &|| true)
        .unwrap();
    generator
        .prepare(&mut workspace, 1, &|| None, &|| false)
        .unwrap();
    let short = || Some(Arc::from(vec![7; 3]));
    assert!(
        generator
            .prepare(&mut workspace, 1, &short, &|| false)
            .is_err()
    );
    let empty = VisualCacheStats {
        capacity_bytes: 1 << 30,
        ..VisualCacheStats::default()
    };
    assert_eq!(cache.stats(), empty);
}

#[test]
fn a_frame_of_the_full_size_network_takes_6_4_megabytes() {
    let bytes = entry_bytes("328-ave", Precision::F32);
    assert!((6_200_000..=6_600_000).contains(&bytes), "{bytes}");
}

#[test]
fn frames_without_an_index_are_not_kept() {
    let cache = Arc::new(VisualCache::new(1 << 30));
    let generator = load("small-opset12", Precision::F32, Some(&cache));
    let scene = Scene::new(&*generator);
    let frame = FaceInput {
        frame: None,
        ..scene.frame(0)
    };
    generator
        .infer(&mut Workspace::new(), &[frame], &mut vec![])
        .unwrap();
    assert_eq!(cache.stats().misses, 0);
}

/// A run that nobody wants any more ends after the frame that is under way, and what it did is what a whole run
/// does.
#[test]
fn a_run_ends_when_nobody_wants_it() {
    let generator = load("small-opset13", Precision::F32, None);
    let scene = Scene::new(&*generator);
    let whole = scene.run(&*generator, 0..4);
    let frames: Vec<FaceInput<'_>> = (0..4).map(|n| scene.frame(n)).collect();
    for n_wanted in 0..5 {
        let asked = std::cell::Cell::new(0);
        let is_wanted = || {
            asked.set(asked.get() + 1);
            asked.get() <= n_wanted
        };
        let mut faces = vec![];
        generator
            .infer_while(&mut Workspace::new(), &frames, &mut faces, &is_wanted)
            .unwrap();
        let n_frames = (n_wanted + 1).min(frames.len());
        assert_eq!(faces, whole[..n_frames]);
    }
}

/// A workspace holds no more than is charged for it, but for the ends of its four allocations, and nothing after it
/// was released.
#[test]
fn a_session_grows_to_what_its_network_says() {
    for precision in [Precision::F32, Precision::Bf16] {
        let generator = load("small-opset13", precision, None);
        let scene = Scene::new(&*generator);
        let mut workspace = Workspace::new();
        let mut faces = vec![];
        let mut run = |workspace: &mut Workspace| {
            let frame = scene.frame(0);
            generator.infer(workspace, &[frame], &mut faces).unwrap();
            faces.clone()
        };
        let first = run(&mut workspace);
        let (held, charged) = (workspace.resident_bytes(), generator.workspace_bytes());
        assert!(held > 0 && held <= charged + 4 * 64, "{held} of {charged}");
        workspace.release_host();
        assert_eq!(workspace.resident_bytes(), 0);
        assert_eq!(run(&mut workspace), first);
    }
}
