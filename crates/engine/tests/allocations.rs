//! What a batch on a device allocates on its host. A process of its own: it has an allocator that counts.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};

use lipsync_core::SplitMix64;
use lipsync_engine::{
    FaceInput, LoadOptions, VisualCache, Workspace, cuda::FakeDevice, load_generator,
    network_writer::variants::write_variant,
};

/// From this size on, bytes, an allocation counts.
const LARGE: usize = 4096;
const BATCH_FRAMES: usize = 16;

thread_local! {
    static N_LARGE: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(n_bytes: usize) {
    if n_bytes >= LARGE {
        N_LARGE.set(N_LARGE.get() + 1);
    }
}

// SAFETY: everything is the system allocator's; a counter that needs no memory changes nothing about it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, n_bytes: usize) -> *mut u8 {
        count(n_bytes);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(block, layout, n_bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_batch_in_memory_of_past_faces_allocates_nothing_large() {
    let device = FakeDevice::new(0, 16 << 30).without_kernels();
    let options = LoadOptions {
        device: Some(device.open()),
        visual_cache: Some(Arc::new(VisualCache::new(1 << 30))),
        ..LoadOptions::default()
    };
    // Its faces are as large as the full-size network's.
    let generator = load_generator(&write_variant("small-328-plumbing").unwrap(), options).unwrap();
    let n_floats = generator.audio_shape().iter().product();
    let crop = vec![7; generator.geometry().crop_bytes()];
    let audio: Vec<_> = (0..BATCH_FRAMES as u64)
        .map(|seed| SplitMix64::new(seed).floats(n_floats, -1.0, 1.0))
        .collect();
    let frames: Vec<_> = (0..)
        .zip(&audio)
        .map(|(frame, audio)| FaceInput {
            crop: &crop,
            frame: Some(frame),
            audio,
        })
        .collect();
    let mut workspace = Workspace::new();
    generator.warm_up(&mut workspace, BATCH_FRAMES).unwrap();
    let mut faces = Vec::with_capacity(BATCH_FRAMES);
    let mut batch = |is_given: bool| {
        let past = faces.split_off(0);
        if is_given {
            workspace.give_faces(past);
        }
        let before = N_LARGE.get();
        generator
            .infer(&mut workspace, &frames, &mut faces)
            .unwrap();
        N_LARGE.get() - before
    };
    // Entries of the background frames are made, and faces have no memory yet.
    assert!(batch(true) >= BATCH_FRAMES);
    for _ in 0..3 {
        assert_eq!(batch(true), 0);
    }
    assert_eq!(batch(false), BATCH_FRAMES);
}
