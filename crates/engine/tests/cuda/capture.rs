//! Launches that cannot be captured.

use lipsync_engine::{
    EngineError, Workspace,
    cuda::{Call, FakeDevice, Fault},
};

use crate::{GIB, Scene, infer, load};

/// The capture's own error says only that it is not valid any more.
#[test]
fn a_launch_that_fails_while_it_is_captured_is_the_reason() {
    let device = FakeDevice::new(2, GIB);
    let generator = load("small-opset13", &device.open(), GIB);
    let scene = Scene::new(&*generator, 2, 2);
    let expected = infer(&*generator, &mut Workspace::new(), &scene.frames(2));
    // A warm-up captures both phases of three buckets, 1, 2 and 4: the first launch of all, one in the middle.
    for nth in [0, 30] {
        let mut workspace = Workspace::new();
        device.inject(Call::Record, nth, Fault::Recoverable);
        assert_told_to_fail(generator.warm_up(&mut workspace, 4).map(drop));
        assert!(infer(&*generator, &mut workspace, &scene.frames(2)) == expected);
    }
    // A request captures what no warm-up did.
    let mut workspace = Workspace::new();
    device.inject(Call::Record, 3, Fault::Recoverable);
    assert_told_to_fail(generator.infer(&mut workspace, &scene.frames(2), &mut vec![]));
    assert!(infer(&*generator, &mut workspace, &scene.frames(2)) == expected);
    drop((workspace, generator));
    assert_eq!(device.used_bytes(), 0);
}

fn assert_told_to_fail(tried: Result<(), EngineError>) {
    match tried {
        Err(EngineError::DeviceFault {
            device,
            reason,
            sticky: false,
        }) => assert_eq!((&*device, &*reason), ("cuda:2", "told to fail")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_without_room_for_a_capture_says_so_and_has_it_later() {
    let device = FakeDevice::new(0, GIB);
    let generator = load("small-opset13", &device.open(), GIB);
    let scene = Scene::new(&*generator, 2, 2);
    let expected = infer(&*generator, &mut Workspace::new(), &scene.frames(2));
    let mut workspace = Workspace::new();
    device.inject(Call::Capture, 1, Fault::OutOfMemory);
    let tried = generator.warm_up(&mut workspace, 4).map(drop);
    assert!(
        matches!(tried, Err(EngineError::OutOfMemory { .. })),
        "{tried:?}"
    );
    assert!(infer(&*generator, &mut workspace, &scene.frames(2)) == expected);
}
