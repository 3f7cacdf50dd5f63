//! Files in the places of packs, drafts and frames that are not what they should be.

use std::{
    fs::{self, File},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use crate::{
    BakeReport, Model, PackFault, PackState, Registry, RegistryConfig, RegistryError,
    pack::{Draft, PackWriter},
    testing::{Disk, block_on, id, registry, settings},
};

const N_FRAMES: u32 = 3;

/// An avatar that nothing bakes by itself.
fn unbaked(disk: &Disk) -> RegistryConfig {
    RegistryConfig {
        bake: false,
        ..settings(vec![disk.avatar("mira", N_FRAMES, "small")])
    }
}

fn bake(registry: &Registry) -> Result<BakeReport, RegistryError> {
    registry.bake(&id("mira"), NonZeroUsize::MIN, &mut |_| ())
}

fn model(registry: &Registry) -> Arc<Model> {
    block_on(registry.model(&id("mira")))
        .expect("a model")
        .model
}

fn pack(disk: &Disk) -> PathBuf {
    disk.path("mira").join("avatar.pack")
}

fn draft(disk: &Disk) -> PathBuf {
    disk.path("mira").join("avatar.pack.tmp")
}

fn is_ready(model: &Model) -> bool {
    matches!(model.pack_state(), PackState::Ready { .. })
}

/// A pack whose checksums are right and whose frames are nonsense.
fn write_nonsense(disk: &Disk, model: &Model) {
    let recipe = model.frames.current_recipe().expect("unchanged");
    let draft = Draft::begin(&pack(disk)).expect("a draft");
    let n_frames = recipe.rects.len();
    let mut writer = PackWriter::begin(draft.file(), n_frames).expect("begun");
    for (index, rect) in (0..).zip(&recipe.rects) {
        let parts = [b"no JPEG".as_slice(), b"none", b"no table", b"", b"no face"];
        writer.frame(index, *rect, parts).expect("written");
    }
    writer.finish(recipe).expect("finished");
    draft.publish().expect("published");
}

#[test]
fn nonsense_with_right_checksums_is_baked_anew_once() {
    let disk = Disk::new();
    let config = unbaked(&disk);
    let (first, _) = registry(config.clone());
    write_nonsense(&disk, &model(&first));
    let (second, _) = registry(config);
    let served = model(&second);
    for index in 0..N_FRAMES {
        served.background(index).expect("from its source");
        served.face_crop(index).expect("from its source");
    }
    assert!(!is_ready(&served));
    second.tend(Instant::now());
    assert!(!is_ready(&served), "the same pack is not taken up again");
    assert!(!bake(&second).expect("baked").was_current);
    second.tend(Instant::now());
    assert!(is_ready(&served), "a new one is");
    assert!(bake(&second).expect("verified").was_current);
}

#[test]
fn one_bad_frame_does_not_cost_the_others_their_pack() {
    let disk = Disk::new();
    let config = unbaked(&disk);
    bake(&registry(config.clone()).0).expect("baked");
    let mut bytes = fs::read(pack(&disk)).expect("a pack");
    // The first frame begins behind the start of the file.
    bytes[40] ^= 1;
    fs::write(pack(&disk), bytes).expect("written");
    let (registry, _) = registry(config);
    let served = model(&registry);
    for index in 0..N_FRAMES {
        let frame = served.background(index).expect("a frame");
        let is_from_source = frame.crop.is_some();
        assert_eq!(is_from_source, index == 0, "frame {index}");
    }
    assert!(!is_ready(&served), "what is wrong is told");
}

#[test]
fn a_frame_replaced_under_its_model_is_refused() {
    let disk = Disk::new();
    let (registry, _) = registry(unbaked(&disk));
    let served = model(&registry);
    let before = served.background(1).expect("a frame");
    let path = served.frames.files.path(1).expect("a path").to_owned();
    let bytes = fs::read(&path).expect("a frame");
    fs::write(&path, [&bytes[..], b"more"].concat()).expect("replaced");
    assert_eq!(
        served.background(1).expect("held").baked.jpeg(false),
        before.baked.jpeg(false)
    );
    let refused = served.picture(1).expect_err("another frame");
    assert!(
        matches!(refused, RegistryError::FrameChanged { index: 1, .. }),
        "{refused}"
    );
    served.picture(0).expect("as it was");
}

#[test]
fn nothing_is_written_to_what_has_the_name_of_a_draft() {
    let link = |of: &Path, at: &Path| std::os::unix::fs::symlink(of, at).expect("linked");
    let name = |of: &Path, at: &Path| fs::hard_link(of, at).expect("linked");
    for trap in [&link as &dyn Fn(&Path, &Path), &name] {
        let disk = Disk::new();
        let config = unbaked(&disk);
        let precious = disk.root.path().join("precious");
        fs::write(&precious, "precious").expect("written");
        trap(&precious, &draft(&disk));
        bake(&registry(config.clone()).0).expect("baked");
        assert_eq!(fs::read_to_string(&precious).expect("read"), "precious");
        assert!(!draft(&disk).exists());
        assert!(is_ready(&model(&registry(config).0)));
    }
}

#[test]
fn a_draft_that_is_a_name_of_a_file_in_use_is_not_waited_for() {
    let disk = Disk::new();
    let config = unbaked(&disk);
    let theirs = disk.root.path().join("theirs");
    let file = File::create(&theirs).expect("made");
    file.lock().expect("locked");
    fs::hard_link(&theirs, draft(&disk)).expect("linked");
    bake(&registry(config).0).expect("baked");
    assert!(theirs.exists());
}

#[test]
fn a_pack_that_is_a_link_is_neither_read_nor_written_to() {
    let disk = Disk::new();
    let config = unbaked(&disk);
    let elsewhere = disk.path("elsewhere.pack");
    bake(&registry(config.clone()).0).expect("baked");
    fs::rename(pack(&disk), &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, pack(&disk)).expect("linked");
    let (first, _) = registry(config.clone());
    let fault = PackFault::Link;
    assert_eq!(model(&first).pack_state(), PackState::Refused { fault });

    let mut follows = config;
    follows.models[0].follow_links = true;
    assert!(is_ready(&model(&registry(follows).0)));

    let before = fs::read(&elsewhere).expect("read");
    assert!(!bake(&first).expect("baked").was_current);
    assert!(pack(&disk).symlink_metadata().expect("a pack").is_file());
    assert_eq!(fs::read(&elsewhere).expect("read"), before);
}

#[test]
fn a_pack_that_would_be_too_large_is_given_up() {
    let disk = Disk::new();
    let config = RegistryConfig {
        max_pack_bytes: 1000,
        ..unbaked(&disk)
    };
    let (registry, _) = registry(config);
    let served = model(&registry);
    let refused = bake(&registry).expect_err("too large").to_string();
    assert!(
        refused.contains("1000 bytes that capacity.max_pack_gb allows"),
        "{refused}"
    );
    assert!(!pack(&disk).exists() && !draft(&disk).exists());
    served.background(0).expect("from its source");
}

#[cfg(target_os = "linux")]
#[test]
fn pipes_do_not_block() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let disk = Disk::new();
    let config = unbaked(&disk);
    let mode = Mode::RUSR | Mode::WUSR;
    for path in [pack(&disk), draft(&disk)] {
        mknodat(CWD, path, FileType::Fifo, mode, 0).expect("a pipe");
    }
    let (registry, _) = registry(config);
    let served = model(&registry);
    assert!(!is_ready(&served));
    served.background(0).expect("from its source");
    bake(&registry).expect("in the place of the pipes");
    assert!(pack(&disk).is_file() && !draft(&disk).exists());
}

#[test]
fn another_process_draft_is_neither_published_nor_removed() {
    let disk = Disk::new();
    unbaked(&disk);
    let ours = Draft::begin(&pack(&disk)).expect("a draft");
    fs::remove_file(draft(&disk)).expect("removed by a cleaner");
    let theirs = Draft::begin(&pack(&disk)).expect("another draft");
    ours.publish().expect_err("it is gone");
    assert!(draft(&disk).exists(), "theirs is left alone");
    theirs.publish().expect("it is there");
    assert!(pack(&disk).exists());
}
