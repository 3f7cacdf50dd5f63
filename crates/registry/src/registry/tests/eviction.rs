//! Budgets: who goes, who stays, and what is refused.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use lipsync_testing::FileLoader;

use crate::{
    ErrorClass, EvictionPolicy, ModelState, Registry, RegistryConfig, RegistryError,
    testing::{Disk, WEIGHTS, block_on, id, registry, settings},
};

fn room_for(n_models: u64, disk: &Disk, names: &[&str]) -> RegistryConfig {
    RegistryConfig {
        max_bytes: n_models * WEIGHTS,
        ..settings(
            names
                .iter()
                .map(|name| disk.avatar(name, 1, "ok"))
                .collect(),
        )
    }
}

fn use_model(registry: &Registry, name: &str) {
    block_on(registry.model(&id(name))).expect("a model");
}

fn ready(registry: &Registry) -> Vec<String> {
    let list = registry.list().into_iter();
    let ready = list.filter(|status| status.state == ModelState::Ready);
    ready.map(|status| status.id.to_string()).collect()
}

#[test]
fn lru_drops_the_least_recently_and_lfu_the_least_often_used() {
    for (eviction, expected) in [
        (EvictionPolicy::Lru, ["b", "c"]),
        (EvictionPolicy::Lfu, ["a", "c"]),
    ] {
        let disk = Disk::new();
        let config = room_for(2, &disk, &["a", "b", "c"]);
        let (registry, _) = registry(RegistryConfig { eviction, ..config });
        for name in ["a", "a", "a", "b", "c"] {
            use_model(&registry, name);
        }
        assert_eq!(ready(&registry), expected, "{eviction:?}");
        let unloads: u64 = registry.list().iter().map(|s| s.unloads).sum();
        assert_eq!(unloads, 1);
    }
}

#[test]
fn work_counts_as_a_recent_use() {
    let disk = Disk::new();
    let (registry, _) = registry(room_for(2, &disk, &["a", "b", "c"]));
    use_model(&registry, "a");
    use_model(&registry, "b");
    let a = registry.resident(&id("a")).expect("resident");
    a.record_use(1, Duration::from_millis(1));
    drop(a);
    use_model(&registry, "c");
    assert_eq!(ready(&registry), ["a", "c"]);
}

#[test]
fn what_is_in_use_stays_and_the_newcomer_is_refused() {
    let disk = Disk::new();
    let (registry, _) = registry(room_for(1, &disk, &["a", "b"]));
    let lease = block_on(registry.model(&id("a"))).expect("a model");
    let error = block_on(registry.model(&id("b"))).expect_err("no room");
    match &error {
        RegistryError::OutOfMemory { needed, budget } => {
            assert_eq!((*needed, *budget), (WEIGHTS, WEIGHTS));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(error.class(), ErrorClass::NoRoom);
    assert_eq!(ready(&registry), ["a"]);
    drop(lease);
    use_model(&registry, "b");
    assert_eq!(ready(&registry), ["b"]);
}

#[test]
fn the_number_of_models_is_bounded_too() {
    let disk = Disk::new();
    let (registry, _) = registry(RegistryConfig {
        max_models: 1,
        ..room_for(9, &disk, &["a", "b"])
    });
    let lease = block_on(registry.model(&id("a"))).expect("a model");
    let error = block_on(registry.model(&id("b"))).expect_err("no room");
    assert!(matches!(
        error,
        RegistryError::TooManyModels { max_models: 1 }
    ));
    drop(lease);
    use_model(&registry, "b");
    assert_eq!(ready(&registry), ["b"]);
}

#[test]
fn nothing_is_dropped_for_a_model_that_cannot_fit() {
    let disk = Disk::new();
    let mut config = room_for(1, &disk, &["a", "giant"]);
    disk.write("giant/g.onnx", vec![b' '; 500_000]);
    config.max_bytes += 1;
    let (registry, loader) = registry(config);
    use_model(&registry, "a");
    let error = block_on(registry.model(&id("giant"))).expect_err("no room ever");
    assert_eq!(
        error.to_string(),
        "the model is larger than capacity.max_memory_gb: it needs 500000 of 1001 bytes"
    );
    assert_eq!(
        error.class(),
        ErrorClass::BrokenModel,
        "not to be tried again"
    );
    assert_eq!(ready(&registry), ["a"]);
    // It was refused before its network was made.
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 1);
}

#[test]
fn a_network_larger_than_its_file_is_charged_in_full() {
    let disk = Disk::new();
    let mut config = room_for(2, &disk, &["a", "heavy"]);
    disk.network("heavy/g.onnx", "heavy");
    config.max_bytes = 10 * WEIGHTS;
    let (small, _) = registry(config.clone());
    use_model(&small, "a");
    use_model(&small, "heavy");
    assert_eq!(ready(&small), ["heavy"]);
    assert_eq!(small.reserved_bytes(), 10 * WEIGHTS);

    config.max_bytes = 10 * WEIGHTS - 1;
    let (smaller, loader) = registry(config);
    let error = block_on(smaller.model(&id("heavy"))).expect_err("no room");
    assert!(matches!(error, RegistryError::NeverFits { .. }));
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 1);
    assert_eq!(smaller.reserved_bytes(), 0);
}

#[test]
fn an_unloaded_model_finishes_and_counts_until_then() {
    let disk = Disk::new();
    let (registry, _) = registry(room_for(2, &disk, &["a"]));
    let old = block_on(registry.model(&id("a"))).expect("a model").model;
    assert!(registry.unload(&id("a")).expect("configured"));
    assert!(registry.resident(&id("a")).is_none());
    assert_eq!(registry.resident_bytes(), 0);
    assert_eq!(registry.reserved_bytes(), WEIGHTS);
    old.background(0).expect("still works");

    let new = block_on(registry.model(&id("a")))
        .expect("loaded anew")
        .model;
    assert!(!Arc::ptr_eq(&old, &new));
    assert_eq!(registry.reserved_bytes(), 2 * WEIGHTS);
    drop(old);
    assert_eq!(registry.reserved_bytes(), WEIGHTS);
}

#[test]
fn idle_models_are_swept_but_not_those_in_use() {
    let timeout = Duration::from_secs(60);
    let disk = Disk::new();
    let (registry, _) = registry(room_for(3, &disk, &["a", "b", "c"]));
    let before = Instant::now();
    use_model(&registry, "a");
    use_model(&registry, "b");
    let in_use = block_on(registry.model(&id("c"))).expect("a model");
    let almost = before + timeout - Duration::from_nanos(1);
    assert_eq!(registry.tend(almost), []);
    let later = Instant::now() + timeout;
    assert_eq!(registry.tend(later), [id("a"), id("b")]);
    assert_eq!(ready(&registry), ["c"]);
    drop(in_use);
    assert_eq!(registry.tend(later), [id("c")]);
    assert_eq!(registry.reserved_bytes(), 0);
}

#[test]
fn without_a_timeout_nothing_is_swept() {
    let disk = Disk::new();
    let (registry, _) = registry(RegistryConfig {
        idle_timeout: None,
        ..room_for(1, &disk, &["a"])
    });
    use_model(&registry, "a");
    assert_eq!(
        registry.tend(Instant::now() + Duration::from_secs(1 << 30)),
        []
    );
}

/// Eight threads, each with one model in hand at most: whatever they ask for, room can be made.
#[test]
fn fifty_models_with_room_for_eight_under_zipf_load() {
    const N_MODELS: u64 = 50;
    const N_THREADS: u64 = 8;
    const N_REQUESTS: u32 = 60;
    let disk = Disk::new();
    let names: Vec<String> = (0..N_MODELS).map(|n| format!("m{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    const FRAME_BYTES: u64 = 1_000_000;
    let config = RegistryConfig {
        max_frame_bytes: FRAME_BYTES,
        ..room_for(8, &disk, &names)
    };
    let budget = config.max_bytes;
    let (registry, loader) = registry(config);
    let user = |seed: u64| {
        let mut n_waited = 0;
        for (_, name) in (0..N_REQUESTS).zip(zipf(&names, seed)) {
            let lease = block_on(registry.model(&id(name))).expect("room can be made");
            n_waited += u64::from(lease.load_time > Duration::ZERO);
            lease.model.background(0).expect("a frame");
            assert!(registry.reserved_bytes() <= budget);
            assert!(registry.frame_bytes() <= FRAME_BYTES);
        }
        n_waited
    };
    let n_waited: u64 = thread::scope(|scope| {
        let users: Vec<_> = (0..N_THREADS)
            .map(|n| scope.spawn(move || user(n)))
            .collect();
        users.into_iter().map(|u| u.join().expect("no panic")).sum()
    });
    let list = registry.list();
    let loads: u64 = list.iter().map(|s| s.loads).sum();
    assert_eq!(loader.n_generators.load(Ordering::SeqCst) as u64, loads);
    assert!(
        loads > 50 && loads <= n_waited,
        "{loads} loads, {n_waited} waited"
    );
    for status in &list {
        let in_memory = u64::from(status.state == ModelState::Ready);
        assert_eq!(status.loads, status.unloads + in_memory, "{}", status.id);
    }
    let uses: u64 = list.iter().map(|s| s.usage_count).sum();
    assert_eq!(uses, N_THREADS * u64::from(N_REQUESTS));
    // Measured by the fake itself: weights really in memory at once.
    assert!(loader.live.peak.load(Ordering::SeqCst) <= 8 * WEIGHTS);
}

/// Draws names, the n-th with a weight of 1/n, from a small generator of random numbers.
fn zipf<'a>(names: &'a [&'a str], seed: u64) -> impl Iterator<Item = &'a str> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66;
    let total: u64 = (1..=names.len() as u64).map(|n| 100_000 / n).sum();
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut left = (state >> 33) % total;
        let mut ranks = 1..names.len() as u64;
        let place = ranks.position(|n| {
            let weight = 100_000 / n;
            let found = left < weight;
            left = left.saturating_sub(weight);
            found
        });
        names[place.unwrap_or(names.len() - 1)]
    })
}

/// Models `v` and `w`, for which each of two workers needs as much as three models weigh, and `a` and `b`, which
/// need nothing.
fn with_workers(disk: &Disk, max_bytes: u64) -> Registry {
    let wide = ["v", "w"].map(|name| disk.avatar(name, 1, "wide"));
    let plain = ["a", "b"].map(|name| disk.avatar(name, 1, "ok"));
    let config = RegistryConfig {
        max_bytes,
        ..settings([wide, plain].concat())
    };
    let loader = FileLoader {
        host_workers: 2,
        ..FileLoader::default()
    };
    Registry::new(config, Arc::new(loader))
}

#[test]
fn what_workers_need_is_charged_for_as_long_as_the_model_is_there() {
    let disk = Disk::new();
    let registry = with_workers(&disk, 8 * WEIGHTS);
    let wide = block_on(registry.model(&id("w"))).expect("seven of eight");
    let plain = block_on(registry.model(&id("a"))).expect("eight of eight");
    match block_on(registry.model(&id("b"))) {
        Err(RegistryError::OutOfMemory { needed, budget }) => {
            assert_eq!((needed, budget), (WEIGHTS, 8 * WEIGHTS));
        }
        other => panic!("{other:?}"),
    }
    drop(wide);
    use_model(&registry, "b");
    assert_eq!(
        ready(&registry),
        ["a", "b"],
        "its workers' memory went, too"
    );
    drop(plain);
    use_model(&registry, "w");
    assert_eq!(ready(&registry), ["b", "w"]);
    // Workers have one memory for both.
    use_model(&registry, "v");
    assert_eq!(ready(&registry), ["v", "w"]);
    assert_eq!(registry.reserved_bytes(), 2 * WEIGHTS, "weights alone");
    for name in ["v", "w"] {
        registry.unload(&id(name)).expect("unloaded");
    }
    for name in ["a", "b", "w"] {
        use_model(&registry, name);
    }
    assert_eq!(ready(&registry), ["b", "w"]);
}

#[test]
fn a_model_that_workers_have_no_room_for_is_refused() {
    let disk = Disk::new();
    let registry = with_workers(&disk, 6 * WEIGHTS);
    use_model(&registry, "a");
    match block_on(registry.model(&id("w"))) {
        Err(RegistryError::NeverFits { needed, budget, .. }) => {
            assert_eq!((needed, budget), (7 * WEIGHTS, 6 * WEIGHTS));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ready(&registry), ["a"], "nobody goes for what cannot fit");
    assert_eq!(registry.reserved_bytes(), WEIGHTS);
}
