//! Other limits and sizes for what is in memory.

use std::{sync::Arc, time::Instant};

use super::*;

#[test]
fn a_smaller_budget_drops_what_nobody_uses_and_waits_for_the_rest() {
    let disk = Disk::new();
    let models = ["a", "b", "c"].map(|name| disk.avatar(name, 1, "ok"));
    let config = settings(models.to_vec());
    for smaller in [
        RegistryConfig {
            max_bytes: WEIGHTS,
            ..config.clone()
        },
        RegistryConfig {
            max_models: 1,
            ..config.clone()
        },
    ] {
        let (registry, loader) = registry(config.clone());
        let lease = model(&registry, "a");
        model(&registry, "b");
        model(&registry, "c");
        registry.reconfigure(smaller.clone()).expect("good");
        assert_eq!(
            (registry.n_ready(), registry.reserved_bytes()),
            (1, WEIGHTS)
        );
        registry
            .reconfigure(RegistryConfig {
                max_bytes: WEIGHTS / 2,
                ..smaller
            })
            .expect("good");
        lease.model.background(0).expect("a frame");
        assert_eq!(registry.reserved_bytes(), WEIGHTS);
        let error = block_on(registry.model(&id("b"))).expect_err("it never fits");
        assert_eq!(error.class(), ErrorClass::BrokenModel);
        registry.tend(Instant::now());
        assert_eq!(state(&registry, "a"), ModelState::Ready);
        drop(lease);
        registry.tend(Instant::now());
        assert_eq!(state(&registry, "a"), ModelState::Unloaded);
        assert_eq!((registry.reserved_bytes(), loader.live.now()), (0, 0));
        // And there is room again once it may be taken.
        registry.reconfigure(config.clone()).expect("good");
        model(&registry, "b");
    }
}

#[test]
fn a_budget_is_lowered_on_every_device() {
    let disk = Disk::new();
    let models: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| disk.avatar(name, 1, "ok"))
        .collect();
    let config = settings(models);
    let loader = Arc::new(FileLoader {
        gpus: vec![(u64::MAX, u64::MAX); 2],
        ..FileLoader::default()
    });
    let registry = Registry::new(config.clone(), Arc::clone(&loader) as _);
    for name in ["a", "b", "c", "d"] {
        model(&registry, name);
    }
    let lower = |max_models, max_bytes| {
        let config = RegistryConfig {
            max_models,
            max_bytes,
            ..config.clone()
        };
        registry.reconfigure(config).expect("good");
        registry.n_ready()
    };
    assert_eq!(lower(3, u64::MAX), 3);
    assert_eq!(lower(3, WEIGHTS), 2, "one a device");
    assert_eq!(lower(0, WEIGHTS), 0);
    assert_eq!((registry.reserved_bytes(), loader.live.now()), (0, 0));
}

#[test]
fn caches_follow_without_a_load() {
    let disk = Disk::new();
    let config = RegistryConfig {
        background_cache_frames: 4,
        decoded_frames: 4,
        ..settings(vec![disk.avatar("a", 8, "ok")])
    };
    let (registry, loader) = registry(config.clone());
    let a = model(&registry, "a").model;
    let held: Vec<_> = (0..8).map(|n| a.background(n).expect("a frame")).collect();
    (0..4).for_each(|n| drop(a.picture(n).expect("a picture")));
    let of_one = a.cache_stats().resident_bytes / 8;

    let smaller = RegistryConfig {
        background_cache_frames: 2,
        decoded_frames: 1,
        ..config.clone()
    };
    registry.reconfigure(smaller.clone()).expect("good");
    let (frames, pictures) = (a.cache_stats(), a.decoded_stats());
    assert_eq!((frames.capacity_frames, frames.resident_frames), (2, 8));
    assert_eq!((pictures.capacity_frames, pictures.resident_frames), (1, 1));

    registry
        .reconfigure(RegistryConfig {
            max_frame_bytes: 3 * of_one,
            ..smaller
        })
        .expect("good");
    assert!(registry.frame_bytes() <= 3 * of_one);
    assert!(held.iter().all(|frame| frame.baked.n_bytes() > 0));
    for n in 0..8 {
        a.background(n).expect("a frame");
        assert!(registry.frame_bytes() <= 3 * of_one);
    }
    registry.reconfigure(config).expect("good");
    (0..8).for_each(|n| drop(a.background(n).expect("a frame")));
    assert_eq!(a.cache_stats().resident_frames, 8);
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 1);
}

#[test]
fn a_model_that_lands_after_the_change_has_the_new_sizes() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 8, "ok")]);
    let (registry, loader) = registry(config.clone());
    loader.gate.close();
    block_on(async {
        let a = id("a");
        let mut asking = Box::pin(registry.model(&a));
        asked(asking.as_mut()).await;
        loader.gate.wait_for_held(1);
        registry
            .reconfigure(RegistryConfig {
                background_cache_frames: 5,
                ..config
            })
            .expect("good");
        loader.gate.open();
        let lease = asking.await.expect("the one that was begun");
        assert_eq!(lease.model.cache_stats().capacity_frames, 5);
    });
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 1);
}
