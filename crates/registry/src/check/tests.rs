use lipsync_engine::network_writer::variants::write_variant;

use super::*;
use crate::testing::{Disk, SIDE, folder, registry, settings};

/// A folder of SyncTalk_2D's layout with everything in order: 30 frames of one size, landmarks, two networks.
fn good(disk: &Disk) -> ModelConfig {
    for n in 0..30 {
        disk.frame(&format!("anna/full_body_img/{n}.png"), n, (64, 64));
        disk.write(&format!("anna/landmarks/{n}.lms"), face());
    }
    disk.write(
        "anna/generator.onnx",
        write_variant("small-opset15").expect("a network"),
    );
    disk.write(
        "encoder.onnx",
        write_variant("ave-encoder").expect("a network"),
    );
    ModelConfig {
        audio_encoder: Some(disk.path("encoder.onnx")),
        ..folder("anna", disk.path("anna"))
    }
}

/// Landmarks whose rectangle is 10, 20, 50, 60.
fn face() -> String {
    let mut points = vec!["30 40"; 110];
    (points[1], points[31], points[52]) = ("10 20", "50 20", "30 20");
    (points[0], points[16]) = ("10 10", "30 60");
    points.join("\n")
}

fn texts(config: &ModelConfig) -> Vec<String> {
    let report = check_files(config, 10_000, &|_, _| {});
    let list = report.findings.list().iter();
    list.map(ToString::to_string).collect()
}

#[test]
fn nothing_is_found_in_a_good_folder() {
    let disk = Disk::new();
    let config = good(&disk);
    assert_eq!(texts(&config), Vec::<String>::new());
    let report = check_files(&config, 10_000, &|_, _| {});
    assert_eq!((report.size, report.frames.len()), (Some((64, 64)), 30));
    assert!(
        report
            .frames
            .iter()
            .all(|frame| frame.is_good && frame.rect.is_some())
    );
    assert!(report.networks.has_encoder && report.networks.generator.is_some());
}

#[test]
fn all_faults_are_said_at_once_with_their_files() {
    let disk = Disk::new();
    let config = good(&disk);
    disk.write("anna/full_body_img/3.png", "not a picture");
    disk.write("anna/full_body_img/5.png", "not a picture");
    disk.frame("anna/full_body_img/7.png", 7, (32, 64));
    disk.frame("anna/full_body_img/logo.png", 0, (64, 64));
    std::fs::remove_file(disk.path("anna/full_body_img/12.png")).expect("removed");
    std::fs::remove_file(disk.path("anna/landmarks/20.lms")).expect("removed");
    disk.write("anna/landmarks/21.lms", vec!["30 40"; 68].join("\n"));
    disk.write("anna/landmarks/22.lms", face().replace("50 20", "290 20"));
    disk.write("encoder.onnx", "<!DOCTYPE html><html></html>");
    let texts = texts(&config);
    for (files, expected) in [
        (
            "full_body_img/3.png, full_body_img/5.png",
            "cannot be decoded",
        ),
        ("full_body_img/7.png", "32x64, and most frames are 64x64"),
        ("full_body_img/logo.png", "its name has no number"),
        ("full_body_img/13.png", "a frame is missing before it"),
        (
            "full_body_img/20.png, full_body_img/21.png",
            "no crop rectangle",
        ),
        ("landmarks/21.lms", "dlib and face_alignment write 68"),
        (
            "full_body_img/22.png",
            "its crop rectangle lies outside of the frame",
        ),
        ("encoder.onnx", "HTML page"),
        ("anna/landmarks", "one crop rectangle belongs to no frame"),
    ] {
        let said = texts
            .iter()
            .any(|text| text.contains(files) && text.contains(expected));
        assert!(said, "{files}: {expected}\nin {texts:#?}");
    }
}

#[test]
fn a_folder_without_anything_lacks_everything() {
    let disk = Disk::new();
    disk.write("anna/notes.txt", "");
    let texts = texts(&folder("anna", disk.path("anna")));
    for expected in [
        "no ONNX file",
        "frames or full_body_img",
        "landmarks folder",
    ] {
        let n = texts.iter().filter(|text| text.contains(expected)).count();
        assert_eq!(n, 1, "{expected} in {texts:#?}");
    }
    let texts = self::texts(&folder("bob", disk.path("bob")));
    assert_eq!(texts.len(), 1, "{texts:#?}");
}

#[test]
fn a_generator_and_an_encoder_in_the_wrong_places_are_seen() {
    let disk = Disk::new();
    let config = good(&disk);
    disk.write(
        "anna/generator.onnx",
        write_variant("ave-encoder").expect("a network"),
    );
    let texts = texts(&config);
    assert!(texts[0].contains("are two files swapped?"), "{texts:#?}");
    let disk = Disk::new();
    let config = ModelConfig {
        audio_kind: Some(lipsync_core::AudioKind::Wenet),
        ..good(&disk)
    };
    let texts = self::texts(&config);
    assert!(texts[0].contains("audio_kind is wenet"), "{texts:#?}");
}

/// What loading refuses is an error here.
#[test]
fn a_model_that_does_not_load_has_an_error() {
    let disk = Disk::new();
    let config = disk.avatar("anna", 3, "");
    disk.frame("anna/frames/frame_0002.png", 2, (SIDE, SIDE + 1));
    let (registry, _) = registry(settings(vec![config.clone()]));
    let loaded = crate::testing::block_on(registry.load(&config.id));
    let refused = loaded.expect_err("another size").to_string();
    assert!(refused.contains("8x9"), "{refused}");
    let texts = texts(&config);
    assert!(
        texts.iter().any(|text| text.contains("it is 8x9")),
        "{texts:#?}"
    );
}
