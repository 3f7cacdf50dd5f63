//! Background frames of models on disk.

use std::{fs, sync::Arc};

use lipsync_core::background_index;

use crate::{
    Model, ModelConfig, RegistryConfig, RegistryError,
    testing::{Disk, SIDE, WEIGHTS, block_on, colour, id, registry, settings},
};

fn load(config: RegistryConfig) -> Result<Arc<Model>, RegistryError> {
    let name = config.models[0].id.clone();
    block_on(registry(config).0.model(&name)).map(|lease| lease.model)
}

fn assert_is_frame(model: &Model, index: u32) {
    let picture = model.picture(index).expect("a picture");
    assert_eq!(picture.rgb()[..3], colour(index).0);
    let [r, g, b] = colour(index).0;
    let crop = model.face_crop(index).expect("a crop");
    assert_eq!(crop.pixels()[..3], [b, g, r]);
    let frame = model.background(index).expect("a frame");
    assert_eq!(frame.baked.rect(), crop.rect());
}

#[test]
fn two_thousand_frames_stay_within_the_bytes_of_fifty() {
    const N_FRAMES: u32 = 2_000;
    let disk = Disk::new();
    let one = load(settings(vec![disk.avatar("one", 1, "small")])).expect("a model");
    one.background(0).expect("a frame");
    // Frames of one colour may differ by some bytes; these are all of one size.
    let fifty_frames = 50 * (one.cache_stats().resident_bytes + 64);
    let config = RegistryConfig {
        background_cache_frames: 50,
        max_frame_bytes: fifty_frames,
        ..settings(vec![disk.avatar("long", N_FRAMES, "small")])
    };
    let (registry, _) = registry(config);
    let model = block_on(registry.model(&id("long")))
        .expect("a model")
        .model;
    assert_eq!(registry.reserved_bytes(), WEIGHTS);
    // The walk goes 1, 2, ..., 1999 and turns: 1998, ..., 1951 are still there.
    for place in 0..2_047 {
        let index = background_index(place, N_FRAMES);
        model.background(index).expect("a frame");
        assert!(registry.frame_bytes() <= fifty_frames);
    }
    let stats = model.cache_stats();
    assert_eq!(
        (stats.requests, stats.misses, stats.hits),
        (2_047, 1_999, 48)
    );
    assert_eq!(stats.loads, 1_999);
    assert!(stats.resident_frames >= 50 && stats.resident_bytes <= fifty_frames);
    assert_is_frame(&model, 1_234);
}

#[test]
fn hot_frames_are_preloaded_in_the_order_of_the_walk() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 6, "small");
    let load = |preload_frames| {
        let config = RegistryConfig {
            background_cache_frames: 3,
            preload_frames,
            ..settings(vec![avatar.clone()])
        };
        load(config).expect("a model")
    };
    let model = load(2);
    assert_eq!(model.cache_stats().resident_frames, 2);
    for index in [1, 2, 3] {
        model.background(index).expect("a frame");
    }
    let stats = model.cache_stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (2, 1, 3));
    // No more than the cache holds: it would drop what comes first.
    let stats = load(100).cache_stats();
    assert_eq!((stats.loads, stats.evictions), (3, 0));
}

#[test]
fn frames_that_do_not_exist_are_refused_without_a_miss() {
    let disk = Disk::new();
    let model = load(settings(vec![disk.avatar("mira", 2, "small")])).expect("a model");
    for index in [2, 1 << 31, u32::MAX] {
        let error = model.background(index).expect_err("no such frame");
        assert!(matches!(
            error,
            RegistryError::FrameIndex { n_frames: 2, .. }
        ));
    }
    assert_eq!(model.cache_stats().requests, 0);
}

#[test]
fn a_truncated_frame_fails_alone_until_it_is_repaired_and_loaded_again() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 3, "small");
    let path = disk.path("mira/frames/frame_0001.png");
    let whole = fs::read(&path).expect("read");
    fs::write(&path, &whole[..40]).expect("written");
    let model = load(settings(vec![avatar.clone()])).expect("a model");
    model.background(0).expect("a whole frame");
    let error = model.background(1).expect_err("truncated");
    assert!(
        matches!(error, RegistryError::Frame { index: 1, .. }),
        "{error}"
    );
    assert!(!error.to_string().contains("frames/"), "{error}");
    assert!(error.detail().contains("frame_0001.png"));
    fs::write(&path, whole).expect("written");
    let error = model
        .background(1)
        .expect_err("not the file that was loaded");
    assert!(matches!(
        error,
        RegistryError::FrameChanged { index: 1, .. }
    ));
    let model = load(settings(vec![avatar.clone()])).expect("a model");
    model.background(1).expect("repaired");

    // Among the hot frames it is found when the model is loaded.
    fs::write(&path, b"\x89PNG").expect("written");
    let config = RegistryConfig {
        preload_frames: 1,
        ..settings(vec![avatar])
    };
    assert!(matches!(
        load(config),
        Err(RegistryError::Frame { index: 1, .. })
    ));
}

#[test]
fn all_frames_have_one_size() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 3, "small");
    disk.frame("mira/frames/frame_0001.png", 1, (SIDE, SIDE + 1));
    let model = load(settings(vec![avatar.clone()])).expect("found when it is decoded");
    let error = model.background(1).expect_err("another size");
    assert_eq!(error.to_string(), "background frame 1 is 8x9, not 8x8");
    disk.frame("mira/frames/frame_0002.png", 2, (SIDE + 2, SIDE));
    let error = load(settings(vec![avatar])).expect_err("found at once");
    assert_eq!(error.to_string(), "background frame 2 is 10x8, not 8x8");
}

#[test]
fn rectangles_are_cut_at_the_edge_and_refused_beyond_it() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 2, "small");
    disk.write("mira/rects.json", "[[1,1,7,7],[4,-3,12,5]]");
    let model = load(settings(vec![avatar.clone()])).expect("a model");
    let rect = model.background(1).expect("a frame").baked.rect();
    assert_eq!((rect.x, rect.y, rect.width, rect.height), (4, 0, 4, 5));

    disk.write("mira/rects.json", "[[1,1,7,7],[8,0,16,8]]");
    let error = load(settings(vec![avatar])).expect_err("off the frame");
    match error {
        RegistryError::RectangleOffFrame { index: 1, rect, .. } => assert_eq!(rect.x1, 8),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_frame_deleted_under_a_loaded_model_is_an_error_of_that_frame() {
    let disk = Disk::new();
    let model = load(settings(vec![disk.avatar("mira", 3, "small")])).expect("a model");
    fs::remove_file(disk.path("mira/frames/frame_0001.png")).expect("removed");
    let error = model.background(1).expect_err("gone");
    assert_eq!(
        error.to_string(),
        "the background frame cannot be read: entity not found"
    );
    model.background(2).expect("another frame");
}

#[test]
fn the_manifest_configures_and_the_configuration_wins() {
    let disk = Disk::new();
    let config = ModelConfig {
        fps: Some(30),
        ..disk.avatar("mira", 1, "small")
    };
    let model = load(settings(vec![config])).expect("a model");
    assert_eq!((model.fps(), model.n_frames()), (30, 1));
    assert_eq!((model.width(), model.height()), (8, 8));
    assert_eq!(model.audio_shape(), [32, 16, 16]);
    assert!(model.audio_encoder().is_none());
}
