//! Packs of models on disk: baked, used, refused, rebuilt.

use std::{
    fs,
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    BakeReport, BakeStep, Model, ModelSource, PackFault, PackState, Registry, RegistryConfig,
    RegistryError,
    testing::{Disk, block_on, id, registry, settings},
};

const N_FRAMES: u32 = 5;
const WAIT: Duration = Duration::from_secs(60);

fn one_avatar(disk: &Disk) -> RegistryConfig {
    RegistryConfig {
        background_cache_frames: 2,
        ..settings(vec![disk.avatar("mira", N_FRAMES, "small")])
    }
}

fn bake(registry: &Registry) -> Result<BakeReport, RegistryError> {
    let two = NonZeroUsize::new(2).expect("not zero");
    registry.bake(&id("mira"), two, &mut |_| ())
}

fn model(registry: &Registry) -> Arc<Model> {
    block_on(registry.model(&id("mira")))
        .expect("a model")
        .model
}

/// All that is served of a model: JPEGs, what the splice needs, face crops.
fn served(model: &Model) -> Vec<Vec<u8>> {
    let frame = |index| {
        let frame = model.background(index).expect("a frame");
        let crop = model.face_crop(index).expect("a crop");
        assert_eq!(frame.baked.rect(), crop.rect());
        let parts = frame.baked.to_parts().into_iter();
        let mut parts: Vec<Vec<u8>> = parts.map(|part| part.to_vec()).collect();
        parts.push(crop.pixels().to_vec());
        parts
    };
    (0..N_FRAMES).flat_map(frame).collect()
}

fn is_ready(model: &Model) -> bool {
    matches!(model.pack_state(), PackState::Ready { .. })
}

fn refusal(model: &Model) -> PackFault {
    match model.pack_state() {
        PackState::Refused { fault } => fault,
        other => panic!("{other:?}"),
    }
}

/// Waits for the baker; gives up loudly, so that a test cannot hang.
fn until(model: &Model, condition: impl Fn(&PackState) -> bool) {
    let given_up = Instant::now() + WAIT;
    while !condition(&model.pack_state()) {
        assert!(Instant::now() < given_up, "{:?}", model.pack_state());
        thread::yield_now();
    }
}

fn names(disk: &Disk) -> Vec<String> {
    let entries = disk.path("mira").read_dir().expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|n| n.to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

const SOURCES: [&str; 4] = ["avatar.yaml", "frames", "g.onnx", "rects.json"];

#[test]
fn a_pack_gives_the_very_bytes_that_the_sources_give() {
    let disk = Disk::new();
    let without = served(&model(&registry(one_avatar(&disk)).0));
    let mut steps = Vec::new();
    let (registry, _) = registry(one_avatar(&disk));
    let one = NonZeroUsize::MIN;
    let report = registry.bake(&id("mira"), one, &mut |step| steps.push(step));
    let report = report.expect("baked");
    assert_eq!(report.path, disk.path("mira/avatar.pack"));
    assert!(!report.was_current);
    let all = (1..=N_FRAMES).map(|n_done| BakeStep::Baked {
        n_done,
        n_frames: N_FRAMES,
    });
    assert_eq!(steps, all.collect::<Vec<_>>());

    let model = model(&registry);
    let n_bytes = report.n_bytes;
    assert_eq!(model.pack_state(), PackState::Ready { n_bytes });
    // The sources are not looked at any more.
    fs::remove_dir_all(disk.path("mira/frames")).expect("removed");
    assert_eq!(served(&model), without);
    // The crops stay in the pack.
    let crop_bytes = model.geometry().crop_bytes() as u64;
    assert!(model.cache_stats().resident_bytes < crop_bytes);
}

#[test]
fn a_current_pack_is_verified_and_a_damaged_one_baked_anew() {
    let disk = Disk::new();
    let (registry, _) = registry(one_avatar(&disk));
    let first = bake(&registry).expect("baked");
    let again = bake(&registry).expect("verified");
    assert_eq!((again.was_current, again.n_bytes), (true, first.n_bytes));
    // In the first frame, which only a full check reads.
    let mut bytes = fs::read(&first.path).expect("read");
    bytes[40] ^= 1;
    fs::write(&first.path, bytes).expect("written");
    assert!(!bake(&registry).expect("baked").was_current);
    assert!(bake(&registry).expect("verified").was_current);
}

#[test]
fn any_flipped_byte_changes_nothing_that_is_served() {
    let disk = Disk::new();
    let path = disk.path("mira/avatar.pack");
    let (registry, _) = registry(one_avatar(&disk));
    let without = served(&model(&registry));
    bake(&registry).expect("baked");
    let whole = fs::read(&path).expect("read");
    // Every byte of the fixed parts is flipped in the tests of the pack; these fall on all parts.
    let places = (0..whole.len()).step_by(whole.len() / 40);
    for place in places.chain(whole.len() - 600..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        fs::write(&path, damaged).expect("written");
        registry.unload(&id("mira")).expect("configured");
        let model = model(&registry);
        assert_eq!(served(&model), without, "byte {place}");
        assert!(!is_ready(&model), "byte {place} is found");
    }
}

#[test]
fn frames_are_served_while_their_pack_is_baked_and_from_it_then() {
    let disk = Disk::new();
    let (registry, _) = registry(RegistryConfig {
        bake: true,
        ..one_avatar(&disk)
    });
    let model = model(&registry);
    let before = served(&model);
    until(&model, |state| matches!(state, PackState::Ready { .. }));
    assert_eq!(served(&model), before);
    assert!(model.cache_stats().resident_bytes < model.geometry().crop_bytes() as u64);
    assert!(names(&disk).contains(&"avatar.pack".to_owned()));
}

#[test]
fn a_pack_damaged_under_a_running_server_is_left_and_baked_anew() {
    let disk = Disk::new();
    let (registry, _) = registry(RegistryConfig {
        bake: true,
        ..one_avatar(&disk)
    });
    let model = model(&registry);
    until(&model, |state| matches!(state, PackState::Ready { .. }));
    let before = served(&model);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(disk.path("mira/avatar.pack"));
    file.and_then(|file| file.set_len(100)).expect("cut");
    assert_eq!(served(&model), before);
    assert_eq!(refusal(&model), PackFault::Truncated);
    registry.tend(Instant::now());
    until(&model, |state| matches!(state, PackState::Ready { .. }));
    assert_eq!(served(&model), before);
}

#[test]
fn a_frame_that_changed_makes_the_pack_stale_until_it_is_baked_anew() {
    let disk = Disk::new();
    let (registry, _) = registry(one_avatar(&disk));
    bake(&registry).expect("baked");
    disk.frame("mira/frames/frame_0003.png", 200, (8, 8));
    let model = model(&registry);
    let stale = PackFault::Stale {
        what: "picture",
        frame: Some(3),
    };
    assert_eq!(refusal(&model), stale);
    let without = served(&model);
    assert!(!bake(&registry).expect("baked").was_current);
    drop(model);
    registry.unload(&id("mira")).expect("configured");
    let model = self::model(&registry);
    assert!(is_ready(&model));
    assert_eq!(served(&model), without);
}

#[test]
fn an_avatar_that_changes_under_its_model_is_not_baked() {
    let disk = Disk::new();
    let (registry, _) = registry(RegistryConfig {
        bake: true,
        ..one_avatar(&disk)
    });
    // Held back, so that the frame is replaced between the load and the bake.
    let blocked = disk.path("mira/avatar.pack.tmp");
    fs::create_dir(&blocked).expect("in the way");
    let model = model(&registry);
    until(&model, |state| matches!(state, PackState::Refused { .. }));
    assert!(matches!(refusal(&model), PackFault::Unwritable { .. }));
    fs::remove_dir(&blocked).expect("removed");
    disk.frame("mira/frames/frame_0003.png", 200, (8, 9));
    let effort = crate::bake::BakeEffort {
        n_threads: NonZeroUsize::MIN,
        is_background: false,
        stop: &false.into(),
    };
    let baked = model.frames.bake(&effort, &mut |_| ());
    assert_eq!(baked.err(), Some(PackFault::Changing));
    assert_eq!(names(&disk), SOURCES);
}

#[test]
fn a_broken_frame_and_a_stop_leave_nothing_and_serving_goes_on() {
    let disk = Disk::new();
    disk.avatar("mira", N_FRAMES, "small");
    fs::write(disk.path("mira/frames/frame_0003.png"), b"\x89PNG").expect("written");
    let (registry, _) = registry(one_avatar_as_is(&disk));
    match bake(&registry) {
        Err(RegistryError::Pack {
            fault: PackFault::Frame { reason },
            ..
        }) => assert!(reason.contains("background frame 3"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&disk), SOURCES);
    model(&registry).background(2).expect("a whole frame");

    disk.frame("mira/frames/frame_0003.png", 3, (8, 8));
    registry.unload(&id("mira")).expect("configured");
    let model = model(&registry);
    let stopped = model.frames.bake(
        &crate::bake::BakeEffort {
            n_threads: NonZeroUsize::MIN,
            is_background: true,
            stop: &true.into(),
        },
        &mut |_| (),
    );
    assert_eq!(stopped.err(), Some(PackFault::Stopped));
    assert_eq!(names(&disk), SOURCES);
    model.background(3).expect("a frame");
}

/// The avatar that is there, not written anew.
fn one_avatar_as_is(disk: &Disk) -> RegistryConfig {
    settings(vec![crate::testing::folder("mira", disk.path("mira"))])
}

#[test]
fn a_folder_that_cannot_be_written_to_is_not_tried_again_at_once() {
    let disk = Disk::new();
    let (registry, _) = registry(RegistryConfig {
        bake: true,
        cache_dir: Some(disk.path("nowhere")),
        ..one_avatar(&disk)
    });
    let model = model(&registry);
    until(&model, |state| matches!(state, PackState::Refused { .. }));
    assert!(matches!(refusal(&model), PackFault::Unwritable { .. }));
    served(&model);
    // Nor is it tried again before there can be any change.
    assert!(!model.frames.needs_bake(Instant::now()));
    registry.tend(Instant::now());
    assert!(matches!(refusal(&model), PackFault::Unwritable { .. }));
}

#[test]
fn where_packs_lie() {
    let disk = Disk::new();
    let mut config = one_avatar(&disk);
    let path = |config: &RegistryConfig| config.pack_path(&config.models[0]);
    assert_eq!(path(&config), disk.path("mira/avatar.pack"));
    config.models[0].source = ModelSource::Parts {
        model_path: disk.path("mira/g.onnx"),
        background_dir: disk.path("mira/frames"),
        crop_rects_path: disk.path("mira/rects.json"),
        n_frames: None,
    };
    assert_eq!(path(&config), disk.path("mira/mira.pack"));
    config.cache_dir = Some(PathBuf::from("/cache"));
    assert_eq!(path(&config), PathBuf::from("/cache/mira.pack"));
}

#[test]
fn several_bakers_at_once_do_no_harm() {
    const N_BAKERS: usize = 4;
    let disk = Disk::new();
    let config = one_avatar(&disk);
    let without = served(&model(&registry(config.clone()).0));
    let outcomes: Vec<_> = thread::scope(|scope| {
        let bakers: Vec<_> = (0..N_BAKERS)
            .map(|_| scope.spawn(|| bake(&registry(config.clone()).0)))
            .collect();
        let join = bakers.into_iter().map(|baker| baker.join());
        join.map(|outcome| outcome.expect("no panic")).collect()
    });
    let baked: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.expect("baked, or waited for").was_current)
        .collect();
    assert!(baked.contains(&false), "somebody has baked it");
    let model = model(&registry(config).0);
    assert!(is_ready(&model));
    assert_eq!(served(&model), without);
    assert!(!names(&disk).contains(&"avatar.pack.tmp".to_owned()));
}

#[test]
fn frames_are_read_ahead_along_the_walk() {
    let disk = Disk::new();
    let (registry, _) = registry(RegistryConfig {
        background_cache_frames: 4,
        ..one_avatar(&disk)
    });
    bake(&registry).expect("baked");
    let model = model(&registry);
    model.read_ahead(0, 100);
    let given_up = Instant::now() + WAIT;
    // Half of what the cache holds: places 0 and 1, frames 1 and 2.
    while model.cache_stats().read_ahead < 2 {
        assert!(Instant::now() < given_up, "{:?}", model.cache_stats());
        thread::yield_now();
    }
    for index in [1, 2, 3] {
        model.background(index).expect("a frame");
    }
    let stats = model.cache_stats();
    assert_eq!((stats.read_ahead, stats.read_ahead_hits), (2, 2));
    assert_eq!((stats.hits, stats.misses), (2, 1));
}
