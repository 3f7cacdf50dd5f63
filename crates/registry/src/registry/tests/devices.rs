//! Several devices: where models go, and who goes for them there.

use std::sync::Arc;

use lipsync_engine::{Device, MakeRoom as _};

use lipsync_testing::FileLoader;

use crate::{
    ErrorClass, Registry, RegistryConfig, RegistryError,
    testing::{Disk, WEIGHTS, block_on, id, settings},
};

const GPUS: [Device; 2] = [Device::Cuda(0), Device::Cuda(1)];

/// Models `a` to `d` on GPUs whose limits, as told and real, are given in models.
fn registry(disk: &Disk, gpus: &[(u64, u64)]) -> (Registry, Arc<FileLoader>) {
    let names = ["a", "b", "c", "d"];
    let models = names.map(|name| disk.avatar(name, 1, "")).to_vec();
    with(settings(models), gpus, 0)
}

fn with(
    config: RegistryConfig,
    gpus: &[(u64, u64)],
    arena_bytes: u64,
) -> (Registry, Arc<FileLoader>) {
    let in_bytes = |&(told, real): &(u64, u64)| (told * WEIGHTS, real * WEIGHTS);
    let loader = Arc::new(FileLoader {
        gpus: gpus.iter().map(in_bytes).collect(),
        arena_bytes,
        ..FileLoader::default()
    });
    (Registry::new(config, Arc::clone(&loader) as _), loader)
}

fn load(registry: &Registry, name: &str) -> Result<Device, RegistryError> {
    let lease = block_on(registry.model(&id(name)))?;
    Ok(lease.model.generator().device())
}

/// The devices of the models that are loaded, as `ListModels` tells them.
fn shown(registry: &Registry) -> Vec<(String, String)> {
    let of = |m: crate::ModelStatus| Some((m.id.to_string(), m.device?));
    registry.list().into_iter().filter_map(of).collect()
}

#[test]
fn models_are_spread_over_the_devices() {
    let disk = Disk::new();
    let (registry, _) = registry(&disk, &[(9, 9), (9, 9)]);
    for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        assert_eq!(load(&registry, name).unwrap(), GPUS[n % 2]);
    }
    let shown = shown(&registry);
    assert_eq!(shown[0], ("a".into(), "cuda:0".into()));
    assert_eq!(shown[1], ("b".into(), "cuda:1".into()));
    // What is given back is free for the next.
    registry.unload(&id("b")).unwrap();
    assert_eq!(load(&registry, "b").unwrap(), GPUS[1]);
}

#[test]
fn a_full_device_is_passed_over_and_only_its_own_models_go() {
    let disk = Disk::new();
    let (registry, _) = registry(&disk, &[(1, 9), (2, 9)]);
    let order: Vec<_> = ["a", "b", "c"]
        .map(|name| load(&registry, name).unwrap())
        .into();
    assert_eq!(order, [GPUS[0], GPUS[1], GPUS[1]]);
    // All are idle; the least charged device is looked at first, and gives its only one.
    assert_eq!(load(&registry, "d").unwrap(), GPUS[0]);
    let left: Vec<_> = shown(&registry).into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, ["b", "c", "d"]);
}

#[test]
fn with_every_device_in_use_the_load_is_refused() {
    let disk = Disk::new();
    let (registry, _) = registry(&disk, &[(1, 9), (1, 9)]);
    let held = ["a", "b"].map(|name| block_on(registry.model(&id(name))).unwrap());
    let error = load(&registry, "c").unwrap_err();
    assert_eq!(error.class(), ErrorClass::NoRoom, "{error}");
    drop(held);
    assert!(load(&registry, "c").is_ok());
}

#[test]
fn a_device_that_has_less_than_it_said_is_made_room_on_and_then_refuses() {
    let disk = Disk::new();
    let (registry, loader) = registry(&disk, &[(9, 2)]);
    for name in ["a", "b", "c"] {
        load(&registry, name).unwrap();
    }
    let left: Vec<_> = shown(&registry).into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, ["b", "c"], "the oldest went, and only it");
    let held = ["b", "c"].map(|name| block_on(registry.model(&id(name))).unwrap());
    let error = load(&registry, "d").unwrap_err();
    assert_eq!(error.class(), ErrorClass::NoRoom, "{error}");
    drop(held);
    load(&registry, "d").unwrap();
    assert_eq!(loader.on_gpus.lock().unwrap()[&GPUS[0]], 2 * WEIGHTS);
    assert_eq!(registry.reserved_bytes(), 2 * WEIGHTS);
}

#[test]
fn what_workers_keep_is_counted_once() {
    let disk = Disk::new();
    let models = ["a", "b", "c"]
        .map(|name| disk.avatar(name, 1, ""))
        .to_vec();
    // The device has room for three models, or for two and the workers' memory, which are no weights.
    let config = RegistryConfig {
        max_bytes: 2 * WEIGHTS,
        ..settings(models)
    };
    let (registry, _) = with(config, &[(3, 9)], WEIGHTS);
    for name in ["a", "b", "c"] {
        load(&registry, name).unwrap();
    }
    assert_eq!(shown(&registry).len(), 2);
    assert_eq!(registry.reserved_bytes(), 2 * WEIGHTS);
}

#[test]
fn a_run_without_memory_makes_idle_models_of_its_device_go() {
    let disk = Disk::new();
    let (registry, _) = registry(&disk, &[(9, 9), (9, 9)]);
    let in_use = block_on(registry.model(&id("a"))).unwrap();
    for name in ["b", "c", "d"] {
        load(&registry, name).unwrap();
    }
    // On cuda:0 there are a, in use, and c.
    assert!(registry.make_room(GPUS[0], 5 * WEIGHTS));
    let left: Vec<_> = shown(&registry).into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, ["a", "b", "d"]);
    assert!(!registry.make_room(GPUS[0], 1), "what is in use stays");
    assert!(!registry.make_room(Device::Cuda(7), 1));
    assert!(registry.make_room(GPUS[1], 1));
    assert_eq!(registry.n_ready(), 2, "no more than were asked for");
    drop(in_use);
}

#[test]
fn on_a_gpu_audio_encoders_are_charged_to_the_host() {
    let disk = Disk::new();
    disk.network("e.onnx", "");
    let model = crate::ModelConfig {
        audio_encoder: Some(disk.path("e.onnx")),
        ..disk.avatar("a", 1, "")
    };
    let config = RegistryConfig {
        max_bytes: 2 * WEIGHTS,
        ..settings(vec![model, disk.avatar("b", 1, "")])
    };
    let (registry, _) = with(config, &[(9, 9)], 0);
    load(&registry, "a").unwrap();
    load(&registry, "b").unwrap();
    assert_eq!(registry.n_ready(), 2, "two on the GPU, an encoder beside");
    assert_eq!(registry.reserved_bytes(), 3 * WEIGHTS);
    let precision = registry.status(&id("a")).unwrap().precision.unwrap();
    assert_eq!(precision.name(), "f16");
}

#[test]
fn audio_encoders_that_run_on_a_gpu_are_charged_there_and_shared_there() {
    let disk = Disk::new();
    disk.network("e.onnx", "");
    let models = ["a", "b", "c"].map(|name| crate::ModelConfig {
        audio_encoder: Some(disk.path("e.onnx")),
        ..disk.avatar(name, 1, "")
    });
    let loader = Arc::new(FileLoader {
        gpus: vec![(9 * WEIGHTS, 9 * WEIGHTS); 2],
        encodes_on_gpus: true,
        ..FileLoader::default()
    });
    let config = RegistryConfig {
        // A generator, and an encoder with what it needs to run; not one more.
        max_bytes: 4 * WEIGHTS,
        ..settings(models.to_vec())
    };
    let registry = Registry::new(config, loader);
    let load = |name| {
        let lease = block_on(registry.model(&id(name))).unwrap();
        let model = &lease.model;
        let encoder = Arc::clone(model.audio_encoder().unwrap());
        assert_eq!(encoder.device(), model.generator().device());
        encoder
    };
    let [a, b] = ["a", "b"].map(load);
    assert_eq!([a.device(), b.device()], GPUS);
    assert_eq!(registry.reserved_bytes(), 2 * 3 * WEIGHTS);
    let c = load("c");
    assert_eq!(registry.n_ready(), 2, "one of the others has gone");
    assert!([a, b].iter().any(|other| Arc::ptr_eq(other, &c)));
}

#[test]
fn a_generator_whose_values_a_gpu_does_not_hold_is_refused_there_and_nowhere_else() {
    let disk = Disk::new();
    let models = vec![
        disk.avatar("a", 3, "saturates"),
        disk.avatar("b", 3, "cramped"),
    ];
    let (registry, loader) = with(settings(models.clone()), &[(9, 9)], 0);
    let error = load(&registry, "a").unwrap_err();
    assert_eq!(error.class(), ErrorClass::BrokenModel, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("fp16") && text.contains("7 of them"),
        "{text}"
    );
    assert_eq!(loader.on_gpus.lock().unwrap()[&GPUS[0]], 0);
    // Too little memory for a moment says nothing of the network.
    assert_eq!(load(&registry, "b").unwrap(), GPUS[0]);
    // Silence, and something else.
    let tried = loader.tried.lock().unwrap().clone();
    assert_eq!(tried.len(), 2);
    for windows in &tried {
        let is_silent = |window: &Vec<f32>| window.iter().all(|&x| x == 0.0);
        assert_eq!(
            windows.iter().map(is_silent).collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(windows[0].len(), windows[1].len());
    }
    let (registry, loader) = with(settings(models), &[], 0);
    assert_eq!(load(&registry, "a").unwrap(), Device::Cpu);
    assert!(loader.tried.lock().unwrap().is_empty());
}
