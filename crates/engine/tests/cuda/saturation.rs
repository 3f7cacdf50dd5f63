//! Values that fp16 does not hold are found before anybody sees a face of them.

use lipsync_core::{AudioKind, FaceGeometry, SplitMix64};
use lipsync_engine::{
    CpuIsa, EngineError, FaceInput, Workspace,
    cuda::{Call, FakeDevice, Fault},
    load_generator,
    network_writer::Unet,
};

use crate::{GIB, infer};

/// A network whose blocks expand values of the order of `wide_gain`, and take that back.
fn network(wide_gain: f32) -> Vec<u8> {
    Unet {
        channels: [4, 6, 8, 12, 20],
        wide_gain,
        ..Unet::new(160, AudioKind::Ave)
    }
    .write()
}

fn with_frame<T>(run: impl FnOnce(FaceInput<'_>) -> T) -> T {
    let crop: Vec<u8> = (0..FaceGeometry::SMALL.crop_bytes())
        .map(|i| i.to_le_bytes()[0])
        .collect();
    let audio = SplitMix64::new(1).floats(32 * 16 * 16, -1.0, 1.0);
    run(FaceInput {
        crop: &crop,
        frame: None,
        audio: &audio,
    })
}

fn tried(device: &FakeDevice, onnx: &[u8], n_frames: usize) -> Result<(), EngineError> {
    with_frame(|frame| device.open().try_values(onnx, &vec![frame; n_frames]))
}

#[test]
fn a_network_is_refused_for_values_that_only_the_middle_of_its_blocks_has() {
    let device = FakeDevice::new(0, GIB);
    tried(&device, &network(1.0), 1).unwrap();
    let onnx = network(1e6);
    let n_values = |n_frames| match tried(&device, &onnx, n_frames) {
        Err(EngineError::Saturates { n_values }) => n_values,
        other => panic!("{other:?}"),
    };
    let of_one = n_values(1);
    assert!(of_one > 1000, "{of_one}");
    assert_eq!(n_values(2), 2 * of_one);
    assert_eq!(device.used_bytes(), 0);
    // In f32 it is a network like any other.
    let cpu = |onnx: &[u8]| {
        let generator = load_generator(onnx, CpuIsa::Auto).unwrap();
        with_frame(|frame| infer(&*generator, &mut Workspace::new(), &[frame])).remove(0)
    };
    let face = cpu(&onnx);
    assert!(face.iter().any(|byte| *byte != face[0]), "a picture");
}

#[test]
fn a_trial_that_fails_says_why_and_leaves_nothing() {
    let device = FakeDevice::new(0, GIB);
    let onnx = network(1.0);
    device.inject(Call::Launch, 5, Fault::Recoverable);
    let failed = tried(&device, &onnx, 1);
    assert!(
        matches!(failed, Err(EngineError::DeviceFault { sticky: false, .. })),
        "{failed:?}"
    );
    device.inject(Call::Allocate, 1, Fault::OutOfMemory);
    let failed = tried(&device, &onnx, 1);
    assert!(
        matches!(failed, Err(EngineError::OutOfMemory { .. })),
        "{failed:?}"
    );
    let short = with_frame(|frame| {
        let audio = &frame.audio[1..];
        device
            .open()
            .try_values(&onnx, &[FaceInput { audio, ..frame }])
    });
    assert!(matches!(short, Err(EngineError::Input { .. })), "{short:?}");
    assert_eq!(device.used_bytes(), 0);
}
