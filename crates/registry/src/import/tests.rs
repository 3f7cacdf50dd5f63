use std::fs;

use lipsync_engine::network_writer::{Wav2lip, variants::write_variant};

use super::*;
use crate::testing::{Disk, folder};

const N_FRAMES: u32 = 4;

fn onnx(variant: &str) -> Vec<u8> {
    write_variant(variant).expect("a network")
}

fn order(disk: &Disk, to: &str) -> ImportOrder {
    ImportOrder {
        source: disk.path("source"),
        to: disk.path(to),
        generator: None,
        audio_encoder: None,
        max_frames: 10_000,
    }
}

fn run(disk: &Disk) -> Result<ImportReport, ImportError> {
    import(&order(disk, "models/anna"), &mut |_, _| {})
}

fn frames(disk: &Disk, name: impl Fn(u32) -> String) {
    for n in 0..N_FRAMES {
        disk.frame(&format!("source/{}", name(n)), n, (64, 64));
    }
}

/// Landmarks whose rectangle is 10, 20, 50, 60.
fn landmarks() -> String {
    let mut points = vec!["30 40"; 110];
    (points[1], points[31], points[52]) = ("10 20", "50 20", "30 20");
    points.join("\n")
}

fn sync_talk(disk: &Disk, generator: &str) {
    frames(disk, |n| format!("full_body_img/{n}.png"));
    for n in 0..N_FRAMES {
        disk.write(&format!("source/landmarks/{n}.lms"), landmarks());
    }
    disk.write("source/checkpoint/anna/net.onnx", onnx(generator));
}

/// `[(y1, y2, x1, x2), ...]` as Python pickles it in protocol 2.
fn coords(rect: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0x80, 2, b']', b'('];
    for _ in 0..N_FRAMES {
        bytes.push(b'(');
        bytes.extend(rect.iter().flat_map(|&n| [b'K', n]));
        bytes.push(b't');
    }
    bytes.extend([b'e', b'.']);
    bytes
}

/// The imported avatar is whole, and its frames are those of the source, byte for byte.
fn check(disk: &Disk, report: &ImportReport, frame: impl Fn(u32) -> String) {
    assert_eq!(report.n_frames, N_FRAMES as usize);
    for n in 0..N_FRAMES {
        let copy =
            fs::read(disk.path(&format!("models/anna/frames/frame_{n:04}.png"))).expect("a copy");
        let original = fs::read(disk.path(&format!("source/{}", frame(n)))).expect("a frame");
        assert!(copy == original, "frame {n}");
    }
    let config = folder("anna", disk.path("models/anna"));
    let found = crate::check_files(&config, 10_000, &|_, _| {});
    let errors = found.findings.count(crate::Severity::Error);
    assert_eq!(errors, 0, "{:?}", found.findings.list());
    assert!(found.frames.iter().all(|frame| {
        frame
            .rect
            .is_some_and(|r| [r.x1, r.y1, r.x2, r.y2] == [10, 20, 50, 60])
    }));
    let left: Vec<_> = fs::read_dir(disk.path("models"))
        .expect("a folder")
        .collect();
    assert_eq!(left.len(), 1, "nothing but the avatar");
}

#[test]
fn every_layout_becomes_ours() {
    let disk = Disk::new();
    sync_talk(&disk, "small-opset15");
    disk.write("source/checkpoint/encoder.onnx", onnx("ave-encoder"));
    let report = run(&disk).expect("imported");
    assert_eq!(report.layout, Layout::SyncTalk2d);
    check(&disk, &report, |n| format!("full_body_img/{n}.png"));
    assert!(disk.path("models/anna/audio_encoder.onnx").exists());

    let disk = Disk::new();
    sync_talk(&disk, "small-opset13");
    let report = run(&disk).expect("imported");
    assert_eq!(report.layout, Layout::Ultralight);
    check(&disk, &report, |n| format!("full_body_img/{n}.png"));

    let disk = Disk::new();
    frames(&disk, |n| format!("frames/frame_{n:04}.png"));
    disk.write(
        "source/cache/crop_rectangles.json",
        crate::testing::rects_of(N_FRAMES, [10, 20, 50, 60]),
    );
    disk.write("source/checkpoint/model_best.onnx", onnx("small-opset15"));
    disk.write("source/checkpoint/model_last.onnx", onnx("small-opset15"));
    let report = run(&disk).expect("imported");
    assert_eq!(report.layout, Layout::ServerPackage);
    check(&disk, &report, |n| format!("frames/frame_{n:04}.png"));
}

/// Avatars of LiveTalking have their numbers in one of two orders, and nothing of what they cut out is copied.
#[test]
fn both_orders_of_livetalking_are_told_apart() {
    for (rect, checkpoint, face_px, order) in [
        // In the other order these are no squares.
        ([20, 60, 10, 50], "wav2lip.pth", 168, "y1, y2, x1, x2"),
        // Squares on the frame either way.
        ([10, 20, 50, 60], "ultralight.pth", 96, "x1, y1, x2, y2"),
        ([8, 30, 30, 52], "ultralight.pth", 96, "x1, y1, x2, y2"),
        ([8, 30, 30, 52], "wav2lip.pth", 168, "x1, y1, x2, y2"),
        ([8, 30, 30, 52], "wav2lip.pth", 96, "y1, y2, x1, x2"),
    ] {
        let disk = Disk::new();
        frames(&disk, |n| format!("full_imgs/{n:08}.png"));
        disk.frame("source/face_imgs/00000000.png", 0, (face_px, face_px));
        disk.write("source/coords.pkl", coords(rect));
        disk.write(&format!("source/{checkpoint}"), "weights");
        let refused = run(&disk).expect_err("no network").to_string();
        assert!(
            refused.contains(&format!("{checkpoint}: a checkpoint")),
            "{refused}"
        );
        disk.write("generator.onnx", onnx("small-opset15"));
        let order_of_import = ImportOrder {
            generator: Some(disk.path("generator.onnx")),
            ..self::order(&disk, "models/anna")
        };
        let report = import(&order_of_import, &mut |_, _| {}).expect("imported");
        assert_eq!(report.layout, Layout::LiveTalking);
        assert!(
            report.lines.iter().any(|line| line.contains(order)),
            "{:?}",
            report.lines
        );
        if rect[0] == 10 || rect[1] == 60 {
            check(&disk, &report, |n| format!("full_imgs/{n:08}.png"));
        }
        assert!(!disk.path("models/anna/face_imgs").exists());
    }
}

/// A network that hears mel rows has rectangles of Wav2Lip, which need not be square.
#[test]
fn livetalking_with_a_network_of_wav2lip() {
    for (rect, corners) in [
        ([20, 60, 10, 50], [10, 20, 50, 60]),
        ([8, 30, 30, 52], [30, 8, 52, 30]),
        ([10, 50, 20, 50], [20, 10, 50, 50]),
    ] {
        let disk = Disk::new();
        frames(&disk, |n| format!("full_imgs/{n:08}.png"));
        disk.write("source/coords.pkl", coords(rect));
        let network = Wav2lip {
            part: 128,
            ..Wav2lip::new(96)
        };
        disk.write("source/wav2lip.onnx", network.write());
        let report = run(&disk).expect("imported");
        assert_eq!(report.layout, Layout::LiveTalking);
        let says = |words: &str| report.lines.iter().any(|line| line.contains(words));
        assert!(says("96-pixel faces with mel audio"), "{:?}", report.lines);
        assert!(says("y1, y2, x1, x2"), "{:?}", report.lines);
        assert!(says("no audio encoder is needed"), "{:?}", report.lines);
        let config = folder("anna", disk.path("models/anna"));
        let found = crate::check_files(&config, 10_000, &|_, _| {});
        let findings = found.findings.list();
        assert_eq!(
            found.findings.count(crate::Severity::Error),
            0,
            "{findings:?}"
        );
        assert_eq!(found.networks.generator, Some((96, AudioKind::Mel)));
        let rects = found.frames.iter().filter_map(|frame| frame.rect);
        let rects: Vec<[i32; 4]> = rects.map(|r| [r.x1, r.y1, r.x2, r.y2]).collect();
        assert_eq!(rects, vec![corners; N_FRAMES as usize]);
        let text = fs::read_to_string(disk.path("models/anna/avatar.yaml")).expect("text");
        assert!(
            text.contains("audio_kind: mel") && !text.contains("audio_encoder"),
            "{text}"
        );
    }
}

#[test]
fn ours_is_imported_again_as_it_is() {
    let disk = Disk::new();
    sync_talk(&disk, "small-opset15");
    run(&disk).expect("imported");
    let order = ImportOrder {
        source: disk.path("models/anna"),
        ..order(&disk, "models/bob")
    };
    let report = import(&order, &mut |_, _| {}).expect("imported");
    assert_eq!(report.layout, Layout::Ours);
    let manifest = |id: &str| {
        fs::read_to_string(disk.path(&format!("models/{id}/avatar.yaml"))).expect("text")
    };
    let (first, second) = (manifest("anna"), manifest("bob"));
    assert_eq!(
        first.lines().next(),
        second.lines().next(),
        "the name is carried"
    );
}

#[test]
fn two_avatars_never_share_a_folder() {
    let disk = Disk::new();
    sync_talk(&disk, "small-opset15");
    run(&disk).expect("imported");
    disk.write("models/anna/mine.txt", "kept");
    let refused = run(&disk).expect_err("it is there").to_string();
    assert!(refused.contains("exists already"), "{refused}");
    assert!(disk.path("models/anna/mine.txt").exists());
}

#[test]
fn what_is_broken_leaves_nothing() {
    type Break = fn(&Disk);
    let cases: [(Break, &str); 9] = [
        (
            |d| d.write("source/full_body_img/2.png", "no picture"),
            "2.png: it cannot be decoded",
        ),
        (
            |d| d.frame("source/full_body_img/3.png", 3, (32, 64)),
            "3.png: it is 32x64",
        ),
        (
            |d| fs::remove_file(d.path("source/landmarks/1.lms")).expect("removed"),
            "1 is missing",
        ),
        (
            |d| d.frame("source/full_body_img/2.jpg.png", 2, (64, 64)),
            "another frame has its number",
        ),
        (
            |d| d.write("source/checkpoint/other.onnx", onnx("small-opset15")),
            "several generators",
        ),
        (
            |d| d.write("source/checkpoint/anna/net.onnx", "<!DOCTYPE html>"),
            "HTML page",
        ),
        (|d| d.write("source/landmarks/1.lms", "1 2"), "1 landmarks"),
        (
            |d| fs::remove_dir_all(d.path("source/landmarks")).expect("removed"),
            "no known layout",
        ),
        (
            |d| {
                d.write("secret.png", "x");
                fs::remove_file(d.path("source/full_body_img/1.png")).expect("removed");
                let link = d.path("source/full_body_img/1.png");
                std::os::unix::fs::symlink(d.path("secret.png"), link).expect("a link");
            },
            "out of the model's folder",
        ),
    ];
    for (damage, expected) in cases {
        let disk = Disk::new();
        sync_talk(&disk, "small-opset15");
        damage(&disk);
        let refused = run(&disk).expect_err(expected).to_string();
        assert!(refused.contains(expected), "{expected}: {refused}");
        let left = fs::read_dir(disk.path("models")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{expected}");
    }
}

#[test]
fn a_pickle_that_runs_code_is_refused() {
    let disk = Disk::new();
    frames(&disk, |n| format!("full_imgs/{n:08}.png"));
    disk.write("source/net.onnx", onnx("small-opset15"));
    let marker = disk.path("ran");
    let command = format!("cos\nsystem\n(S'touch {}'\ntR.", marker.display());
    disk.write("source/coords.pkl", command);
    let refused = run(&disk).expect_err("code").to_string();
    assert!(refused.contains("names a function"), "{refused}");
    assert!(!marker.exists());
    disk.write("source/coords.pkl", coords([50, 40, 10, 3]));
    let refused = run(&disk).expect_err("no rectangles").to_string();
    assert!(refused.contains("no rectangles"), "{refused}");
}

#[test]
fn frames_that_lack_a_rectangle_at_the_end_are_left_out() {
    let disk = Disk::new();
    sync_talk(&disk, "small-opset15");
    disk.frame(&format!("source/full_body_img/{N_FRAMES}.png"), 9, (64, 64));
    let report = run(&disk).expect("imported");
    check(&disk, &report, |n| format!("full_body_img/{n}.png"));
    let said = report
        .lines
        .iter()
        .any(|line| line.contains("1 of 5 frames"));
    assert!(said, "{:?}", report.lines);
}

/// The weights of a network in another file come along under their name.
#[test]
fn data_files_come_along() {
    let disk = Disk::new();
    sync_talk(&disk, "small-opset15");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/zoo");
    let name = "u160-hubert.torch-default.onnx";
    for name in [name.to_owned(), format!("{name}.data")] {
        let bytes = fs::read(golden.join(&name)).expect("a golden file");
        disk.write(&format!("source/checkpoint/{name}"), bytes);
    }
    fs::remove_file(disk.path("source/checkpoint/anna/net.onnx")).expect("removed");
    let report = run(&disk).expect("imported");
    check(&disk, &report, |n| format!("full_body_img/{n}.png"));
}
