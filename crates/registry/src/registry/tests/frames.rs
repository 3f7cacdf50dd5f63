//! Background frames of models on disk.

use std::{fs, sync::Arc};

use lipsync_core::background_index;

use crate::{
    Model, ModelConfig, ModelState, PackFault, PackState, RegistryConfig, RegistryError,
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

/// Whether frame `index` is shown as `other`: its picture, its face and where that is.
fn assert_is_shown_as(model: &Model, index: u32, other: u32) {
    let colour = colour(other).0;
    let frame = model.background(index).expect("a frame");
    assert_eq!(model.face_rect(index).expect("a place"), frame.baked.rect());
    assert_eq!(model.face_rect(index).ok(), model.face_rect(other).ok());
    assert_eq!(model.picture(index).expect("a picture").rgb()[..3], colour);
    let crop = model.face_of(index, &frame).expect("a crop");
    assert_eq!(crop.rect(), frame.baked.rect());
    assert_eq!(crop.pixels()[..3], [colour[2], colour[1], colour[0]]);
}

#[test]
fn a_damaged_frame_is_shown_as_its_neighbour_until_it_is_repaired_and_loaded_again() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 4, "small");
    disk.write(
        "mira/rects.json",
        "[[0,0,6,6],[1,1,7,7],[2,2,8,8],[1,0,7,6]]",
    );
    let path = disk.path("mira/frames/frame_0002.png");
    let whole = fs::read(&path).expect("read");
    for damage in [&whole[..40], b"", b"\x89PNG", b"not a picture"] {
        fs::write(&path, damage).expect("written");
        let model = load(settings(vec![avatar.clone()])).expect("a model");
        assert_is_shown_as(&model, 2, 1);
        assert_is_frame(&model, 1);
        assert_is_frame(&model, 3);
        match model.pack_state() {
            PackState::Refused {
                fault: PackFault::Frame { reason },
            } => {
                assert!(reason.starts_with("background frame 2 cannot be decoded"));
                assert!(!reason.contains("frames/"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        // The place of the face must not change under the frames that were shown.
        fs::write(&path, &whole).expect("written");
        assert_is_shown_as(&model, 2, 1);
        let model = load(settings(vec![avatar.clone()])).expect("a model");
        assert_is_frame(&model, 2);
        assert_eq!(model.face_rect(2).expect("a place").x, 2);
    }
}

#[test]
fn damage_beside_damage_and_among_the_hot_frames() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 6, "small");
    for index in [1, 2, 4] {
        disk.write(&format!("mira/frames/frame_000{index}.png"), b"");
    }
    let config = RegistryConfig {
        background_cache_frames: 6,
        preload_frames: 6,
        ..settings(vec![avatar])
    };
    let model = load(config).expect("a model");
    for (index, shown) in [(0, 0), (1, 0), (2, 3), (3, 3), (4, 3), (5, 5)] {
        assert_is_shown_as(&model, index, shown);
    }
}

#[test]
fn a_model_without_a_good_frame_is_refused_when_one_is_asked_for() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 3, "small");
    for index in 0..3 {
        let path = disk.path(&format!("mira/frames/frame_000{index}.png"));
        let whole = fs::read(&path).expect("read");
        fs::write(&path, &whole[..40]).expect("written");
    }
    let config = RegistryConfig {
        preload_frames: 1,
        ..settings(vec![avatar.clone()])
    };
    assert!(matches!(load(config), Err(RegistryError::Frame { .. })));
    let model = load(settings(vec![avatar])).expect("its headers are good");
    for index in [0, 1, 2, 0] {
        let error = model.background(index).expect_err("nothing to show");
        assert!(matches!(error, RegistryError::Frame { .. }), "{error}");
    }
}

/// What the state of a pack that cannot be baked says.
fn fault_of(model: &Model) -> String {
    match model.pack_state() {
        PackState::Refused { fault } => fault.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damage_is_alike_whichever_frame_it_is_and_named_when_the_model_is_loaded() {
    for index in 0..5 {
        for (damage, expected) in [
            ("link", "it is a link that leads nowhere"),
            ("folder", "it is no file"),
            ("empty", ""),
            ("garbage", ""),
        ] {
            let disk = Disk::new();
            let avatar = disk.avatar("mira", 5, "small");
            let path = disk.path(&format!("mira/frames/frame_000{index}.png"));
            fs::remove_file(&path).expect("removed");
            match damage {
                "link" => std::os::unix::fs::symlink("nowhere", path).expect("a link"),
                "folder" => fs::create_dir(path).expect("a folder"),
                "empty" => fs::write(path, b"").expect("written"),
                _ => fs::write(path, b"not a picture").expect("written"),
            }
            let model = load(settings(vec![avatar])).expect(damage);
            assert_eq!((model.width(), model.height()), (8, 8));
            if !expected.is_empty() || index == 0 || index == 4 {
                let fault = fault_of(&model);
                let name = format!("background frame {index} cannot be decoded: ");
                assert!(
                    fault.starts_with(&name) && fault.contains(expected),
                    "{fault}"
                );
            }
            let neighbour = if index == 0 { 1 } else { index - 1 };
            assert_is_shown_as(&model, index, neighbour);
            let name = format!("background frame {index} cannot be decoded: ");
            assert!(fault_of(&model).starts_with(&name), "{damage} {index}");
        }
    }
}

#[test]
fn a_model_of_nothing_but_damage_is_refused_by_its_first_frame() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 3, "small");
    for index in 0..3 {
        disk.write(&format!("mira/frames/frame_000{index}.png"), b"");
    }
    let error = load(settings(vec![avatar])).expect_err("nothing to show");
    assert!(
        matches!(error, RegistryError::Frame { index: 0, .. }),
        "{error}"
    );
}

#[test]
fn all_frames_have_one_size() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 3, "small");
    disk.frame("mira/frames/frame_0001.png", 1, (SIDE, SIDE + 1));
    let model = load(settings(vec![avatar.clone()])).expect("found when it is decoded");
    assert_is_shown_as(&model, 1, 0);
    disk.frame("mira/frames/frame_0002.png", 2, (SIDE + 2, SIDE));
    let error = load(settings(vec![avatar])).expect_err("found at once");
    assert_eq!(error.to_string(), "background frame 2 is 10x8, not 8x8");
}

/// A JPEG of 24x16 whose left half is black and whose right half is white, with an EXIF orientation.
fn turned_jpeg(number: u8) -> Vec<u8> {
    let mut picture = image::RgbImage::new(24, 16);
    for (x, _, pixel) in picture.enumerate_pixels_mut() {
        pixel.0 = [if x < 12 { 0 } else { 255 }; 3];
    }
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes)
        .encode_image(&picture)
        .expect("a JPEG");
    let exif = b"\xFF\xE1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
    let segment = [&exif[..], &[number], &[0; 6]].concat();
    bytes.splice(2..2, segment);
    bytes
}

#[test]
fn frames_are_turned_upright_and_the_tag_is_not_served() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 0, "small");
    for index in 0..3 {
        disk.write(&format!("mira/frames/{index}.jpg"), turned_jpeg(6));
    }
    disk.write("mira/rects.json", "[[2,0,14,12],[2,0,14,12],[2,10,14,22]]");
    let model = load(settings(vec![avatar.clone()])).expect("a model");
    assert_eq!((model.width(), model.height()), (16, 24));
    let picture = model.picture(1).expect("a picture");
    let rows = [0, 23].map(|y| picture.rgb()[y * 16 * 3]);
    assert!(rows[0] < 20 && rows[1] > 235, "{rows:?}");
    // The rectangle is of the upright picture, too: it does not lie on the one that is stored.
    let frame = model.background(2).expect("a frame");
    let crop = model.face_of(2, &frame).expect("a crop");
    assert!(crop.pixels().iter().rev().take(300).all(|&byte| byte > 235));
    let [jpeg, ..] = frame.baked.to_parts();
    assert!(jpeg.windows(4).all(|word| word != b"Exif"));
    // Sizes are compared as frames are shown.
    disk.write("mira/frames/2.jpg", turned_jpeg(3));
    let error = load(settings(vec![avatar])).expect_err("another size");
    assert_eq!(error.to_string(), "background frame 2 is 24x16, not 16x24");
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
        "background frame 1 cannot be read: it does not exist"
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
    assert_eq!((model.fps().get(), model.n_frames()), (30, 1));
    assert_eq!((model.width(), model.height()), (8, 8));
    assert_eq!(model.audio_shape(), [32, 16, 16]);
    assert!(model.audio_encoder().is_none());
}

#[test]
fn an_audio_encoder_has_its_own_fps_which_the_model_must_have() {
    let disk = Disk::new();
    let avatar = disk.avatar("mira", 1, "small");
    disk.network("mira/a.onnx", "encoder");
    let with_encoder = |fps| ModelConfig {
        fps,
        audio_encoder: Some(disk.path("mira/a.onnx")),
        ..avatar.clone()
    };
    for fps in [1, 24, 30, 60] {
        let (registry, _) = registry(settings(vec![with_encoder(Some(fps))]));
        let error = block_on(registry.model(&id("mira")))
            .map(drop)
            .expect_err("another fps");
        let expected = format!(
            "the model's fps must be 25, not {fps}: its audio encoder makes 25 feature steps a second"
        );
        assert_eq!(error.to_string(), expected);
        let status = registry.status(&id("mira")).expect("a status");
        assert_eq!(status.state, ModelState::Failed);
    }
    load(settings(vec![with_encoder(Some(25))])).expect("its own");
    let manifest = fs::read_to_string(disk.path("mira/avatar.yaml")).expect("read");
    disk.write("mira/avatar.yaml", format!("{manifest}fps: 30\n"));
    let refused = load(settings(vec![with_encoder(None)])).map(drop);
    assert!(matches!(
        refused,
        Err(RegistryError::EncoderFps { fps: 30, .. })
    ));
    load(settings(vec![with_encoder(Some(25))])).expect("the configuration wins");
    assert_eq!(
        load(settings(vec![avatar])).expect("windows").fps().get(),
        30
    );
}
