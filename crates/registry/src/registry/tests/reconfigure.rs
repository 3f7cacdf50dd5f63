//! Another configuration while models are in use, or on their way.

use std::{
    fs,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use lipsync_testing::FileLoader;

use crate::{
    Changes, ConfigRefused, ErrorClass, Lease, ModelConfig, ModelState, PackFault, PrecisionChoice,
    Registry, RegistryConfig, RegistryError,
    bake::BakeEffort,
    testing::{Disk, WEIGHTS, block_on, folder, id, registry, settings},
};

mod at_random;
mod budgets;

fn model(registry: &Registry, name: &str) -> Lease {
    block_on(registry.model(&id(name))).expect("a model")
}

fn state(registry: &Registry, name: &str) -> ModelState {
    registry.status(&id(name)).expect("a status").state
}

fn with(config: &RegistryConfig, models: Vec<ModelConfig>) -> RegistryConfig {
    RegistryConfig {
        models,
        ..config.clone()
    }
}

/// Begins to wait for a model.
async fn asked<T>(mut asking: Pin<&mut (impl Future<Output = T> + ?Sized)>) {
    let once = std::future::poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx).is_pending()));
    assert!(once.await, "it is not there yet");
}

/// Waits for loads that land nowhere: nobody is told of their end.
fn settled(registry: &Registry, loader: &FileLoader, n_bytes: u64) {
    while registry.reserved_bytes() != n_bytes || loader.live.now() != n_bytes {
        thread::yield_now();
    }
}

#[test]
fn a_removed_model_is_unknown_and_its_leases_go_on() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 2, "ok"), disk.avatar("b", 1, "ok")]);
    let (registry, loader) = registry(config.clone());
    let lease = model(&registry, "a");
    let changes = registry.reconfigure(with(&config, vec![config.models[1].clone()]));
    let expected = Changes {
        removed: vec![id("a")],
        ..Changes::default()
    };
    assert_eq!(changes, Ok(expected));

    let error = block_on(registry.model(&id("a"))).expect_err("removed");
    assert!(matches!(error, RegistryError::UnknownModel { .. }));
    assert!(!registry.contains(&id("a")) && registry.resident(&id("a")).is_none());
    assert_eq!(registry.list().len(), 1);

    lease.model.background(1).expect("a frame");
    lease.model.record_use(1, Duration::from_millis(1));
    assert!(registry.frame_bytes() > 0);
    assert_eq!(
        (registry.reserved_bytes(), loader.live.now()),
        (WEIGHTS, WEIGHTS)
    );
    drop(lease);
    assert_eq!((registry.reserved_bytes(), loader.live.now()), (0, 0));
    assert_eq!(registry.frame_bytes(), 0);
}

#[test]
fn a_changed_model_is_loaded_anew_beside_its_old_self() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 2, "ok")]);
    disk.avatar("other", 3, "ok");
    let (registry, loader) = registry(config.clone());
    let old = model(&registry, "a");
    let changes = registry.reconfigure(with(&config, vec![folder("a", disk.path("other"))]));
    assert_eq!(changes.expect("good").changed, [id("a")]);
    assert_eq!(state(&registry, "a"), ModelState::Unloaded);
    assert_eq!(registry.status(&id("a")).expect("a status").info, None);

    let new = model(&registry, "a");
    assert_eq!((old.model.n_frames(), new.model.n_frames()), (2, 3));
    old.model.background(1).expect("a frame of the old one");
    assert_eq!(registry.reserved_bytes(), 2 * WEIGHTS);
    // The old one's work still counts.
    old.model.record_use(5, Duration::from_millis(1));
    new.model.record_use(2, Duration::from_millis(1));
    let status = registry.status(&id("a")).expect("a status");
    assert_eq!((status.usage_count, status.frames), (2, 7));
    assert_eq!((status.loads, status.unloads), (2, 1));
    drop(old);
    assert_eq!(
        (registry.reserved_bytes(), loader.live.now()),
        (WEIGHTS, WEIGHTS)
    );
    assert!(Arc::ptr_eq(
        &new.model,
        &registry.resident(&id("a")).expect("it stays")
    ));
}

#[test]
fn a_model_as_before_is_not_touched() {
    let disk = Disk::new();
    let names = ["a", "b", "c"];
    let models: Vec<_> = names
        .iter()
        .map(|name| disk.avatar(name, 2, "ok"))
        .collect();
    let config = settings(models[..2].to_vec());
    let (registry, loader) = registry(config.clone());
    let before = model(&registry, "a").model;
    before.background(0).expect("a frame");
    model(&registry, "b");
    let mut revision = registry.watch_models();
    assert_eq!(
        registry.reconfigure(config.clone()),
        Ok(Changes::default()),
        "nothing has changed"
    );
    assert!(!revision.has_changed().expect("the registry lives"));

    let other = ModelConfig {
        fps: Some(30),
        ..models[1].clone()
    };
    let changes = registry.reconfigure(with(
        &config,
        vec![models[2].clone(), other, models[0].clone()],
    ));
    let expected = Changes {
        added: vec![id("c")],
        changed: vec![id("b")],
        removed: Vec::new(),
    };
    assert_eq!(changes, Ok(expected));
    assert!(revision.has_changed().expect("the registry lives"));
    assert_eq!(*revision.borrow_and_update(), 1);
    let after = model(&registry, "a").model;
    assert!(Arc::ptr_eq(&before, &after));
    after.background(0).expect("a frame");
    let stats = after.cache_stats();
    assert_eq!((stats.hits, stats.misses), (1, 1));
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 2);
    assert_eq!(model(&registry, "b").model.fps().get(), 30);
}

#[test]
fn every_key_of_an_entry_and_what_it_takes_from_the_others_makes_another_model() {
    let disk = Disk::new();
    let plain = disk.avatar("plain", 1, "ok");
    let set = ModelConfig {
        precision: Some(PrecisionChoice::F32),
        ..disk.avatar("set", 1, "ok")
    };
    let config = settings(vec![plain, set]);
    let (registry, _) = registry(config.clone());
    let changed = |config: RegistryConfig| registry.reconfigure(config).expect("good").changed;
    let both = [id("plain"), id("set")];

    let mut preloaded = config.clone();
    preloaded.models[1].preload = true;
    assert_eq!(changed(preloaded), [id("set")]);
    assert_eq!(changed(config.clone()), [id("set")]);
    let precision = PrecisionChoice::Bf16;
    assert_eq!(
        changed(RegistryConfig {
            precision,
            ..config.clone()
        }),
        [id("plain")]
    );
    assert_eq!(changed(config.clone()), [id("plain")]);
    let jpeg_quality = 70;
    assert_eq!(
        changed(RegistryConfig {
            jpeg_quality,
            ..config.clone()
        }),
        both
    );
    let cache_dir = Some(disk.path("."));
    assert_eq!(
        changed(RegistryConfig {
            cache_dir,
            ..config.clone()
        }),
        both
    );
    assert_eq!(changed(config.clone()), both);
    // Sizes and limits do not.
    assert!(
        changed(RegistryConfig {
            max_models: 1,
            background_cache_frames: 7,
            decoded_frames: 7,
            max_frames: 7,
            bake: true,
            ..config
        })
        .is_empty()
    );
}

#[test]
fn those_who_wait_for_a_model_that_is_removed_are_told_so_at_once() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 1, "ok")]);
    let (registry, loader) = registry(config.clone());
    loader.gate.close();
    block_on(async {
        let a = id("a");
        let mut asking = Box::pin(registry.model(&a));
        asked(asking.as_mut()).await;
        loader.gate.wait_for_held(1);
        registry
            .reconfigure(with(&config, Vec::new()))
            .expect("good");
        // The load still stands before the gate.
        let error = asking.await.expect_err("removed");
        assert_eq!(error.class(), ErrorClass::UnknownModel);
        assert_eq!(
            error.to_string(),
            "model a was removed from the configuration while it was loading"
        );
    });
    loader.gate.open();
    settled(&registry, &loader, 0);
    assert!(registry.list().is_empty());
    // It counts as no load.
    registry.reconfigure(config).expect("good");
    let status = registry.status(&id("a")).expect("a status");
    assert_eq!((status.state, status.loads), (ModelState::Unloaded, 0));
}

#[test]
fn those_who_wait_for_a_model_that_is_changed_get_the_new_one() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 1, "ok")]);
    disk.avatar("other", 3, "ok");
    let (registry, loader) = registry(config.clone());
    loader.gate.close();
    block_on(async {
        let a = id("a");
        let mut asking = Box::pin(registry.model(&a));
        asked(asking.as_mut()).await;
        loader.gate.wait_for_held(1);
        registry
            .reconfigure(with(&config, vec![folder("a", disk.path("other"))]))
            .expect("good");
        assert_eq!(state(&registry, "a"), ModelState::Loading);
        loader.gate.wait_for_held(2);
        loader.gate.open();
        let lease = asking.await.expect("the new one");
        assert_eq!(lease.model.n_frames(), 3);
    });
    settled(&registry, &loader, WEIGHTS);
    let status = registry.status(&id("a")).expect("a status");
    assert_eq!((status.state, status.loads), (ModelState::Ready, 1));
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 2);
}

#[test]
fn a_load_that_nobody_waits_for_is_not_begun_anew() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 1, "ok")]);
    disk.avatar("other", 3, "ok");
    let (registry, loader) = registry(config.clone());
    loader.gate.close();
    block_on(async {
        let a = id("a");
        let mut asking = Box::pin(registry.model(&a));
        asked(asking.as_mut()).await;
        loader.gate.wait_for_held(1);
    });
    registry
        .reconfigure(with(&config, vec![folder("a", disk.path("other"))]))
        .expect("good");
    assert_eq!(state(&registry, "a"), ModelState::Unloaded);
    loader.gate.open();
    settled(&registry, &loader, 0);
    assert_eq!(state(&registry, "a"), ModelState::Unloaded);
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 1);
}

#[test]
fn added_and_changed_models_are_preloaded_if_they_are_to_be() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 1, "ok")]);
    let preload = |model: ModelConfig| ModelConfig {
        preload: true,
        ..model
    };
    let models = vec![
        preload(config.models[0].clone()),
        preload(disk.avatar("b", 1, "bad")),
        preload(disk.avatar("c", 1, "ok")),
        disk.avatar("d", 1, "ok"),
    ];
    let (registry, loader) = registry(config.clone());
    model(&registry, "a");
    registry.reconfigure(with(&config, models)).expect("good");
    // One after the other, whatever becomes of each: the last one is ready when all are through.
    while state(&registry, "c") != ModelState::Ready {
        thread::yield_now();
    }
    let states: Vec<_> = registry.list().iter().map(|status| status.state).collect();
    assert_eq!(
        states,
        [
            ModelState::Ready,
            ModelState::Failed,
            ModelState::Ready,
            ModelState::Unloaded
        ]
    );
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 4);
}

#[test]
fn what_is_refused_changes_nothing() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 1, "ok"), disk.avatar("b", 1, "ok")]);
    let (registry, _) = registry(config.clone());
    let lease = model(&registry, "a");
    let revision = registry.watch_models();
    let [a, b] = [config.models[0].clone(), config.models[1].clone()];
    let fast = ModelConfig {
        fps: Some(121),
        ..b.clone()
    };
    let good = || RegistryConfig {
        max_models: 0,
        max_frame_bytes: 0,
        ..config.clone()
    };
    for (wrong, refusal, text) in [
        (
            with(&good(), vec![b.clone(), a, b]),
            ConfigRefused::DuplicateId { id: id("b") },
            "model b is configured twice",
        ),
        (
            with(&good(), vec![fast]),
            ConfigRefused::Fps {
                id: id("b"),
                fps: 121,
            },
            "model b: fps must be 1 to 120, not 121",
        ),
        (
            RegistryConfig {
                jpeg_quality: 0,
                ..good()
            },
            ConfigRefused::JpegQuality { quality: 0 },
            "jpeg_quality must be 1 to 100, not 0",
        ),
    ] {
        assert_eq!(refusal.to_string(), text);
        assert_eq!(registry.reconfigure(wrong), Err(refusal));
    }
    assert!(!revision.has_changed().expect("the registry lives"));
    lease.model.background(0).expect("a frame");
    assert!(registry.frame_bytes() > 0);
    assert_eq!(registry.n_ready(), 1);
    model(&registry, "b");
}

#[test]
fn a_failure_is_forgotten_with_the_configuration_that_failed() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 1, "bad")]);
    disk.avatar("good", 1, "ok");
    let (registry, _) = registry(config.clone());
    block_on(registry.model(&id("a"))).expect_err("bad");
    let failed = registry.watch_failed(&id("a")).expect("known");
    assert!(*failed.borrow());
    registry
        .reconfigure(with(&config, vec![folder("a", disk.path("good"))]))
        .expect("good");
    assert!(!*failed.borrow());
    assert_eq!(state(&registry, "a"), ModelState::Unloaded);
    model(&registry, "a");
    registry
        .reconfigure(with(&config, Vec::new()))
        .expect("good");
    assert!(failed.has_changed().is_err(), "nothing more is to come");
}

#[test]
fn a_model_that_comes_back_counts_on() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 1, "ok")]);
    let (registry, _) = registry(config.clone());
    let lease = model(&registry, "a");
    registry
        .reconfigure(with(&config, Vec::new()))
        .expect("good");
    lease.model.record_use(3, Duration::from_millis(1));
    registry.reconfigure(config).expect("good");
    model(&registry, "a");
    let status = registry.status(&id("a")).expect("a status");
    assert_eq!((status.usage_count, status.frames), (2, 3));
    assert_eq!((status.loads, status.unloads), (2, 1));
}

#[test]
fn no_pack_is_baked_for_a_model_that_is_gone() {
    let disk = Disk::new();
    let config = settings(vec![disk.avatar("a", 4, "ok")]);
    let (registry, _) = registry(config.clone());
    let lease = model(&registry, "a");
    registry
        .reconfigure(with(&config, Vec::new()))
        .expect("good");
    let effort = BakeEffort {
        n_threads: NonZeroUsize::MIN,
        is_background: false,
        stop: &AtomicBool::new(false),
    };
    let baked = lease.model.frames.bake(&effort, &mut |_| ());
    assert!(matches!(baked, Err(PackFault::Stopped)));
    let files = fs::read_dir(disk.path("a")).expect("a folder");
    let names: Vec<_> = files
        .map(|file| file.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().contains("pack"))
        .collect();
    assert!(names.is_empty(), "{names:?}");
}
