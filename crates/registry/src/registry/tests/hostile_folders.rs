//! Folders of avatars are input: links that lead out, what is no file, what is too much, and what errors tell.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use crate::{
    ErrorClass, ModelConfig, ModelState, RegistryConfig, RegistryError,
    testing::{Disk, block_on, id, registry, settings},
};

const SECRET: &str = "[\"tenant-B-api-key-123456\"]";

fn avatar(disk: &Disk) -> ModelConfig {
    disk.avatar("mira", 4, "ok")
}

fn load_error(config: RegistryConfig) -> RegistryError {
    let (registry, _) = registry(config);
    let error = block_on(registry.load(&id("mira"))).expect_err("it is refused");
    let status = registry.status(&id("mira")).expect("a status");
    assert_eq!(status.state, ModelState::Failed);
    let failure = status.failure.expect("a reason");
    assert_eq!(failure, error.to_string());
    assert!(
        !failure.contains("tenant-B") && !failure.contains('/'),
        "{failure}"
    );
    assert!(failure.len() < 1000 && error.detail().len() < 2000);
    assert!(!error.detail().contains('\n'), "{}", error.detail());
    error
}

fn replace_by_link(disk: &Disk, target: impl Into<PathBuf>, link: &str) {
    let link = disk.path(link);
    if link.is_dir() {
        fs::remove_dir_all(&link).expect("removed");
    } else {
        fs::remove_file(&link).expect("removed");
    }
    symlink(target.into(), link).expect("linked");
}

#[test]
fn a_link_out_of_the_folder_is_refused_wherever_it_is() {
    for part in [
        "avatar.yaml",
        "g.onnx",
        "rects.json",
        "frames",
        "frames/frame_0000.png",
        "frames/frame_0002.png",
        "frames/frame_0003.png",
    ] {
        let disk = Disk::new();
        let mut config = avatar(&disk);
        disk.avatar("victim", 4, "ok");
        let up = if part.contains('/') { "../../" } else { "../" };
        replace_by_link(&disk, format!("{up}victim/{part}"), &format!("mira/{part}"));
        let error = load_error(settings(vec![config.clone()]));
        assert!(
            matches!(error, RegistryError::Outside { .. }),
            "{part}: {error}"
        );
        assert_eq!(error.class(), ErrorClass::BrokenModel);
        config.follow_links = true;
        let (registry, _) = registry(settings(vec![config]));
        block_on(registry.load(&id("mira"))).expect("where links may lead anywhere");
    }
}

#[test]
fn links_inside_the_folder_serve() {
    let disk = Disk::new();
    let config = avatar(&disk);
    for part in ["g.onnx", "frames", "rects.json"] {
        let (from, to) = (
            disk.path("mira").join(part),
            disk.path("mira").join(format!("real-{part}")),
        );
        fs::rename(&from, &to).expect("moved");
        symlink(&to, &from).expect("linked");
    }
    let (registry, _) = registry(settings(vec![config]));
    let model = block_on(registry.load(&id("mira"))).expect("a model").model;
    model.background(2).expect("a frame");
}

#[test]
fn a_link_that_comes_after_the_load_shows_nothing() {
    let disk = Disk::new();
    let (registry, _) = registry(settings(vec![avatar(&disk)]));
    let model = block_on(registry.load(&id("mira"))).expect("a model").model;
    disk.avatar("victim", 4, "ok");
    let part = "frames/frame_0002.png";
    replace_by_link(
        &disk,
        disk.path("victim").join(part),
        &format!("mira/{part}"),
    );
    let refused = model.background(2).expect_err("a link");
    assert!(
        matches!(refused, RegistryError::Outside { .. }),
        "{refused}"
    );
    model.background(1).expect("as it was");
}

#[test]
fn no_error_tells_what_stands_in_a_file() {
    for follow_links in [false, true] {
        for part in [
            "avatar.yaml",
            "g.onnx",
            "rects.json",
            "frames/frame_0000.png",
        ] {
            let disk = Disk::new();
            let mut config = avatar(&disk);
            config.follow_links = follow_links;
            // A fake network that is refused.
            disk.write("secret", format!("bad {SECRET}"));
            replace_by_link(&disk, disk.path("secret"), &format!("mira/{part}"));
            if !(follow_links && part.starts_with("frames")) {
                load_error(settings(vec![config]));
                continue;
            }
            // A damaged frame, which is shown as its neighbour.
            let (registry, _) = registry(settings(vec![config]));
            let model = block_on(registry.load(&id("mira"))).expect("a model").model;
            model.background(0).expect("a frame");
            let state = format!("{:?}", model.pack_state());
            assert!(
                state.contains("background frame 0") && !state.contains("tenant-B"),
                "{state}"
            );
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_file_is_refused_and_blocks_nobody() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let pipe = |path: &PathBuf| {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    };
    let folder = |path: &PathBuf| fs::create_dir(path).expect("a folder");
    for part in [
        "avatar.yaml",
        "g.onnx",
        "rects.json",
        "frames",
        "frames/frame_0000.png",
        "frames/frame_0001.png",
    ] {
        for make in [&pipe as &dyn Fn(&PathBuf), &folder] {
            let disk = Disk::new();
            let config = avatar(&disk);
            let path = disk.path("mira").join(part);
            if path.is_dir() {
                fs::remove_dir_all(&path).expect("removed");
            } else {
                fs::remove_file(&path).expect("removed");
            }
            make(&path);
            if !part.starts_with("frames/") {
                load_error(settings(vec![config]));
                continue;
            }
            // One frame that is none is shown as its neighbour.
            let (registry, _) = registry(settings(vec![config]));
            let model = block_on(registry.load(&id("mira"))).expect("a model").model;
            model.background(0).expect("a frame");
            model.background(1).expect("a frame");
        }
        for device in ["/dev/zero", "/proc/self/environ"] {
            let disk = Disk::new();
            let config = avatar(&disk);
            replace_by_link(&disk, device, &format!("mira/{part}"));
            load_error(settings(vec![config]));
        }
    }
}

#[test]
fn deep_and_large_descriptions_are_refused_at_once() {
    let levels = 100_000;
    let flow = "[".repeat(levels) + &"]".repeat(levels);
    let hidden = "[ # ]\n".repeat(10_000);
    for about in [
        flow,
        hidden,
        "- ".repeat(levels),
        "? ".repeat(levels),
        "x".repeat(1 << 20),
    ] {
        let disk = Disk::new();
        let config = avatar(&disk);
        let path = disk.path("mira/avatar.yaml");
        let text = fs::read_to_string(&path).expect("a manifest");
        disk.write("mira/avatar.yaml", format!("{text}about:\n  {about}\n"));
        // Before it is parsed, which would take minutes.
        let error = load_error(settings(vec![config])).detail();
        let is_told =
            error.contains("columns of indent are allowed") || error.contains("larger than");
        assert!(is_told, "{error}");
    }
    for rectangles in [
        "[".repeat(levels),
        format!("{{\"0\":{{\"rect\":[1,1,7,7],\"x\":{}", "[".repeat(levels)),
    ] {
        let disk = Disk::new();
        let config = avatar(&disk);
        disk.write("mira/rects.json", rectangles);
        load_error(settings(vec![config]));
    }
}

#[test]
fn numbers_out_of_proportion_are_refused_with_the_limit() {
    let disk = Disk::new();
    let config = avatar(&disk);
    let mut limited = settings(vec![config.clone()]);
    limited.max_frames = 3;
    let error = load_error(limited).to_string();
    assert_eq!(
        error,
        "the model has 4 background frames, capacity.max_frames allows 3"
    );

    let text = fs::read_to_string(disk.path("mira/avatar.yaml")).expect("a manifest");
    for fps in [0, 121, u32::MAX] {
        disk.write("mira/avatar.yaml", format!("{text}fps: {fps}\n"));
        let error = load_error(settings(vec![config.clone()])).to_string();
        assert_eq!(
            error,
            format!("the model's fps must be 1 to 120, not {fps}")
        );
    }
    disk.write("mira/avatar.yaml", text);
    // A picture that says that it has four billion pixels.
    let path = disk.path("mira/frames/frame_0000.png");
    let mut png = fs::read(&path).expect("a picture");
    png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    fs::write(path, png).expect("written");
    // It is damage, and shown as its neighbour.
    let (registry, _) = registry(settings(vec![config]));
    let lease = block_on(registry.load(&id("mira"))).expect("its neighbours are good");
    assert_eq!((lease.model.width(), lease.model.height()), (8, 8));
    lease.model.background(0).expect("a frame");
    let status = registry.status(&id("mira")).expect("a status");
    let fault = format!("{:?}", status.pack);
    assert!(
        fault.contains("65535x65535") && fault.contains("too large"),
        "{fault}"
    );
}

#[test]
fn names_of_files_cannot_write_lines_into_the_log() {
    let disk = Disk::new();
    let config = avatar(&disk);
    disk.frame("mira/frames/\u{1b}[m\nINFO all is well.png", 1, (8, 8));
    let error = load_error(settings(vec![config]));
    assert!(error.detail().contains("all is well"));
    assert!(
        !error.detail().chars().any(char::is_control),
        "{:?}",
        error.detail()
    );
}

#[test]
fn a_first_look_finds_what_is_missing_and_a_load_heals_it() {
    let disk = Disk::new();
    let good = disk.avatar("good", 1, "ok");
    let config = avatar(&disk);
    fs::rename(disk.path("mira"), disk.path("away")).expect("moved");
    let (registry, loader) = registry(settings(vec![good, config]));
    let failed = registry.watch_failed(&id("mira")).expect("known");
    assert!(!*failed.borrow());
    registry.look_over();
    let states: Vec<_> = registry
        .list()
        .into_iter()
        .map(|status| status.state)
        .collect();
    assert_eq!(states, [ModelState::Unloaded, ModelState::Failed]);
    assert!(*failed.borrow());
    fs::rename(disk.path("away"), disk.path("mira")).expect("moved back");

    // What failed has failed until it is loaded, also while that is tried.
    loader.gate.close();
    block_on(async {
        let mira = id("mira");
        let mut load = Box::pin(registry.load(&mira));
        let once =
            std::future::poll_fn(|cx| std::task::Poll::Ready(load.as_mut().poll(cx).is_pending()));
        assert!(once.await);
        assert!(*failed.borrow());
        loader.gate.open();
        load.await.expect("a model");
    });
    assert!(!*failed.borrow());
}
