//! AVE encoders on a made-up CUDA device.

use std::sync::Arc;

use lipsync_core::SplitMix64;
use lipsync_engine::{
    AudioEncoder, CpuIsa, Device, EngineError, LoadOptions, Workspace,
    cuda::{Call, Cuda, FakeDevice, Fault, encoder_bytes, runs_encoder},
    load_audio_encoder,
    network_writer::{variants::write_variant, write_audio_encoder},
    reference::relative_l2,
};

use super::GIB;

/// Floats of a patch of spectrogram.
const PATCH: usize = 80 * 16;

fn load(onnx: &[u8], cuda: &Arc<Cuda>) -> Result<Arc<dyn AudioEncoder>, EngineError> {
    let options = LoadOptions {
        device: Some(Arc::clone(cuda)),
        ..LoadOptions::default()
    };
    load_audio_encoder(onnx, options)
}

/// One of few channels.
fn small() -> Vec<u8> {
    write_audio_encoder(4, 13, true, 1)
}

/// Spectrograms lie between -4 and 4.
fn patches(n: usize) -> Vec<f32> {
    SplitMix64::new(3).floats(n * PATCH, -4.0, 4.0)
}

fn encode(encoder: &dyn AudioEncoder, patches: &[f32]) -> Vec<f32> {
    encoder.encode(&mut Workspace::new(), patches).unwrap()
}

/// The full-size encoder, with seeded weights, and a trained one.
#[test]
fn steps_are_near_those_of_the_cpu() {
    let avatars = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/avatars");
    let mira = std::fs::read(format!("{avatars}/mira/audio_encoder.onnx")).unwrap();
    for (name, onnx, n) in [
        ("full", write_variant("ave-encoder").unwrap(), 2),
        ("mira", mira, 4),
    ] {
        let cuda = FakeDevice::new(0, GIB).open();
        let encoder = load(&onnx, &cuda).unwrap();
        assert_eq!(
            (encoder.device(), encoder.step_floats()),
            (Device::Cuda(0), 512)
        );
        let cpu = load_audio_encoder(&onnx, CpuIsa::Auto).unwrap();
        assert_eq!((cpu.device(), cpu.device_bytes()), (Device::Cpu, 0));
        let patches = patches(n);
        let expected = encode(&*cpu, &patches);
        let actual = encode(&*encoder, &patches);
        assert!(expected.iter().any(|&step| step != 0.0), "no silence");
        let relative = relative_l2(&actual, &expected);
        println!("{name}: relative L2 {relative:.1e}");
        assert!(relative <= 2e-3, "{name}: {relative:e}");
    }
}

/// In batches of every bucket, in more than one batch, and by more threads than there are streams.
#[test]
fn a_step_is_bit_equal_whatever_batch_and_thread() {
    let device = FakeDevice::new(0, GIB);
    let encoder = load(&small(), &device.open()).unwrap();
    let patches = patches(70);
    let alone: Vec<f32> = patches
        .chunks(PATCH)
        .flat_map(|patch| encode(&*encoder, patch))
        .collect();
    std::thread::scope(|scope| {
        for n in [2, 3, 7, 20, 30, 70] {
            let (encoder, patches, alone) = (&*encoder, &patches, &alone);
            scope.spawn(move || {
                let steps: Vec<f32> = patches
                    .chunks(n * PATCH)
                    .flat_map(|patches| encode(encoder, patches))
                    .collect();
                assert!(steps == *alone, "batches of {n}");
            });
        }
    });
    assert!(encode(&*encoder, &[]).is_empty());
}

#[test]
fn memory_is_taken_when_it_is_loaded_and_given_back() {
    let device = FakeDevice::new(0, GIB);
    let onnx = small();
    let encoder = load(&onnx, &device.open()).unwrap();
    assert_eq!(encoder.device_bytes(), device.used_bytes());
    assert_eq!(encoder_bytes(&onnx).unwrap(), device.used_bytes());
    let calls = [Call::Allocate, Call::Capture];
    let before = calls.map(|call| device.n_calls(call));
    encode(&*encoder, &patches(40));
    assert_eq!(calls.map(|call| device.n_calls(call)), before);
    let needed = device.used_bytes();
    drop(encoder);
    assert_eq!(device.used_bytes(), 0);
    // A device that is too small says so at once, and keeps nothing.
    let device = FakeDevice::new(0, needed - 1);
    let refused = load(&onnx, &device.open()).map(drop);
    assert!(matches!(refused, Err(EngineError::OutOfMemory { .. })));
    assert_eq!(device.used_bytes(), 0);
}

#[test]
fn a_fault_that_passes_fails_nothing_and_one_that_stays_is_told() {
    let device = FakeDevice::new(2, GIB);
    let encoder = load(&small(), &device.open()).unwrap();
    let patches = patches(3);
    let expected = encode(&*encoder, &patches);
    let used = device.used_bytes();
    for (call, nth) in [(Call::Launch, 0), (Call::Copy, 1), (Call::Synchronize, 0)] {
        device.inject(call, nth, Fault::Recoverable);
        assert!(encode(&*encoder, &patches) == expected, "{call:?}");
        assert_eq!(device.used_bytes(), used, "{call:?}");
    }
    // Twice in a row is no passing fault. Whoever comes next is served again.
    device.inject(Call::Launch, 0, Fault::Recoverable);
    device.inject(Call::Launch, 1, Fault::Recoverable);
    let failed = encoder.encode(&mut Workspace::new(), &patches);
    assert!(matches!(
        failed,
        Err(EngineError::DeviceFault { sticky: false, .. })
    ));
    assert!(encode(&*encoder, &patches) == expected);
    device.inject(Call::Synchronize, 0, Fault::Hang);
    for _ in 0..3 {
        match encoder.encode(&mut Workspace::new(), &patches) {
            Err(EngineError::DeviceFault { device, sticky, .. }) => {
                assert_eq!((device.as_str(), sticky), ("cuda:2", true));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_no_patch_or_no_encoder_is_refused() {
    let device = FakeDevice::new(0, GIB);
    let cuda = device.open();
    let encoder = load(&small(), &cuda).unwrap();
    let n_launches = device.n_calls(Call::Launch);
    let refused = encoder.encode(&mut Workspace::new(), &[0.0; PATCH + 1]);
    assert!(matches!(
        refused,
        Err(EngineError::Input {
            what: "patches",
            ..
        })
    ));
    assert_eq!(device.n_calls(Call::Launch), n_launches);
    let generator = write_variant("small-opset13").unwrap();
    assert!(runs_encoder(&small()));
    let refused = load(&generator, &cuda).map(drop);
    assert!(matches!(refused, Err(EngineError::Contract { .. })));
    assert!(encoder_bytes(&generator).is_err());
}
