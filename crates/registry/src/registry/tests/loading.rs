//! How models come into memory, and what happens when they cannot.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use lipsync_core::AudioKind;
use lipsync_engine::Precision;

use crate::{
    ErrorClass, Figures, ModelConfig, ModelState, PackState, PrecisionReason, RegistryError,
    Verdict, lock,
    testing::{Disk, WEIGHTS, block_on, id, registry, settings},
};

#[test]
fn a_model_is_loaded_once_however_many_ask() {
    const N_TASKS: usize = 100;
    let disk = Disk::new();
    let (registry, loader) = registry(settings(vec![disk.avatar("mira", 1, "ok")]));
    loader.gate.close();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let n_asked = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..N_TASKS)
            .map(|_| {
                let (registry, n_asked) = (registry.clone(), Arc::clone(&n_asked));
                tokio::spawn(async move {
                    n_asked.fetch_add(1, Ordering::SeqCst);
                    registry.model(&id("mira")).await
                })
            })
            .collect();
        // On one thread a task that has counted goes on until it waits for the load.
        while n_asked.load(Ordering::SeqCst) < N_TASKS {
            tokio::task::yield_now().await;
        }
        let state = registry.status(&id("mira")).expect("a status").state;
        assert_eq!(state, ModelState::Loading);
        loader.gate.open();
        let mut leases = Vec::new();
        for task in tasks {
            leases.push(task.await.expect("no panic").expect("a model"));
        }
        assert!(
            leases
                .iter()
                .all(|l| Arc::ptr_eq(&l.model, &leases[0].model))
        );
        assert!(leases.iter().all(|l| l.load_time > Duration::ZERO));
        let again = registry.model(&id("mira")).await.expect("resident");
        assert_eq!(again.load_time, Duration::ZERO);
    });
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 1);
    assert_eq!(loader.n_warm_ups.load(Ordering::SeqCst), 1);
    let status = registry.status(&id("mira")).expect("a status");
    assert_eq!((status.loads, status.usage_count), (1, 101));
}

#[test]
fn a_load_goes_on_when_everyone_who_asked_has_gone() {
    let disk = Disk::new();
    let (registry, loader) = registry(settings(vec![disk.avatar("mira", 1, "ok")]));
    loader.gate.close();
    block_on(async {
        let mira = id("mira");
        let mut asked = Box::pin(registry.model(&mira));
        let once = std::future::poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending()));
        assert!(once.await);
        drop(asked);
        loader.gate.open();
        registry.load(&id("mira")).await.expect("a model");
    });
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 1);
    let status = registry.status(&id("mira")).expect("a status");
    assert_eq!((status.loads, status.usage_count), (1, 0));
}

#[test]
fn equal_encoder_files_are_held_once() {
    let disk = Disk::new();
    for name in ["one.onnx", "two.onnx"] {
        disk.network(name, "ok");
    }
    disk.network("other.onnx", "encoder");
    let with = |name, encoder: &str| ModelConfig {
        audio_encoder: Some(disk.path(encoder)),
        ..disk.avatar(name, 1, "ok")
    };
    let models = vec![
        with("anna", "one.onnx"),
        with("bob", "two.onnx"),
        with("carl", "other.onnx"),
    ];
    let (registry, _) = registry(settings(models));
    let encoder = |name| {
        let lease = block_on(registry.model(&id(name))).expect("a model");
        lease.model.audio_encoder().map(Arc::clone).expect("one")
    };
    let [anna, bob, carl] = ["anna", "bob", "carl"].map(encoder);
    assert!(Arc::ptr_eq(&anna, &bob) && !Arc::ptr_eq(&anna, &carl));
}

#[test]
fn status_and_statistics_survive_an_unload() {
    let disk = Disk::new();
    disk.network("encoder.onnx", "ok");
    let config = ModelConfig {
        audio_encoder: Some(disk.path("encoder.onnx")),
        ..disk.avatar("mira", 3, "ok")
    };
    let (registry, _) = registry(settings(vec![config]));
    let before = registry.status(&id("mira")).expect("a status");
    assert_eq!(before.state, ModelState::Unloaded);
    assert_eq!(
        (before.info, before.device, before.last_used_unix_ms),
        (None, None, None)
    );

    let lease = block_on(registry.model(&id("mira"))).expect("a model");
    lease.model.record_use(5, Duration::from_millis(30));
    lease.model.record_use(2, Duration::from_millis(12));
    lease.model.background(2).expect("a frame");
    let ready = registry.status(&id("mira")).expect("a status");
    assert_eq!(
        (ready.state, ready.device.as_deref()),
        (ModelState::Ready, Some("fake"))
    );
    assert_eq!(ready.weights_bytes, 2 * WEIGHTS);
    assert_eq!(ready.reserved_bytes, 2 * WEIGHTS);
    assert_eq!(registry.reserved_bytes(), ready.reserved_bytes);
    let cache = ready.background_cache.expect("a cache");
    assert_eq!((cache.misses, cache.resident_frames), (1, 1));
    assert_eq!(registry.frame_bytes(), cache.resident_bytes);
    assert_eq!(
        registry.resident_bytes(),
        2 * WEIGHTS + cache.resident_bytes
    );
    assert_eq!(ready.pack, Some(PackState::None));
    let info = ready.info.expect("known");
    assert_eq!((info.n_frames, info.width, info.fps.get()), (3, 8, 25));
    drop(lease);

    assert!(registry.unload(&id("mira")).expect("configured"));
    assert!(!registry.unload(&id("mira")).expect("configured"));
    let after = registry.status(&id("mira")).expect("a status");
    assert_eq!(after.state, ModelState::Unloaded);
    assert_eq!((after.usage_count, after.frames), (1, 7));
    assert_eq!(after.total_inference, Duration::from_millis(42));
    assert_eq!((after.loads, after.unloads), (1, 1));
    assert_eq!((after.weights_bytes, after.info), (0, Some(info)));
    assert!(after.last_used_unix_ms > Some(1_500_000_000_000));
    assert_eq!(
        (registry.resident_bytes(), registry.reserved_bytes()),
        (0, 0)
    );
}

#[test]
fn unknown_models_are_refused() {
    let (registry, _) = registry(settings(Vec::new()));
    let nobody = id("nobody");
    let error = block_on(registry.model(&nobody)).expect_err("unknown");
    assert_eq!(error.class(), ErrorClass::UnknownModel);
    assert_eq!(error.to_string(), "unknown model nobody");
    assert!(registry.status(&nobody).is_err() && registry.unload(&nobody).is_err());
    assert!(!registry.contains(&nobody) && registry.resident(&nobody).is_none());
}

#[test]
fn a_failed_load_says_why_and_is_tried_again() {
    let disk = Disk::new();
    let (registry, loader) = registry(settings(vec![disk.avatar("mira", 1, "bad")]));
    for n_tries in 1..=2 {
        let error = block_on(registry.model(&id("mira"))).expect_err("a bad file");
        assert_eq!(error.class(), ErrorClass::BrokenModel);
        assert_eq!(loader.n_generators.load(Ordering::SeqCst), n_tries);
    }
    let status = registry.status(&id("mira")).expect("a status");
    assert_eq!(status.state, ModelState::Failed);
    let failure = status.failure.expect("a reason");
    assert_eq!(
        failure,
        "the generator: not a usable ONNX model: not protobuf"
    );
    assert_eq!((status.loads, registry.reserved_bytes()), (0, 0));

    disk.network("mira/g.onnx", "ok");
    block_on(registry.model(&id("mira"))).expect("repaired");
    let status = registry.status(&id("mira")).expect("a status");
    assert_eq!((status.state, status.failure), (ModelState::Ready, None));
}

#[test]
fn what_is_wrong_with_a_model_is_named_without_paths() {
    let disk = Disk::new();
    disk.network("short.onnx", "short");
    let with_encoder = |model: ModelConfig| ModelConfig {
        audio_encoder: Some(disk.path("short.onnx")),
        ..model
    };
    let cases = [
        (
            disk.avatar("panic", 1, "panic"),
            "internal error: loading the model panicked",
        ),
        (
            disk.avatar("cold", 1, "cold"),
            "the warm-up of the generator: the device failed: fell off the bus",
        ),
        (
            disk.avatar("hubert", 1, "hubert"),
            "the model does not fit its audio kind: expected ave windows of [[32, 16, 16]], \
             found [32, 32, 32], which audio_kind: hubert has",
        ),
        (
            with_encoder(disk.avatar("steps", 1, "ok")),
            "the model does not fit its audio kind: expected the audio encoder of ave, 512 floats a \
             step, found one of 256 floats a step",
        ),
        (
            with_encoder(ModelConfig {
                audio_kind: Some(AudioKind::Hubert),
                ..disk.avatar("clients", 1, "hubert")
            }),
            "the model does not fit its audio kind: expected the audio encoder of hubert, 2048 floats \
             a step, found one of 256 floats a step",
        ),
        (
            disk.avatar("gone", 1, "ok"),
            "the generator cannot be read: it does not exist",
        ),
        (
            disk.avatar("yaml", 1, "ok"),
            "avatar.yaml is invalid at line 1, column 1",
        ),
    ];
    fs::remove_file(disk.path("gone/g.onnx")).expect("removed");
    disk.write("yaml/avatar.yaml", "just words");
    let (registry, _) = registry(settings(cases.iter().map(|c| c.0.clone()).collect()));
    for (model, expected) in &cases {
        let error = block_on(registry.model(&model.id)).expect_err(expected);
        assert_eq!(error.to_string(), *expected);
        let root = disk.root.path().display().to_string();
        assert!(!error.to_string().contains(&root));
        assert!(error.path().is_none() || error.detail().contains(&root));
    }
    assert_eq!(registry.reserved_bytes(), 0);
}

#[test]
fn files_beyond_their_bound_are_refused_unread() {
    let disk = Disk::new();
    let config = disk.avatar("mira", 1, "ok");
    // A sparse file: it takes no room on the disk.
    let file = fs::File::create(disk.path("mira/g.onnx")).expect("a file");
    file.set_len((1 << 30) + 1).expect("sparse");
    let (registry, loader) = registry(settings(vec![config]));
    let error = block_on(registry.model(&id("mira"))).expect_err("too large");
    assert!(matches!(
        error,
        RegistryError::FileTooLarge {
            what: "generator",
            ..
        }
    ));
    assert_eq!(loader.n_generators.load(Ordering::SeqCst), 0);
}

#[test]
fn preloading_loads_what_is_marked_and_names_what_fails() {
    let disk = Disk::new();
    let marked = |name, words| ModelConfig {
        precision: None,
        preload: true,
        ..disk.avatar(name, 1, words)
    };
    let models = vec![
        marked("bad", "bad"),
        disk.avatar("lazy", 1, "ok"),
        marked("good", "ok"),
    ];
    let (registry, _) = registry(settings(models));
    let failed = block_on(registry.preload());
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].0, id("bad"));
    let states: Vec<_> = registry.list().iter().map(|s| s.state).collect();
    assert_eq!(
        states,
        [ModelState::Failed, ModelState::Ready, ModelState::Unloaded]
    );
    assert_eq!(registry.n_ready(), 1);
}

#[test]
fn a_generator_runs_in_bf16_once_its_verdict_is_good() {
    let disk = Disk::new();
    let (registry, loader) = registry(settings(vec![disk.avatar("mira", 1, "ok")]));
    loader.has_bf16.store(true, Ordering::SeqCst);
    let reload = || {
        block_on(async {
            let lease = registry.load(&id("mira")).await.expect("a model");
            let (path, in_use) = (
                lease.model.generator_path().to_owned(),
                lease.model.precision().clone(),
            );
            let status = registry.status(&id("mira")).expect("a status");
            assert_eq!(status.precision.as_ref(), Some(&in_use));
            drop(lease);
            registry.unload(&id("mira")).expect("unloaded");
            (path, in_use)
        })
    };
    let (path, before) = reload();
    assert_eq!(before.reason, PrecisionReason::NotCompared(Precision::Bf16));
    let verdict = Verdict {
        generator_sha256: Verdict::hash(&fs::read(&path).expect("the generator")),
        engine: "0".into(),
        kernels: "fake".into(),
        bf16: Figures {
            frames: 10,
            psnr_mean_db: 50.0,
            psnr_min_db: 45.5,
            relative_l2: 0.01,
        },
        int16: None,
        int8: None,
        int8_vnni: None,
        int8_bf16: None,
    };
    verdict.write(&path, None).expect("written");
    let (_, after) = reload();
    assert_eq!(after.reason, PrecisionReason::Good(Precision::Bf16));
    assert_eq!(after.verdict, Some(verdict));
    loader.has_bf16.store(false, Ordering::SeqCst);
    assert_eq!(reload().1.reason, PrecisionReason::NoneFaster);
    let asked = lock(&loader.precisions).clone();
    assert_eq!(asked, [Precision::F32, Precision::Bf16, Precision::F32]);
}

#[test]
fn a_generator_whose_numbers_are_no_picture_is_refused_unless_the_manifest_takes_it() {
    let disk = Disk::new();
    let (registry, _) = registry(settings(vec![disk.avatar("mira", 1, "logits")]));
    let error = block_on(registry.model(&id("mira"))).expect_err("no picture");
    let text = error.to_string();
    assert!(
        text.contains("from -3 to 4.5") && text.contains("62 %"),
        "{text}"
    );
    assert!(text.contains("cut_output: true"), "{text}");
    assert_eq!(error.class(), ErrorClass::BrokenModel);
    let manifest = disk.path("mira/avatar.yaml");
    let yaml = fs::read_to_string(&manifest).expect("the manifest");
    fs::write(&manifest, format!("cut_output: true\n{yaml}")).expect("written");
    block_on(registry.model(&id("mira"))).expect("it is taken now");
}
