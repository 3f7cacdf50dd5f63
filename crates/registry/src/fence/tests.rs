use std::{
    fs,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;
use crate::{
    files,
    testing::{Disk, folder},
};

const WHAT: &str = "file";

/// A folder `in` and one beside it, `out`, with a file in each.
fn two_folders() -> Disk {
    let disk = Disk::new();
    disk.write("in/sub/a", "mine");
    disk.write("out/a", "secret");
    disk
}

fn fence(disk: &Disk) -> Fence {
    Fence::around(&folder("mira", disk.path("in"))).expect("a folder")
}

fn read(fence: &Fence, path: &Path) -> Result<String, RegistryError> {
    files::read_text(fence, path, WHAT, 100)
}

#[test]
fn links_inside_are_followed_and_links_outside_are_not() {
    let disk = two_folders();
    for (target, link) in [
        ("sub/a", "in/relative"),
        ("sub", "in/folder"),
        ("../in/sub/a", "in/round"),
    ] {
        symlink(target, disk.path(link)).expect("linked");
    }
    symlink(disk.path("in/sub/a"), disk.path("in/absolute")).expect("linked");
    let fence = fence(&disk);
    for path in [
        "in/relative",
        "in/folder/a",
        "in/round",
        "in/absolute",
        "in/sub/a",
    ] {
        assert_eq!(read(&fence, &disk.path(path)).expect(path), "mine");
        fence.look(&disk.path(path), WHAT).expect(path);
    }
    symlink("../out/a", disk.path("in/b")).expect("linked");
    symlink("b", disk.path("in/c")).expect("linked");
    symlink(disk.path("out"), disk.path("in/d")).expect("linked");
    symlink("../in.more", disk.path("in/e")).expect("linked");
    disk.write("in.more", "a folder's name that begins as ours");
    for path in ["in/b", "in/c", "in/d/a", "in/../out/a", "in/e"] {
        let refused = read(&fence, &disk.path(path)).expect_err(path);
        assert!(
            matches!(refused, RegistryError::Outside { .. }),
            "{path}: {refused}"
        );
        assert!(!refused.to_string().contains("secret"));
    }
    for link in ["in/b", "in/c", "in/e"] {
        let looked = fence.look(&disk.path(link), WHAT);
        assert!(
            matches!(looked, Err(RegistryError::Outside { .. })),
            "{link}"
        );
    }
}

#[test]
fn follow_links_opens_the_fence_and_the_folder_itself_may_be_a_link() {
    let disk = two_folders();
    symlink("../out/a", disk.path("in/b")).expect("linked");
    symlink("in", disk.path("named")).expect("linked");
    let mut config = folder("mira", disk.path("named"));
    let strict = Fence::around(&config).expect("a folder");
    assert_eq!(
        read(&strict, &disk.path("named/sub/a")).expect("a file"),
        "mine"
    );
    read(&strict, &disk.path("named/b")).expect_err("outside");
    config.follow_links = true;
    let open = Fence::around(&config).expect("a folder");
    assert_eq!(
        read(&open, &disk.path("named/b")).expect("a file"),
        "secret"
    );
}

#[test]
fn only_files_are_opened() {
    let disk = two_folders();
    symlink("missing", disk.path("in/dangling")).expect("linked");
    symlink("/dev/zero", disk.path("in/zero")).expect("linked");
    symlink("loop", disk.path("in/loop")).expect("linked");
    let _socket = std::os::unix::net::UnixListener::bind(disk.path("in/socket")).expect("a socket");
    let mut config = folder("mira", disk.path("in"));
    for follow_links in [false, true] {
        config.follow_links = follow_links;
        let fence = Fence::around(&config).expect("a folder");
        for path in ["in/dangling", "in/zero", "in/loop", "in/socket", "in/sub"] {
            read(&fence, &disk.path(path)).expect_err(path);
            fence.look(&disk.path(path), WHAT).expect_err(path);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_does_not_block() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let disk = two_folders();
    let pipe = disk.path("in/pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    symlink("pipe", disk.path("in/link")).expect("linked");
    for path in [pipe, disk.path("in/link")] {
        read(&fence(&disk), &path).expect_err("a pipe");
        // Should it be exchanged for a file between the look and the opening.
        open_file(&path).expect_err("a pipe");
    }
}

/// Somebody exchanges a folder for a link and back for as long as it is read: whatever is read is ours.
#[test]
fn a_folder_that_changes_while_it_is_read_shows_nothing_from_outside() {
    let disk = two_folders();
    let (link, real) = (disk.path("in/link"), disk.path("in/f"));
    symlink(disk.path("out"), &link).expect("linked");
    fs::create_dir(&real).expect("made");
    disk.write("in/f/a", "mine");
    let fence = fence(&disk);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let spare = disk.path("in/spare");
                for (from, to) in [
                    (&real, &spare),
                    (&link, &real),
                    (&real, &link),
                    (&spare, &real),
                ] {
                    fs::rename(from, to).expect("renamed");
                }
            }
        });
        for _ in 0..2000 {
            if let Ok(text) = read(&fence, &real.join("a")) {
                assert_eq!(text, "mine");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn parts_that_are_named_one_by_one_are_the_whole_fence() {
    let disk = Disk::new();
    for path in [
        "nets/g.onnx",
        "nets/other",
        "frames/1.jpg",
        "rects.json",
        "a.onnx",
    ] {
        disk.write(path, "mine");
    }
    let mut config = folder("mira", "");
    config.source = ModelSource::Parts {
        model_path: disk.path("nets/g.onnx"),
        background_dir: disk.path("frames"),
        crop_rects_path: disk.path("rects.json"),
        n_frames: None,
    };
    config.audio_encoder = Some(disk.path("a.onnx"));
    let fence = Fence::around(&config).expect("all there");
    for path in ["nets/g.onnx", "frames/1.jpg", "rects.json", "a.onnx"] {
        assert_eq!(read(&fence, &disk.path(path)).expect(path), "mine");
    }
    symlink("../nets/g.onnx", disk.path("frames/2.jpg")).expect("linked");
    assert_eq!(
        read(&fence, &disk.path("frames/2.jpg")).expect("named"),
        "mine"
    );
    symlink("../nets/other", disk.path("frames/3.jpg")).expect("linked");
    read(&fence, &disk.path("frames/3.jpg")).expect_err("not named");
}
