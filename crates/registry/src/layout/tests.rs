use lipsync_engine::network_writer::Unet;

use super::*;
use crate::testing::{Disk, folder};

const MAX_FRAMES: usize = 100;

fn find(config: &ModelConfig) -> Result<Avatar, RegistryError> {
    Avatar::find(config, MAX_FRAMES)
}

/// A folder without manifest, whose audio kind is configured.
fn bare(disk: &Disk) -> ModelConfig {
    ModelConfig {
        audio_kind: Some(AudioKind::Ave),
        ..folder("bare", disk.root.path())
    }
}

fn names(paths: &[PathBuf]) -> Vec<&str> {
    let names = paths.iter().filter_map(|path| path.file_name());
    names.filter_map(|name| name.to_str()).collect()
}

#[test]
fn our_folder() {
    let disk = Disk::new();
    let mut config = disk.avatar("mira", 3, "ok");
    let avatar = find(&config).expect("an avatar");
    assert_eq!(avatar.generator, disk.path("mira/g.onnx"));
    assert_eq!((avatar.audio.kind, avatar.fps.get()), (AudioKind::Ave, 25));
    assert_eq!((avatar.frames.len(), avatar.rectangles.len()), (3, 3));
    // The configuration wins.
    config.fps = Some(20);
    config.audio_kind = Some(AudioKind::Wenet);
    disk.network("elsewhere.onnx", "ok");
    config.audio_encoder = Some(disk.path("elsewhere.onnx"));
    let avatar = find(&config).expect("an avatar");
    assert_eq!(
        (avatar.audio.kind, avatar.fps.get()),
        (AudioKind::Wenet, 20)
    );
    assert_eq!(avatar.audio_encoder, config.audio_encoder);
    config.fps = Some(0);
    assert!(matches!(find(&config), Err(RegistryError::Fps { fps: 0 })));
    config.fps = Some(u32::MAX);
    assert!(matches!(find(&config), Err(RegistryError::Fps { .. })));
}

#[test]
fn the_server_package_in_both_forms() {
    for (file, json) in [
        ("crop_rects.json", "[[1,1,7,7],[0,0,6,6]]"),
        (
            "cache/crop_rectangles.json",
            r#"{"0": {"rect": [1,1,7,7]}, "1": {"rect": [0,0,6,6]}}"#,
        ),
    ] {
        let disk = Disk::new();
        disk.network("checkpoint/model_best.onnx", "ok");
        disk.network("checkpoint/model_last.onnx", "ok");
        disk.frames("frames", 2);
        disk.write("landmarks/0.lms", "not looked at");
        disk.write(file, json);
        let avatar = find(&bare(&disk)).expect(file);
        assert_eq!(avatar.generator, disk.path("checkpoint/model_best.onnx"));
        assert_eq!(names(&avatar.frames), ["frame_0000.png", "frame_0001.png"]);
        assert_eq!(avatar.rectangles[1].x2, 6);
    }
}

#[test]
fn the_dataset_folder() {
    let disk = Disk::new();
    disk.network("checkpoint/net.onnx", "ok");
    let mut lines = vec!["0 0"; 110];
    (lines[1], lines[31], lines[52]) = ("2 5", "6 5", "5 3");
    for index in 0..11 {
        disk.write(&format!("full_body_img/{index}.jpg"), b"");
        disk.write(&format!("landmarks/{index}.lms"), lines.join("\n"));
    }
    let avatar = find(&bare(&disk)).expect("an avatar");
    assert_eq!(names(&avatar.frames)[9..], ["9.jpg", "10.jpg"]);
    let expected = CropRect {
        x1: 2,
        y1: 3,
        x2: 6,
        y2: 7,
    };
    assert_eq!(avatar.rectangles, [expected; 11]);
}

#[test]
fn the_audio_kind_that_nobody_names_is_that_of_the_generator() {
    let disk = Disk::new();
    disk.network("net.onnx", "ok");
    disk.frames("frames", 1);
    disk.rectangles("crop_rects.json", 1);
    let config = ModelConfig {
        audio_kind: None,
        ..bare(&disk)
    };
    assert!(matches!(find(&config), Err(RegistryError::Network { .. })));
    assert!(find(&bare(&disk)).is_ok());
    for kind in [AudioKind::Ave, AudioKind::Hubert, AudioKind::Wenet] {
        let unet = Unet {
            channels: [1, 1, 1, 1, 2],
            ..Unet::new(160, kind)
        };
        disk.write("net.onnx", unet.write());
        assert_eq!(find(&config).expect("an avatar").audio.kind, kind);
        assert!(Avatar::glance(&config).is_ok());
    }
}

#[test]
fn the_generator_must_be_unambiguous() {
    let disk = Disk::new();
    disk.frames("frames", 1);
    disk.rectangles("crop_rects.json", 1);
    let expected = |config: &ModelConfig| match find(config) {
        Err(RegistryError::Layout { expected, .. }) => expected,
        other => panic!("{other:?}"),
    };
    assert_eq!(expected(&bare(&disk)), "ONNX file");
    disk.network("a.onnx", "ok");
    disk.network("b.onnx", "ok");
    assert!(expected(&bare(&disk)).contains("several"));
    let config = ModelConfig {
        audio_encoder: Some(disk.path("a.onnx")),
        ..bare(&disk)
    };
    let avatar = find(&config).expect("the other one");
    assert_eq!(avatar.generator, disk.path("b.onnx"));
}

#[test]
fn folders_that_are_nothing_are_refused() {
    let disk = Disk::new();
    let nowhere = folder("nowhere", disk.path("nowhere"));
    assert!(matches!(find(&nowhere), Err(RegistryError::File { .. })));
    let error = find(&bare(&disk)).expect_err("an empty folder");
    assert_eq!(
        error.to_string(),
        "the model's folder has no avatar.yaml and no frames or full_body_img folder"
    );
}

#[test]
fn parts_and_their_number_of_frames() {
    let disk = Disk::new();
    disk.network("net.onnx", "ok");
    disk.frames("bg", 4);
    disk.rectangles("rects.json", 3);
    let parts = |n_frames| ModelConfig {
        source: ModelSource::Parts {
            model_path: disk.path("net.onnx"),
            background_dir: disk.path("bg"),
            crop_rects_path: disk.path("rects.json"),
            n_frames,
        },
        ..bare(&disk)
    };
    let avatar = find(&parts(Some(2))).expect("the first two");
    assert_eq!((avatar.frames.len(), avatar.rectangles.len()), (2, 2));
    for (n_frames, expected) in [
        (None, "4 background frames but only 3 crop rectangles"),
        (
            Some(5),
            "5 background frames are configured but only 4 exist",
        ),
        (
            Some(1 << 31),
            "2147483648 background frames are configured but only 4 exist",
        ),
        (Some(0), "the model has no background frames"),
    ] {
        let error = find(&parts(n_frames)).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_missing_frame_is_named() {
    let disk = Disk::new();
    let config = disk.avatar("mira", 4, "ok");
    std::fs::remove_file(disk.path("mira/frames/frame_0002.png")).expect("removed");
    let error = find(&config).expect_err("a gap");
    assert_eq!(
        error.to_string(),
        "the background frames are not numbered one after the other: 2 is missing"
    );
    assert!(error.detail().contains("frames)"), "{}", error.detail());
}

/// A dataset folder whose frames and landmarks are numbered as given; the left edge of a rectangle is the
/// number of its landmarks.
fn numbered_dataset(
    frames: std::ops::Range<u32>,
    landmarks: std::ops::Range<u32>,
) -> Result<Avatar, RegistryError> {
    let disk = Disk::new();
    disk.network("checkpoint/net.onnx", "ok");
    for index in frames {
        disk.write(&format!("full_body_img/{index}.JPG"), b"");
    }
    for index in landmarks {
        let mut lines = vec!["0 0".to_owned(); 110];
        (lines[1], lines[31], lines[52]) = (format!("{index} 5"), "60 5".into(), "5 3".into());
        disk.write(&format!("landmarks/{index}.lms"), lines.join("\n"));
    }
    find(&bare(&disk))
}

#[test]
fn landmarks_belong_to_the_frames_of_their_numbers() {
    let avatar = numbered_dataset(1..11, 0..12).expect("an avatar");
    let left: Vec<_> = avatar.rectangles.iter().map(|rect| rect.x1).collect();
    assert_eq!(left, (1..11).collect::<Vec<_>>());
    for (frames, landmarks, expected) in [
        (
            1..11,
            0..10,
            "numbered 1 to 10, but their 10 crop rectangles from 0 on",
        ),
        (
            0..10,
            1..11,
            "numbered 0 to 9, but their 10 crop rectangles from 1 on",
        ),
        (
            0..10,
            0..9,
            "numbered 0 to 9, but their 9 crop rectangles from 0 on",
        ),
    ] {
        let error = numbered_dataset(frames, landmarks).expect_err(expected);
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn keys_belong_to_the_frames_of_their_numbers() {
    let disk = Disk::new();
    disk.network("net.onnx", "ok");
    for index in 1..3 {
        disk.write(&format!("frames/frame_000{index}.png"), b"");
    }
    let keys = |keys: [u32; 2]| {
        let [a, b] = keys.map(|k| format!(r#""{k}": {{"rect": [{k},0,9,9]}}"#));
        disk.write("crop_rects.json", format!("{{{a}, {b}}}"));
        find(&bare(&disk))
    };
    assert_eq!(keys([1, 2]).expect("an avatar").rectangles[0].x1, 1);
    let error = keys([0, 1]).expect_err("one is missing");
    assert!(
        error
            .to_string()
            .starts_with("background frames are numbered 1 to 2")
    );
}

#[test]
fn byte_order_marks_are_left_out() {
    let disk = Disk::new();
    let config = disk.avatar("mira", 2, "ok");
    for file in ["mira/avatar.yaml", "mira/rects.json"] {
        let text = std::fs::read_to_string(disk.path(file)).expect("read");
        disk.write(file, format!("\u{feff}{text}"));
    }
    assert_eq!(find(&config).expect("an avatar").rectangles.len(), 2);
    let mut lines = vec!["3 3"; 110];
    lines[31] = "9 3";
    let fence = Fence::around(&config).expect("a folder");
    disk.write("mira/marked/0.lms", format!("\u{feff}{}", lines.join("\n")));
    assert!(rectangles::read(&fence, &disk.path("mira/marked")).is_ok());
    disk.write("mira/utf16.json", b"\xFF\xFE[\0]\0");
    assert!(rectangles::read(&fence, &disk.path("mira/utf16.json")).is_err());
}

#[test]
fn landmarks_of_another_detector_are_refused() {
    let disk = Disk::new();
    disk.network("net.onnx", "ok");
    disk.frames("frames", 1);
    disk.write("landmarks/0.lms", ["533.00 351.20"; 68].join("\n"));
    let error = find(&bare(&disk)).expect_err("68 points");
    assert!(
        error
            .to_string()
            .contains("68 landmarks, but the 110 of PFLD"),
        "{error}"
    );
}
