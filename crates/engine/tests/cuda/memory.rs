//! Device memory: what is taken, what is used again, what happens when it is short.

use std::sync::Arc;

use lipsync_engine::{
    EngineError, Generator, LoadOptions, VisualCache, Workspace,
    cuda::{Call, Cuda, FakeDevice, Footprint, kept_bytes},
    load_generator,
    network_writer::variants::write_variant,
};

use crate::{GIB, Scene, infer, load};

#[test]
fn memory_is_what_the_footprint_says_and_all_of_it_comes_back() {
    let device = FakeDevice::new(0, 4 * GIB);
    let cuda = device.open();
    let footprint = Footprint::of(&write_variant("small-opset13").unwrap()).unwrap();
    for _ in 0..100 {
        let generator = load("small-opset13", &cuda, GIB);
        assert_eq!(device.used_bytes(), footprint.weights_bytes);
        assert_eq!(generator.device_bytes(), footprint.weights_bytes);
    }
    assert_eq!(device.used_bytes(), 0);
    let generator = load("small-opset13", &cuda, 0);
    let scene = Scene::new(&*generator, 4, 1);
    let mut workspace = Workspace::new();
    generator.warm_up(&mut workspace, 4).unwrap();
    infer(&*generator, &mut workspace, &scene.frames(4));
    // Batches of four, none of whose frames is kept.
    assert_eq!(
        workspace.device_bytes(),
        footprint.arena_bytes_per_worker(4)
    );
    let captured = footprint.captured_bytes_per_worker(4);
    assert_eq!(
        device.used_bytes(),
        footprint.weights_bytes + workspace.device_bytes() + captured
    );
    assert_eq!(
        cuda.memory().unwrap(),
        (4 * GIB - device.used_bytes(), 4 * GIB)
    );
    let kept = load("small-opset13", &cuda, GIB);
    kept.warm_up(&mut workspace, 4).unwrap();
    let before = device.used_bytes();
    infer(&*kept, &mut workspace, &scene.frames(1));
    assert_eq!(
        device.used_bytes() - before,
        kept_bytes(1, footprint.visual_cache_bytes_per_frame)
    );
    drop((kept, generator, workspace));
    assert_eq!(device.used_bytes(), 0);
}

#[test]
fn a_batch_that_does_not_fit_leaves_room_for_a_smaller_one() {
    let footprint = Footprint::of(&write_variant("small-opset13").unwrap()).unwrap();
    let room = footprint.weights_bytes
        + footprint.arena_bytes_per_worker(2)
        + footprint.captured_bytes_per_worker(2);
    let cuda = FakeDevice::new(0, room).open();
    let generator = load("small-opset13", &cuda, 0);
    let scene = Scene::new(&*generator, 2, 2);
    let mut workspace = Workspace::new();
    let mut faces = vec![];
    let refused = generator.infer(&mut workspace, &scene.frames(8), &mut faces);
    match refused {
        Err(EngineError::OutOfMemory { needed, free }) => assert!(needed > free && free > 0),
        other => panic!("{other:?}"),
    }
    let expected = infer(
        &*load("small-opset13", &FakeDevice::new(0, GIB).open(), 0),
        &mut Workspace::new(),
        &scene.frames(2),
    );
    assert!(infer(&*generator, &mut workspace, &scene.frames(2)) == expected);
}

#[test]
fn a_generator_for_small_batches_runs_large_ones_in_pieces_and_takes_no_more_memory() {
    let onnx = write_variant("small-opset13").unwrap();
    let footprint = Footprint::of(&onnx).unwrap();
    for (max_batch, max_bytes, expected) in [
        (64, footprint.arena_bytes_per_worker(4), 4),
        (64, footprint.arena_bytes_per_worker(25) - 1, 16),
        (3, u64::MAX, 4),
        (1000, u64::MAX, 64),
        (64, 0, 1),
    ] {
        let largest = footprint.largest_batch(max_batch, max_bytes);
        assert_eq!(largest, expected, "{max_batch}, {max_bytes}");
    }
    let device = FakeDevice::new(0, GIB);
    let options = LoadOptions {
        device: Some(device.open()),
        max_batch: Some(2),
        ..LoadOptions::default()
    };
    let generator = load_generator(&onnx, options).unwrap();
    let scene = Scene::new(&*generator, 2, 3);
    let mut workspace = Workspace::new();
    generator.warm_up(&mut workspace, 64).unwrap();
    let faces = infer(&*generator, &mut workspace, &scene.frames(5));
    let whole = load("small-opset13", &device.open(), 0);
    assert!(faces == infer(&*whole, &mut Workspace::new(), &scene.frames(5)));
    assert_eq!(
        workspace.device_bytes(),
        footprint.arena_bytes_per_worker(2)
    );
}

#[test]
fn a_device_that_is_full_still_runs_frames_that_it_cannot_keep() {
    let footprint = Footprint::of(&write_variant("small-opset13").unwrap()).unwrap();
    let room = footprint.weights_bytes
        + footprint.arena_bytes_per_worker(1)
        + footprint.captured_bytes_per_worker(1);
    let generator = load("small-opset13", &FakeDevice::new(0, room).open(), GIB);
    let scene = Scene::new(&*generator, 1, 1);
    let mut workspace = Workspace::new();
    generator.warm_up(&mut workspace, 1).unwrap();
    infer(&*generator, &mut workspace, &scene.frames(1));
    let spare = load("small-opset13", &FakeDevice::new(0, GIB).open(), 0);
    assert!(
        infer(&*generator, &mut workspace, &scene.frames(1))
            == infer(&*spare, &mut Workspace::new(), &scene.frames(1))
    );
}

/// Generators that share a cache which holds two of their entries.
fn on_a_full_cache(cuda: &Arc<Cuda>) -> [Arc<dyn Generator>; 3] {
    let onnx = write_variant("small-opset13").unwrap();
    let entry = Footprint::of(&onnx).unwrap().visual_cache_bytes_per_frame;
    let cache = Arc::new(VisualCache::new(2 * entry));
    [(); 3].map(|()| {
        let options = LoadOptions {
            device: Some(Arc::clone(cuda)),
            visual_cache: Some(Arc::clone(&cache)),
            ..LoadOptions::default()
        };
        load_generator(&onnx, options).unwrap()
    })
}

#[test]
fn memory_that_is_given_for_faces_is_used() {
    let device = FakeDevice::new(0, 4 * GIB);
    let generator = load("small-opset13", &device.open(), GIB);
    let scene = Scene::new(&*generator, 2, 2);
    let mut workspace = Workspace::new();
    let first = infer(&*generator, &mut workspace, &scene.frames(2));
    let expected = first.clone();
    let at = |faces: &[Vec<u8>]| faces.iter().map(|face| face.as_ptr()).collect::<Vec<_>>();
    let mut given = at(&first);
    workspace.give_faces(first);
    let second = infer(&*generator, &mut workspace, &scene.frames(2));
    assert!(second == expected);
    // The last one given goes first.
    given.reverse();
    assert_eq!(at(&second), given);
    // Memory of another size, and less than is wanted.
    workspace.give_faces(vec![vec![1; 9]]);
    assert!(infer(&*generator, &mut workspace, &scene.frames(2)) == expected);
}

/// Giving memory back to a device waits for all that runs there.
#[test]
fn a_full_cache_of_several_generators_leaves_the_devices_memory_alone() {
    let device = FakeDevice::new(0, 4 * GIB);
    let generators = on_a_full_cache(&device.open());
    let scene = Scene::new(&*generators[0], 2, 2);
    let mut workspace = Workspace::new();
    let mut run = || {
        generators
            .each_ref()
            .map(|g| infer(&**g, &mut workspace, &scene.frames(2)))
    };
    let first = run();
    let (n_allocations, used) = (device.n_calls(Call::Allocate), device.used_bytes());
    for _ in 0..3 {
        assert!(run() == first);
    }
    assert_eq!(device.n_calls(Call::Allocate), n_allocations);
    assert_eq!(device.used_bytes(), used);
    let evictions = generators.map(|g| g.visual_cache().unwrap().evictions);
    assert!(evictions.iter().all(|&n| n >= 3), "{evictions:?}");
}

/// A model that needs a larger arena takes the addresses from all captured launches. Its own warm-up captures them
/// again, so that the others' next requests need not.
#[test]
fn a_larger_model_costs_the_others_no_capture() {
    let device = FakeDevice::new(0, 4 * GIB);
    let cuda = device.open();
    let small = load("small-opset13", &cuda, GIB);
    let scene = Scene::new(&*small, 2, 2);
    let mut workspace = Workspace::new();
    small.warm_up(&mut workspace, 2).unwrap();
    let expected = infer(&*small, &mut workspace, &scene.frames(2));
    let before = workspace.device_bytes();
    let gone = load("small-opset13", &cuda, GIB);
    gone.warm_up(&mut workspace, 2).unwrap();
    drop(gone);
    let large = load("small-opset13", &cuda, GIB);
    large.warm_up(&mut workspace, 16).unwrap();
    assert!(workspace.device_bytes() > before);
    let n_captures = device.n_calls(Call::Capture);
    assert!(infer(&*small, &mut workspace, &scene.frames(2)) == expected);
    assert_eq!(device.n_calls(Call::Capture), n_captures);
}
