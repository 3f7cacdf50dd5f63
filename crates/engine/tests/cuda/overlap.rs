//! Two batches under way on one worker.

use std::sync::Arc;

use lipsync_engine::{
    EngineError, FaceInput, Generator, Ticket, Workspace,
    cuda::{Call, FakeDevice, Fault},
};

use crate::{GIB, Scene, infer, load};

fn begin(generator: &dyn Generator, workspace: &mut Workspace, frames: &[FaceInput<'_>]) -> Ticket {
    let ticket = generator.begin(workspace, frames).unwrap();
    ticket.expect("there is room")
}

fn finish(generator: &dyn Generator, workspace: &mut Workspace, ticket: Ticket) -> Vec<Vec<u8>> {
    let mut faces = vec![];
    generator.finish(workspace, ticket, &mut faces).unwrap();
    faces
}

#[test]
fn a_batch_behind_another_has_the_faces_of_one_alone() {
    let variant = "small-opset13";
    let cuda = FakeDevice::new(0, 4 * GIB).open();
    let plain = load(variant, &cuda, 0);
    let scene = Scene::new(&*plain, 3, 9);
    let frames = scene.frames(9);
    let expected = infer(&*plain, &mut Workspace::new(), &frames);
    for cache_bytes in [0, GIB] {
        let generator = load(variant, &cuda, cache_bytes);
        let mut workspace = Workspace::new();
        generator.warm_up(&mut workspace, 4).unwrap();
        let mut faces = vec![];
        // The same background frames all along: those of the second batch are being made by the first.
        let mut before = begin(&*generator, &mut workspace, &frames[..3]);
        for range in [3..5, 5..8, 8..9] {
            let next = begin(&*generator, &mut workspace, &frames[range]);
            let third = generator.begin(&mut workspace, &frames[..1]).unwrap();
            assert_eq!(third, None, "two at most");
            faces.extend(finish(&*generator, &mut workspace, before));
            before = next;
        }
        faces.extend(finish(&*generator, &mut workspace, before));
        assert!(faces == expected, "{cache_bytes} bytes of cache");
        // What they have kept is right.
        assert!(infer(&*generator, &mut workspace, &frames) == expected);
    }
}

#[test]
fn a_batch_is_started_behind_another_without_a_wait() {
    let device = FakeDevice::new(0, 4 * GIB);
    let generator = load("small-opset13", &device.open(), GIB);
    let scene = Scene::new(&*generator, 2, 4);
    let frames = scene.frames(4);
    let mut workspace = Workspace::new();
    generator.warm_up(&mut workspace, 2).unwrap();
    let n_allocated = device.n_calls(Call::Allocate);
    let first = begin(&*generator, &mut workspace, &frames[..2]);
    let second = begin(&*generator, &mut workspace, &frames[2..]);
    assert_eq!(device.n_calls(Call::Synchronize), 0);
    for ticket in [first, second] {
        finish(&*generator, &mut workspace, ticket);
    }
    assert_eq!(device.n_calls(Call::Synchronize), 2);
    // Nothing but the slab of the entries: those that the second batch has made again had their place.
    assert_eq!(device.n_calls(Call::Allocate), n_allocated + 1);
}

#[test]
fn a_larger_batch_of_another_network_moves_the_memory_under_a_smaller_one() {
    let cuda = FakeDevice::new(0, 4 * GIB).open();
    let [small, large] = ["small-opset13", "small-328-plumbing"].map(|v| load(v, &cuda, GIB));
    let (first, second) = (Scene::new(&*small, 1, 1), Scene::new(&*large, 2, 2));
    let expected = [
        infer(&*small, &mut Workspace::new(), &first.frames(1)),
        infer(&*large, &mut Workspace::new(), &second.frames(2)),
    ];
    // Nothing is warm, so that all memory is taken now.
    let mut workspace = Workspace::new();
    let a = begin(&*small, &mut workspace, &first.frames(1));
    let b = begin(&*large, &mut workspace, &second.frames(2));
    let faces = [
        finish(&*small, &mut workspace, a),
        finish(&*large, &mut workspace, b),
    ];
    assert!(faces == expected);
}

#[test]
fn a_wait_that_is_stopped_loses_nothing() {
    let cuda = FakeDevice::new(0, GIB).open();
    let generator = load("small-opset13", &cuda, 0);
    let scene = Scene::new(&*generator, 1, 2);
    let mut workspace = Workspace::new();
    let expected = infer(&*generator, &mut workspace, &scene.frames(2));
    let ticket = begin(&*generator, &mut workspace, &scene.frames(2));
    for (stop, is_done) in [(true, false), (true, false), (false, true), (false, true)] {
        let waited = generator.wait(&mut workspace, ticket, &|| stop).unwrap();
        assert_eq!(waited, is_done);
    }
    assert!(finish(&*generator, &mut workspace, ticket) == expected);
    let again = generator.finish(&mut workspace, ticket, &mut vec![]);
    assert!(matches!(again, Err(EngineError::Input { .. })), "{again:?}");
}

#[test]
fn batches_land_in_the_order_in_which_they_began() {
    let cuda = FakeDevice::new(0, GIB).open();
    let generator = load("small-opset13", &cuda, 0);
    let scene = Scene::new(&*generator, 1, 2);
    let mut workspace = Workspace::new();
    let frames = scene.frames(2);
    let first = begin(&*generator, &mut workspace, &frames[..1]);
    let second = begin(&*generator, &mut workspace, &frames[1..]);
    let early = generator.finish(&mut workspace, second, &mut vec![]);
    assert!(matches!(early, Err(EngineError::Input { .. })), "{early:?}");
    // And neither is lost by the question.
    let mut faces = finish(&*generator, &mut workspace, first);
    faces.extend(finish(&*generator, &mut workspace, second));
    assert!(faces == infer(&*generator, &mut workspace, &frames));
}

#[test]
fn a_batch_that_cannot_begin_leaves_the_one_before_it_alone() {
    // Where there is a cache, no room for what is to be kept there is no failure.
    for (call, fault, cache_bytes) in [
        (Call::Copy, Fault::Recoverable, GIB),
        (Call::Launch, Fault::Recoverable, GIB),
        (Call::Launch, Fault::OutOfMemory, GIB),
        (Call::Allocate, Fault::OutOfMemory, 0),
    ] {
        let device = FakeDevice::new(0, GIB);
        let generator = load("small-opset13", &device.open(), cache_bytes);
        let scene = Scene::new(&*generator, 5, 5);
        let frames = scene.frames(5);
        let mut workspace = Workspace::new();
        let first = begin(&*generator, &mut workspace, &frames[..1]);
        device.inject(call, 0, fault);
        // It needs more memory than the first.
        let refused = generator.begin(&mut workspace, &frames[1..]);
        assert!(refused.is_err(), "{call:?}");
        let mut faces = finish(&*generator, &mut workspace, first);
        let second = begin(&*generator, &mut workspace, &frames[1..]);
        faces.extend(finish(&*generator, &mut workspace, second));
        let plain = load("small-opset13", &FakeDevice::new(0, GIB).open(), 0);
        assert!(faces == infer(&*plain, &mut Workspace::new(), &frames));
    }
}

#[test]
fn a_failure_is_that_of_both_and_keeps_nothing() {
    let device = FakeDevice::new(0, GIB);
    let generator = load("small-opset13", &device.open(), GIB);
    let scene = Scene::new(&*generator, 2, 2);
    let frames = scene.frames(2);
    let mut workspace = Workspace::new();
    let first = begin(&*generator, &mut workspace, &frames[..1]);
    let second = begin(&*generator, &mut workspace, &frames[1..]);
    device.inject(Call::Synchronize, 0, Fault::Recoverable);
    let mut faces = vec![];
    let failed = generator.finish(&mut workspace, first, &mut faces);
    let is_fault = matches!(failed, Err(EngineError::DeviceFault { sticky: false, .. }));
    assert!(is_fault, "{failed:?}");
    // The device has not run it, so nobody may have its faces.
    assert!(
        generator
            .finish(&mut workspace, second, &mut faces)
            .is_err()
    );
    assert!(faces.is_empty());
    let kept = generator.visual_cache().unwrap();
    assert_eq!((kept.resident_frames, kept.resident_bytes), (0, 0));
    let plain = load("small-opset13", &FakeDevice::new(0, GIB).open(), 0);
    let expected = infer(&*plain, &mut Workspace::new(), &frames);
    assert!(infer(&*generator, &mut workspace, &frames) == expected);
}

#[test]
fn a_device_that_hangs_is_lost_for_both() {
    let device = FakeDevice::new(0, GIB);
    let generator = load("small-opset13", &device.open(), 0);
    let scene = Scene::new(&*generator, 1, 1);
    let mut workspace = Workspace::new();
    let first = begin(&*generator, &mut workspace, &scene.frames(1));
    let second = begin(&*generator, &mut workspace, &scene.frames(1));
    device.inject(Call::Synchronize, 0, Fault::Hang);
    match generator.wait(&mut workspace, first, &|| false) {
        Err(EngineError::DeviceFault { reason, sticky, .. }) => {
            assert!(sticky && reason.contains("the device hangs"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let mut faces = vec![];
    assert!(
        generator
            .finish(&mut workspace, second, &mut faces)
            .is_err()
    );
    let next = generator.begin(&mut workspace, &scene.frames(1));
    let is_lost = matches!(next, Err(EngineError::DeviceFault { sticky: true, .. }));
    assert!(is_lost, "{next:?}");
}

#[test]
fn any_other_use_gives_up_what_is_under_way() {
    let device = FakeDevice::new(0, GIB);
    let generator = load("small-opset13", &device.open(), GIB);
    let scene = Scene::new(&*generator, 2, 2);
    let frames = scene.frames(2);
    let mut workspace = Workspace::new();
    let expected = infer(&*generator, &mut Workspace::new(), &frames);
    let ticket = begin(&*generator, &mut workspace, &frames[..1]);
    assert!(infer(&*generator, &mut workspace, &frames) == expected);
    let gone = generator.finish(&mut workspace, ticket, &mut vec![]);
    assert!(matches!(gone, Err(EngineError::Input { .. })), "{gone:?}");
}

/// Weights, entries and captured launches stay until the device is done with them.
#[test]
fn a_generator_may_go_while_its_batch_is_under_way() {
    let device = FakeDevice::new(0, GIB);
    let cuda = device.open();
    let [going, staying] = [(); 2].map(|()| load("small-opset13", &cuda, GIB));
    let scene = Scene::new(&*going, 2, 2);
    let expected = infer(&*staying, &mut Workspace::new(), &scene.frames(2));
    let mut workspace = Workspace::new();
    begin(&*going, &mut workspace, &scene.frames(2));
    assert_eq!(Arc::strong_count(&going), 1);
    drop(going);
    // Another's captured launches are made meanwhile, on the same worker.
    let behind = begin(&*staying, &mut workspace, &scene.frames(2));
    assert!(
        staying.wait(&mut workspace, behind, &|| false).is_err(),
        "not the first"
    );
    assert!(infer(&*staying, &mut workspace, &scene.frames(2)) == expected);
    drop((workspace, staying));
    assert_eq!(device.used_bytes(), 0);
}
