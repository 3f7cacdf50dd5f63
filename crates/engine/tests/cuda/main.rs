//! Generators on a made-up CUDA device: the launches of the real one, done by the kernels' scalar twins.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a step that fails is a test that fails; bytes of a made-up picture; figures for the docs"
)]

mod capture;
mod encoder;
mod memory;
mod overlap;
mod saturation;
mod windows;

use std::sync::Arc;

use lipsync_core::SplitMix64;
use lipsync_engine::{
    CpuIsa, Device, EngineError, FaceInput, Generator, LoadOptions, VisualCache, Workspace,
    cuda::{Blocks, Call, Cuda, FakeDevice, Fault},
    load_generator,
    network_writer::variants::write_variant,
};

const GIB: u64 = 1 << 30;

fn load(variant: &str, cuda: &Arc<Cuda>, cache_bytes: u64) -> Arc<dyn Generator> {
    let options = LoadOptions {
        device: Some(Arc::clone(cuda)),
        visual_cache: Some(Arc::new(VisualCache::new(cache_bytes))),
        ..LoadOptions::default()
    };
    load_generator(&write_variant(variant).unwrap(), options).unwrap()
}

/// Seeded crops and audio windows.
struct Scene {
    crops: Vec<Vec<u8>>,
    audio: Vec<Vec<f32>>,
}

impl Scene {
    fn new(generator: &dyn Generator, n_crops: usize, n_windows: usize) -> Self {
        let mut random = SplitMix64::new(5);
        let n_bytes = generator.geometry().crop_bytes();
        let window = generator.audio_shape().iter().product();
        let mut byte = || random.next_u64().to_le_bytes()[7];
        Self {
            crops: (0..n_crops)
                .map(|_| (0..n_bytes).map(|_| byte()).collect())
                .collect(),
            audio: (0..n_windows as u64)
                .map(|seed| SplitMix64::new(seed).floats(window, -1.0, 1.0))
                .collect(),
        }
    }

    fn frame(&self, n: usize) -> FaceInput<'_> {
        let crop = n % self.crops.len();
        FaceInput {
            crop: &self.crops[crop],
            frame: u32::try_from(crop).ok(),
            audio: &self.audio[n % self.audio.len()],
        }
    }

    fn frames(&self, n: usize) -> Vec<FaceInput<'_>> {
        (0..n).map(|n| self.frame(n)).collect()
    }
}

fn infer(
    generator: &dyn Generator,
    workspace: &mut Workspace,
    frames: &[FaceInput<'_>],
) -> Vec<Vec<u8>> {
    let mut faces = vec![];
    generator.infer(workspace, frames, &mut faces).unwrap();
    faces
}

/// Peak signal to noise ratio of bytes, and their relative L2 distance.
fn distance(actual: &[u8], expected: &[u8]) -> (f64, f64) {
    assert_eq!(actual.len(), expected.len());
    let pairs = actual
        .iter()
        .zip(expected)
        .map(|(&a, &e)| (f64::from(a), f64::from(e)));
    let (error, norm) = pairs.fold((0.0, 0.0), |(error, norm), (a, e)| {
        (error + (a - e).powi(2), norm + e * e)
    });
    let mean = error / actual.len() as f64;
    (
        10.0 * (255.0_f64.powi(2) / mean.max(1e-9)).log10(),
        (error / norm).sqrt(),
    )
}

#[test]
fn faces_are_near_those_of_the_cpu() {
    for variant in ["small-opset13", "small-328-plumbing"] {
        let cuda = FakeDevice::new(0, 4 * GIB).open();
        let generator = load(variant, &cuda, GIB);
        assert_eq!(generator.device(), Device::Cuda(0));
        let cpu = load_generator(&write_variant(variant).unwrap(), CpuIsa::Auto).unwrap();
        let scene = Scene::new(&*cpu, 2, 2);
        let expected = infer(&*cpu, &mut Workspace::new(), &scene.frames(2));
        let actual = infer(&*generator, &mut Workspace::new(), &scene.frames(2));
        for (actual, expected) in actual.iter().zip(&expected) {
            let (db, relative) = distance(actual, expected);
            assert!(
                db > 45.0 && relative < 1e-2,
                "{variant}: {db} dB, {relative:e}"
            );
        }
    }
}

/// A smooth picture, as cameras make them, and not noise.
fn smooth_crop(n_bytes: usize, side: usize) -> Vec<u8> {
    let value = |i: usize| {
        let (x, y, channel) = (i / 3 % side, i / 3 / side, i % 3);
        let wave = (x as f32 / 17.0).sin() + (y as f32 / 23.0 + channel as f32).cos();
        (128.0 + 50.0 * wave) as u8
    };
    (0..n_bytes).map(value).collect()
}

#[test]
fn mira_is_near_what_the_cpu_makes_of_her() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../assets/avatars/mira/generator.onnx"
    );
    let onnx = std::fs::read(path).unwrap();
    let options = LoadOptions {
        device: Some(FakeDevice::new(0, 4 * GIB).open()),
        ..LoadOptions::default()
    };
    let generator = load_generator(&onnx, options).unwrap();
    let cpu = load_generator(&onnx, CpuIsa::Auto).unwrap();
    let geometry = cpu.geometry();
    let crop = smooth_crop(geometry.crop_bytes(), geometry.crop_px);
    let window = cpu.audio_shape().iter().product();
    let audio = SplitMix64::new(1).floats(window, -1.0, 1.0);
    let frame = FaceInput {
        crop: &crop,
        frame: None,
        audio: &audio,
    };
    let expected = infer(&*cpu, &mut Workspace::new(), &[frame]);
    let actual = infer(&*generator, &mut Workspace::new(), &[frame]);
    let (db, relative) = distance(&actual[0], &expected[0]);
    println!("mira: {db:.1} dB, relative L2 {relative:.1e}");
    assert!(db > 45.0 && relative < 1e-2, "{db} dB, {relative:e}");
}

#[test]
fn a_frame_is_bit_equal_whatever_batch_and_cache() {
    let variant = "small-opset12";
    let cuda = FakeDevice::new(0, 4 * GIB).open();
    let plain = load(variant, &cuda, 0);
    let scene = Scene::new(&*plain, 3, 4);
    let mut workspace = Workspace::new();
    let expected: Vec<Vec<u8>> = (0..5)
        .flat_map(|n| infer(&*plain, &mut workspace, &[scene.frame(n)]))
        .collect();
    let entry = {
        let generator = load(variant, &cuda, GIB);
        infer(&*generator, &mut workspace, &[scene.frame(0)]);
        generator.visual_cache().unwrap().resident_bytes
    };
    for (n_entries, batch) in [(0, 5), (2, 2), (3, 3)] {
        let generator = load(variant, &cuda, n_entries * entry);
        for round in 0..2 {
            let frames = scene.frames(5);
            let faces: Vec<Vec<u8>> = frames
                .chunks(batch)
                .flat_map(|frames| infer(&*generator, &mut workspace, frames))
                .collect();
            assert!(
                faces == expected,
                "{n_entries} entries, batches of {batch}, round {round}"
            );
        }
        let stats = generator.visual_cache().unwrap();
        assert_eq!(stats.hits + stats.misses, 10);
        assert!(stats.resident_bytes <= n_entries * entry);
        if n_entries == 3 {
            assert_eq!(stats.resident_frames, 3);
            assert!(stats.hits >= 5, "{stats:?}");
        }
    }
}

#[test]
fn fused_blocks_give_the_faces_of_separate_kernels() {
    let cuda = FakeDevice::new(0, 4 * GIB).open();
    let [fused, separate] = [Blocks::Fused, Blocks::Separate].map(|blocks| {
        let options = LoadOptions {
            device: Some(Arc::clone(&cuda)),
            blocks,
            ..LoadOptions::default()
        };
        load_generator(&write_variant("small-opset12").unwrap(), options).unwrap()
    });
    let scene = Scene::new(&*fused, 2, 2);
    let mut workspace = Workspace::new();
    let [fused, separate] = [fused, separate].map(|g| infer(&*g, &mut workspace, &scene.frames(2)));
    assert!(fused == separate);
}

#[test]
fn workers_share_a_device_and_its_entries() {
    let device = FakeDevice::new(0, 4 * GIB);
    let generator = load("small-opset13", &device.open(), GIB);
    let scene = Scene::new(&*generator, 2, 3);
    let expected = infer(&*generator, &mut Workspace::new(), &scene.frames(6));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut workspace = Workspace::new();
                generator.warm_up(&mut workspace, 4).unwrap();
                assert!(infer(&*generator, &mut workspace, &scene.frames(6)) == expected);
            });
        }
    });
    assert_eq!(generator.visual_cache().unwrap().resident_frames, 2);
}

#[test]
fn frames_prepared_ahead_are_hits_with_the_same_bits() {
    let cuda = FakeDevice::new(0, 4 * GIB).open();
    let scene = Scene::new(&*load("small-opset12", &cuda, 0), 2, 2);
    let mut workspace = Workspace::new();
    let expected = infer(
        &*load("small-opset12", &cuda, 0),
        &mut workspace,
        &scene.frames(2),
    );
    let generator = load("small-opset12", &cuda, GIB);
    for index in 0..2 {
        let crop = || Some(Arc::from(scene.crops[index as usize].as_slice()));
        generator
            .prepare(&mut workspace, index, &crop, &|| false)
            .unwrap();
    }
    assert!(infer(&*generator, &mut workspace, &scene.frames(2)) == expected);
    let stats = generator.visual_cache().unwrap();
    assert_eq!((stats.prepared, stats.hits, stats.misses), (2, 2, 0));
}

#[test]
fn a_failure_costs_one_batch_and_keeps_nothing() {
    let device = FakeDevice::new(0, GIB);
    let generator = load("small-opset13", &device.open(), GIB);
    let scene = Scene::new(&*generator, 2, 2);
    let expected = infer(
        &*load("small-opset13", &FakeDevice::new(0, GIB).open(), 0),
        &mut Workspace::new(),
        &scene.frames(2),
    );
    for (call, nth) in [(Call::Launch, 1), (Call::Copy, 2), (Call::Synchronize, 0)] {
        let mut workspace = Workspace::new();
        device.inject(call, nth, Fault::Recoverable);
        let failed = generator.infer(&mut workspace, &scene.frames(2), &mut vec![]);
        match failed {
            Err(EngineError::DeviceFault { device, sticky, .. }) => {
                assert_eq!((device.as_str(), sticky), ("cuda:0", false));
            }
            other => panic!("{call:?}: {other:?}"),
        }
        assert_eq!(
            generator.visual_cache().unwrap().resident_bytes,
            0,
            "{call:?}"
        );
    }
    assert!(infer(&*generator, &mut Workspace::new(), &scene.frames(2)) == expected);
}

#[test]
fn a_broken_device_says_so_from_then_on() {
    let device = FakeDevice::new(3, GIB);
    let cuda = device.open();
    let generator = load("small-opset13", &cuda, 0);
    let scene = Scene::new(&*generator, 1, 1);
    let mut workspace = Workspace::new();
    device.inject(Call::Launch, 0, Fault::Sticky);
    for _ in 0..2 {
        match generator.infer(&mut workspace, &scene.frames(1), &mut vec![]) {
            Err(EngineError::DeviceFault { device, sticky, .. }) => {
                assert_eq!((device.as_str(), sticky), ("cuda:3", true));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        cuda.memory(),
        Err(EngineError::DeviceFault { sticky: true, .. })
    ));
}

#[test]
fn a_kernel_that_hangs_costs_the_device_and_not_the_worker() {
    let device = FakeDevice::new(1, GIB);
    let cuda = device.open();
    let generator = load("small-opset13", &cuda, 0);
    let scene = Scene::new(&*generator, 1, 1);
    let mut workspace = Workspace::new();
    device.inject(Call::Synchronize, 0, Fault::Hang);
    match generator.infer(&mut workspace, &scene.frames(1), &mut vec![]) {
        Err(EngineError::DeviceFault {
            device,
            reason,
            sticky,
        }) => {
            assert_eq!((device.as_str(), sticky), ("cuda:1", true));
            assert!(reason.contains("the device hangs"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let next = generator.infer(&mut workspace, &scene.frames(1), &mut vec![]);
    assert!(matches!(
        next,
        Err(EngineError::DeviceFault { sticky: true, .. })
    ));
}

#[test]
fn captured_launches_are_replayed_and_only_two_start_a_batch() {
    let device = FakeDevice::new(0, GIB);
    let generator = load("small-opset13", &device.open(), GIB);
    let scene = Scene::new(&*generator, 3, 3);
    let mut workspace = Workspace::new();
    generator.warm_up(&mut workspace, 4).unwrap();
    assert_eq!(device.n_calls(Call::Launch), 0);
    let n_allocated = device.n_calls(Call::Allocate);
    infer(&*generator, &mut workspace, &scene.frames(3));
    // Entries are made, then faces; afterwards there are faces only, and nothing is uploaded but a table
    // and the audio. The entries share a slab.
    assert_eq!(device.n_calls(Call::Launch), 2);
    assert_eq!(device.n_calls(Call::Allocate), n_allocated + 1);
    let n_copies = device.n_calls(Call::Copy);
    infer(&*generator, &mut workspace, &scene.frames(3));
    assert_eq!(device.n_calls(Call::Launch), 3);
    assert_eq!(device.n_calls(Call::Copy), n_copies + 3);
    assert_eq!(device.n_calls(Call::Allocate), n_allocated + 1);
    assert_eq!(device.n_calls(Call::Synchronize), 2);
}

#[test]
fn buffers_of_a_wrong_length_are_refused_before_anything_runs() {
    let device = FakeDevice::new(0, GIB);
    let generator = load("small-opset13", &device.open(), 0);
    let scene = Scene::new(&*generator, 1, 1);
    let short = FaceInput {
        crop: &[1; 10],
        ..scene.frame(0)
    };
    let frames = [scene.frame(0), short];
    let refused = generator.infer(&mut Workspace::new(), &frames, &mut vec![]);
    assert!(matches!(
        refused,
        Err(EngineError::Input { what: "crop", .. })
    ));
    assert_eq!(device.n_calls(Call::Launch), 0);
}
