//! Long sequences of changes against requests: nothing is lost, and the book of memory ends at nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lipsync_testing::FileLoader;

use crate::{
    ErrorClass, EvictionPolicy, Model, ModelConfig, Registry, RegistryConfig, RegistryError,
    testing::{Disk, WEIGHTS, block_on, folder, id, settings},
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Folders that a model may be found in; the n-th has n + 1 frames.
const N_FOLDERS: u32 = 3;

/// The same numbers for a seed each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn is_heads(&mut self) -> bool {
        self.roll(2) == 0
    }
}

fn folders() -> Disk {
    let disk = Disk::new();
    for n in 0..N_FOLDERS {
        disk.avatar(&format!("folder{n}"), n + 1, "ok");
    }
    disk
}

fn any_config(dice: &mut Dice, disk: &Disk, may_preload: bool) -> RegistryConfig {
    let mut models = Vec::new();
    for name in NAMES {
        if dice.roll(4) > 0 {
            let n = dice.roll(N_FOLDERS.into());
            models.push(ModelConfig {
                preload: may_preload && dice.is_heads(),
                ..folder(name, disk.path(&format!("folder{n}")))
            });
        }
    }
    RegistryConfig {
        max_models: [1, 3, usize::MAX][usize::try_from(dice.roll(3)).expect("small")],
        max_bytes: [WEIGHTS, 4 * WEIGHTS, u64::MAX][usize::try_from(dice.roll(3)).expect("small")],
        max_frame_bytes: [0, 4000, u64::MAX][usize::try_from(dice.roll(3)).expect("small")],
        background_cache_frames: 1 + usize::try_from(dice.roll(3)).expect("small"),
        eviction: if dice.is_heads() {
            EvictionPolicy::Lru
        } else {
            EvictionPolicy::Lfu
        },
        ..settings(models)
    }
}

/// What a request may be told, and nothing else.
fn is_fair(error: &RegistryError) -> bool {
    matches!(error.class(), ErrorClass::UnknownModel | ErrorClass::NoRoom)
}

/// Of a model that is held, all is there.
fn use_one(model: &Model) {
    let last = model.n_frames() - 1;
    model.background(last).expect("a frame");
    model.record_use(1, Duration::from_micros(1));
}

/// Figures of a model that only ever grow.
type Figures = [u64; 4];

fn check_figures(registry: &Registry, seen: &mut BTreeMap<String, Figures>) {
    for status in registry.list() {
        let now = [
            status.usage_count,
            status.frames,
            status.loads,
            status.unloads,
        ];
        let before = seen.insert(status.id.to_string(), now).unwrap_or_default();
        let has_grown = before.iter().zip(now).all(|(before, now)| *before <= now);
        assert!(has_grown, "{}: {before:?} then {now:?}", status.id);
    }
}

/// What is held is what is in memory and what is leased, each once.
fn check_memory(registry: &Registry, loader: &FileLoader, leases: &[Arc<Model>]) {
    let resident = NAMES.iter().filter_map(|name| registry.resident(&id(name)));
    let mut held: Vec<_> = resident.chain(leases.iter().cloned()).collect();
    held.sort_by_key(|model| Arc::as_ptr(model).addr());
    held.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let n_bytes: u64 = held.iter().map(|model| model.reserved_bytes()).sum();
    assert_eq!(registry.reserved_bytes(), n_bytes);
    assert_eq!(loader.live.now(), n_bytes);
}

fn end_with_nothing(registry: &Registry, loader: &FileLoader) {
    registry
        .reconfigure(settings(Vec::new()))
        .expect("an empty list is good");
    // Loads that land nowhere are told to nobody.
    while registry.reserved_bytes() > 0 || loader.live.now() > 0 {
        thread::yield_now();
    }
    assert_eq!((registry.n_ready(), registry.frame_bytes()), (0, 0));
}

#[test]
fn a_thousand_changes_one_after_the_other_lose_nothing() {
    let disk = folders();
    let loader = Arc::new(FileLoader::default());
    let registry = Registry::new(settings(Vec::new()), Arc::clone(&loader) as _);
    let mut dice = Dice(1);
    let (mut leases, mut seen) = (Vec::new(), BTreeMap::new());
    let mut expected: BTreeMap<String, ModelConfig> = BTreeMap::new();
    let mut n_served = 0;
    for _ in 0..1000 {
        let name = NAMES[usize::try_from(dice.roll(5)).expect("small")];
        match dice.roll(8) {
            0 | 1 => {
                let config = any_config(&mut dice, &disk, false);
                let models = config.models.iter().cloned();
                expected = models.map(|model| (model.id.to_string(), model)).collect();
                registry.reconfigure(config).expect("good");
            }
            2..=4 => match block_on(registry.model(&id(name))) {
                Ok(lease) => {
                    let config = expected.get(name).expect("configured");
                    let is_its = |folder: &str| lease.model.generator_path().starts_with(folder);
                    let crate::ModelSource::Folder(path) = &config.source else {
                        panic!("{config:?}")
                    };
                    let path = path.canonicalize().expect("a folder");
                    assert!(is_its(&path.to_string_lossy()), "the one of now");
                    leases.push(lease.model);
                    n_served += 1;
                }
                Err(error) => {
                    assert!(is_fair(&error), "{error}");
                    let is_unknown = error.class() == ErrorClass::UnknownModel;
                    assert_eq!(is_unknown, !expected.contains_key(name));
                }
            },
            5 => drop(registry.unload(&id(name))),
            6 => drop(registry.tend(Instant::now())),
            _ => {
                let keep = usize::try_from(dice.roll(4)).expect("small");
                leases.truncate(keep);
            }
        }
        leases.iter().for_each(|model| use_one(model));
        check_memory(&registry, &loader, &leases);
        check_figures(&registry, &mut seen);
        let listed: Vec<_> = registry.list().iter().map(|s| s.id.to_string()).collect();
        assert_eq!(listed, expected.keys().cloned().collect::<Vec<_>>());
    }
    assert!(n_served > 100, "{n_served} requests were served");
    leases.clear();
    end_with_nothing(&registry, &loader);
}

#[test]
fn changes_against_requests_lose_nothing() {
    const N_CHANGES: usize = 150;
    let disk = folders();
    let loader = Arc::new(FileLoader::default());
    let registry = Registry::new(settings(Vec::new()), Arc::clone(&loader) as _);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 2..5 {
            let (registry, is_over) = (&registry, &is_over);
            scope.spawn(move || {
                let mut dice = Dice(seed);
                let mut leases: Vec<Arc<Model>> = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    let name = NAMES[usize::try_from(dice.roll(5)).expect("small")];
                    match block_on(registry.model(&id(name))) {
                        Ok(lease) => leases.push(lease.model),
                        Err(error) => assert!(is_fair(&error), "{error}"),
                    }
                    leases.iter().for_each(|model| use_one(model));
                    leases.truncate(usize::try_from(dice.roll(4)).expect("small"));
                }
            });
        }
        let mut dice = Dice(9);
        let mut seen = BTreeMap::new();
        for n in 0..N_CHANGES {
            let config = any_config(&mut dice, &disk, true);
            registry.reconfigure(config).expect("good");
            if n % 8 == 0 {
                registry.tend(Instant::now());
            }
            check_figures(&registry, &mut seen);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    end_with_nothing(&registry, &loader);
}
