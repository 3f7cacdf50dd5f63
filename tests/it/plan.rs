//! What `lipsync-server plan` says of a GPU, beside what a made-up device counts that serves the same configuration.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lipsync_engine::{
    cuda::{FakeDevice, encoder_bytes},
    network_writer::{variants::write_variant, write_audio_encoder},
};
use lipsync_server::{
    Config, EngineLoader,
    capacity_plan::{CapacityPlan, DeviceNeeds},
    capacity_reading::PlannedDevices,
};

use crate::support::{TestServer, avatar, speech::windows_request};

const MEMORY: u64 = 80 << 30;
/// Each with its network and its background frames.
const MODELS: [(&str, &str, u32); 4] = [
    ("a", "small-opset12", 9),
    ("b", "small-opset15", 30),
    ("c", "small-328-plumbing", 12),
    ("d", "small-328-plumbing", 7),
];

fn write_models(folder: &Path) -> Result<String> {
    let mut yaml = "server: {worker_count: 3}\ncapacity: {bake: off}\nmodels:\n".to_owned();
    for (id, network, n_frames) in MODELS {
        let generator = write_variant(network).context("a variant")?;
        let encoder = write_audio_encoder(32, 13, false, 1);
        avatar::write(&folder.join(id), n_frames, &generator, &encoder)?;
        yaml += &format!("  {id}: {{path: {id}, preload: true}}\n");
    }
    Ok(yaml)
}

/// What is planned for a configuration, and the bytes that a device of 80 GB counts once its server has answered for
/// every background frame.
async fn planned_and_counted(engine: &str) -> Result<(DeviceNeeds, u64)> {
    let folder = tempfile::tempdir()?;
    let yaml = write_models(folder.path())? + engine;
    let config = || Config::parse(&yaml, &folder.path().join("config.yaml"), []);
    let devices = PlannedDevices {
        n: 1,
        bytes: Some(MEMORY),
    };
    let (plan, unplanned) = CapacityPlan::read(config()?, devices);
    ensure!(unplanned.is_empty(), "{unplanned:?}");

    let device = FakeDevice::new(0, MEMORY);
    let loader = EngineLoader::choose(&config()?, vec![device.open()])?;
    let server = TestServer::start(&yaml, folder.path(), loader).await?;
    let client = server.client().await?;
    for (id, _, n_frames) in MODELS {
        let values = vec![0.5; usize::try_from(n_frames)?];
        let answer = client
            .infer_batch_composite(windows_request(id, &values))
            .await?;
        ensure!(answer.frames.len() == values.len());
    }
    Ok((plan.on_gpu(), device.used_bytes()))
}

fn assert_near(planned: u64, counted: u64) {
    assert!(
        planned.abs_diff(counted) * 100 <= counted,
        "{planned} bytes planned, {counted} counted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_what_the_served_models_take() -> Result<()> {
    let engine = "engine: {device: cuda, max_batch: 4, visual_cache_mb: 4096}";
    let (planned, counted) = planned_and_counted(engine).await?;
    assert_near(planned.total(), counted);
    // None of them could be left out unnoticed. The weights of such small networks could; a test of the loader compares
    // those to the byte.
    let DeviceNeeds {
        arenas,
        captured,
        visual_cache,
        ..
    } = planned;
    for part in [arenas, captured, visual_cache] {
        assert!(part * 20 > planned.total(), "{planned:?}");
    }
    Ok(())
}

/// Models whose encoders are equal share one.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_knows_audio_encoders_on_a_gpu() -> Result<()> {
    let engine = "engine: {device: cuda, max_batch: 4, visual_cache_mb: 0, encoder_device: gpu}";
    let (planned, counted) = planned_and_counted(engine).await?;
    assert_near(planned.total(), counted);
    let encoder = encoder_bytes(&write_audio_encoder(32, 13, false, 1))?;
    assert!(encoder * 20 > planned.total(), "it could not be left out");
    assert!(planned.weights >= encoder && planned.weights < 2 * encoder);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_knows_a_cache_that_is_too_small_for_all_frames() -> Result<()> {
    let engine = "engine: {device: cuda, max_batch: 4, visual_cache_mb: 24}";
    let (planned, counted) = planned_and_counted(engine).await?;
    assert_near(planned.total(), counted);
    let engine = "engine: {device: cuda, max_batch: 4, visual_cache_mb: 0}";
    let (planned, counted) = planned_and_counted(engine).await?;
    assert_eq!(planned.visual_cache, 0);
    assert_near(planned.total(), counted);
    Ok(())
}
