//! The CUDA engine under the whole server, on made-up devices: they execute the launches of real ones by
//! the kernels' scalar twins, count their memory, and fail where they are told to.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use lipsync::{client::Client, v1};
use lipsync_core::AudioKind;
use lipsync_engine::{
    Device,
    cuda::{Call, FakeDevice, Fault, Footprint},
    network_writer::{Unet, variants::write_variant, write_audio_encoder},
};
use lipsync_server::{
    Config, EngineLoader,
    process::{self, Ending},
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::support::{
    Gate, GatedLoader, HeldGate, PATIENCE, TestServer, avatar,
    speech::{babble, pcm_request, windows_request},
};

/// What all models run.
const NETWORK: &str = "small-opset12";
const MEMORY: u64 = 1 << 30;
/// Nothing but what requests ask for runs on the device: no frame is kept, and none prepared ahead.
const NOTHING_KEPT: &str = "engine: {device: cuda, max_batch: 8, visual_cache_mb: 0}\n";

/// As [`NOTHING_KEPT`], and speech is heard there.
const ENCODES: &str =
    "engine: {device: cuda, max_batch: 8, visual_cache_mb: 0, encoder_device: gpu}\n";
/// Samples of a frame.
const FRAME: usize = 640;

/// Writes models `a` and `b`, of one network and the same pictures; the configuration that preloads them.
fn write_models(folder: &Path) -> Result<String> {
    let generator = write_variant(NETWORK).context("a variant")?;
    for id in ["a", "b"] {
        let encoder = write_audio_encoder(32, 13, false, 1);
        avatar::write(&folder.join(id), 3, &generator, &encoder)?;
    }
    Ok(
        "server: {worker_count: 2, shutdown_grace_s: 10}\ncapacity: {bake: off}\n\
        models: {a: {path: a, preload: true}, b: {path: b, preload: true}}\n"
            .into(),
    )
}

/// A server on these devices. Generators stop at the gate, if there is one.
async fn serve(
    folder: &Path,
    engine: &str,
    devices: &[FakeDevice],
    gate: Option<&Arc<Gate>>,
) -> Result<TestServer> {
    let yaml = write_models(folder)? + engine;
    let config = Config::parse(&yaml, &folder.join("config.yaml"), [])?;
    let loader = EngineLoader::choose(&config, devices.iter().map(FakeDevice::open).collect())?;
    let loader = match gate {
        Some(gate) => Arc::new(GatedLoader::new(loader, gate)),
        None => loader,
    };
    TestServer::start(&yaml, folder, loader).await
}

/// Frames `start..` of a model, a window each, all filled with these values.
async fn frames(
    client: &Client,
    model: &str,
    start: u64,
    windows: &[f32],
) -> Result<v1::InferBatchCompositeResponse, tonic::Status> {
    let request = v1::InferBatchCompositeRequest {
        start_frame_index: start,
        ..windows_request(model, windows)
    };
    client.infer_batch_composite(request).await
}

/// What is to be seen in an answer.
fn pictures(answer: &v1::InferBatchCompositeResponse) -> Vec<Bytes> {
    answer.frames.iter().map(|f| f.data.clone()).collect()
}

/// The pictures of model `a`, each asked for alone.
async fn one_by_one(client: &Client, windows: &[f32]) -> Result<Vec<Bytes>> {
    let mut alone = Vec::new();
    for (index, window) in (0..).zip(windows) {
        alone.extend(pictures(&frames(client, "a", index, &[*window]).await?));
    }
    Ok(alone)
}

/// The others are served.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_values_fp16_does_not_hold_is_refused_with_that_reason() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = write_models(folder.path())? + NOTHING_KEPT;
    let generator = Unet {
        channels: [4, 6, 8, 12, 20],
        wide_gain: 1e6,
        ..Unet::new(160, AudioKind::Ave)
    };
    fs::write(folder.path().join("b/generator.onnx"), generator.write())?;
    let device = FakeDevice::new(0, MEMORY);
    let config = Config::parse(&yaml, &folder.path().join("config.yaml"), [])?;
    let loader = EngineLoader::choose(&config, vec![device.open()])?;
    let server = TestServer::start(&yaml, folder.path(), loader).await?;
    let client = server.client().await?;
    assert_eq!(frames(&client, "a", 0, &[0.5]).await?.frames.len(), 1);
    let status = frames(&client, "b", 0, &[0.5]).await.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("fp16"), "{status}");
    Ok(())
}

/// The windows of the `n`th of several clients.
fn windows(n: u8) -> [f32; 2] {
    [f32::from(n) / 8.0 - 1.0, 1.0 - f32::from(n) / 16.0]
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_clients_at_once_get_what_each_gets_alone() -> Result<()> {
    const N_CLIENTS: u8 = 16;
    let folder = tempfile::tempdir()?;
    let gate = Arc::new(Gate::default());
    let devices = [FakeDevice::new(0, MEMORY)];
    let engine = "engine: {device: cuda, max_batch: 8, visual_cache_mb: 64}";
    let server = serve(folder.path(), engine, &devices, Some(&gate)).await?;
    let client = server.client().await?;
    let mut alone = Vec::new();
    for n in 0..N_CLIENTS {
        let answer = frames(&client, "a", u64::from(n), &windows(n)[..1]).await?;
        let seen = pictures(&answer);
        assert!(
            !alone.contains(&seen),
            "client {n} asks for what another asks for"
        );
        alone.push(seen);
    }
    let closed = HeldGate::close(&gate);
    let together: Vec<_> = (0..N_CLIENTS)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { frames(&client, "a", u64::from(n), &windows(n)[..1]).await })
        })
        .collect();
    let n_all = 2 * u64::from(N_CLIENTS);
    server.until("all wait", |s| s.submitted == n_all).await?;
    closed.open();
    let mut largest = 0;
    for (answer, expected) in together.into_iter().zip(alone) {
        let answer = answer.await??;
        assert!(pictures(&answer) == expected, "a neighbour is seen");
        largest = largest.max(answer.timings.context("timings")?.batch_frames);
    }
    // How many the workers took before all had come is up to the clock.
    assert!((2..=8).contains(&largest), "{largest} frames at most");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_the_same_in_every_batch_and_on_every_device() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let devices = [0, 1].map(|ordinal| FakeDevice::new(ordinal, MEMORY));
    let server = serve(folder.path(), NOTHING_KEPT, &devices, None).await?;
    let client = server.client().await?;
    let list = client
        .model_admin()
        .list_models(v1::ListModelsRequest {})
        .await?;
    let models = list.into_inner().models;
    let places: Vec<_> = models.iter().map(|m| (&*m.model_id, &*m.device)).collect();
    let names = ["a", "b"]
        .into_iter()
        .zip(["cuda:0 (fake CUDA device)", "cuda:1 (fake CUDA device)"]);
    assert_eq!(places, names.collect::<Vec<_>>());
    // Weights, and what the workers have reserved to run them.
    let network = write_variant(NETWORK).context("a variant")?;
    let weights = Footprint::of(&network)?.weights_bytes;
    for device in &devices {
        let used = device.used_bytes();
        assert!(used > weights, "{used} bytes, {weights} of weights");
    }
    let values: Vec<f32> = (0..5).flat_map(windows).collect();
    let alone = one_by_one(&client, &values).await?;
    for (model, worker) in [("a", 0), ("b", 1)] {
        let answer = frames(&client, model, 0, &values).await?;
        assert!(pictures(&answer) == alone, "model {model}");
        assert_eq!(answer.timings.context("timings")?.workers, [worker]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_memory_sends_idle_models_away_then_halves_batches_then_refuses()
-> Result<()> {
    let folder = tempfile::tempdir()?;
    let devices = [FakeDevice::new(0, MEMORY)];
    let server = serve(folder.path(), NOTHING_KEPT, &devices, None).await?;
    let client = server.client().await?;
    let values: Vec<f32> = (0..4).flat_map(windows).collect();
    let alone = one_by_one(&client, &values).await?;
    let fail_times = |call, n| {
        (0..n).for_each(|n| devices[0].inject(call, n, Fault::OutOfMemory));
    };
    // The whole batch, when it is started behind others and when it is run; then nothing is left of the worker's memory.
    // Again without `b`, then the first half; there is room for its quarters.
    fail_times(Call::Launch, 2);
    fail_times(Call::Allocate, 2);
    let answer = frames(&client, "a", 0, &values).await?;
    assert!(pictures(&answer) == alone);
    assert!(answer.timings.context("timings")?.batch_frames <= 4);
    let stats = server.stats().await?;
    assert_eq!(stats.models_loaded, 1, "b has gone");
    let n_short: u64 = stats.workers.iter().map(|w| w.out_of_memory).sum();
    assert_eq!(n_short, 3);

    fail_times(Call::Launch, 64);
    fail_times(Call::Allocate, 64);
    let refused = frames(&client, "a", 0, &values).await;
    let status = refused.expect_err("there is no memory at all");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.get_error_details().retry_info().is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_passes_fails_a_batch_and_no_request() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let devices = [FakeDevice::new(0, MEMORY)];
    let server = serve(folder.path(), NOTHING_KEPT, &devices, None).await?;
    let client = server.client().await?;
    let expected = frames(&client, "a", 0, &windows(3)).await?.frames;
    for call in [Call::Copy, Call::Launch, Call::Synchronize] {
        devices[0].inject(call, 0, Fault::Recoverable);
        let struck = frames(&client, "a", 0, &windows(3)).await;
        assert!(
            struck?.frames == expected,
            "run again after a fault of {call:?}"
        );
        let next = frames(&client, "a", 0, &windows(3)).await?.frames;
        assert!(next == expected, "after a fault of {call:?}");
    }
    let stats = server.stats().await?;
    let n_faults: u64 = stats.workers.iter().map(|w| w.faults).sum();
    assert_eq!((n_faults, stats.failed, stats.draining), (3, 0, false));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_is_heard_on_the_device_where_that_is_configured() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let devices = [FakeDevice::new(0, MEMORY)];
    let server = serve(folder.path(), ENCODES, &devices, None).await?;
    let client = server.client().await?;
    let ask = async |seed| {
        let request = pcm_request("a", &babble(seed, 3 * FRAME));
        let answer = client.infer_batch_composite(request).await?;
        anyhow::Ok(pictures(&answer))
    };
    let count = || devices[0].n_calls(Call::Launch);
    let n_before = count();
    let expected = ask(3).await?;
    assert_eq!(expected.len(), 3);
    // What makes entries, what makes faces, and before them at least one batch of steps.
    assert!(count() > n_before + 2, "{} launches", count() - n_before);
    assert!(ask(4).await? != expected, "speech is heard");
    // The first thing that is started is the encoder's.
    devices[0].inject(Call::Launch, 0, Fault::Recoverable);
    assert!(ask(3).await? == expected, "encoded again after a fault");
    let stats = server.stats().await?;
    let n_faults: u64 = stats.workers.iter().map(|w| w.faults).sum();
    assert_eq!((n_faults, stats.failed), (0, 0), "no worker has met it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_lost_to_an_audio_encoder_ends_the_process_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = write_models(folder.path())? + ENCODES;
    let device = FakeDevice::new(0, MEMORY);
    let (address, ending) = live(&yaml, folder.path(), std::slice::from_ref(&device))?;
    let address = format!("http://{}", tokio::time::timeout(PATIENCE, address).await??);
    let client = Client::connect(&address).await?;
    device.inject(Call::Synchronize, 0, Fault::Hang);
    let struck = client.infer_batch_composite(pcm_request("a", &babble(3, FRAME)));
    let status = struck.await.expect_err("the device is lost");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let ending = tokio::time::timeout(PATIENCE, ending).await???;
    assert_eq!(ending.exit_code(), 4);
    Ok(())
}

/// A server's whole life on these devices: its address once it serves, and how it ends.
fn live(
    yaml: &str,
    folder: &Path,
    devices: &[FakeDevice],
) -> Result<(
    oneshot::Receiver<SocketAddr>,
    tokio::task::JoinHandle<Result<Ending>>,
)> {
    let ports = ["LIPSYNC_SERVER__PORT", "LIPSYNC_OPERATIONS__PORT"]
        .map(|name| (name.to_owned(), "127.0.0.1:0".to_owned()));
    let config = Config::parse(yaml, &folder.join("config.yaml"), ports)?;
    let cudas = devices.iter().map(FakeDevice::open).collect();
    let (ready, address) = oneshot::channel();
    let ending = tokio::spawn(async move {
        let (_nobody, mut signals) = mpsc::channel(1);
        let announce = |running: &lipsync_server::RunningServer| {
            // Whoever does not wait for it has its reasons.
            let _ = ready.send(running.address());
        };
        Ok(process::run(config, cudas, &mut signals, announce).await?)
    });
    Ok((address, ending))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_device_ends_the_process_with_its_own_exit_code() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = write_models(folder.path())? + NOTHING_KEPT;
    let devices = [0, 1].map(|ordinal| FakeDevice::new(ordinal, MEMORY));
    let (address, ending) = live(&yaml, folder.path(), &devices)?;
    let address = format!("http://{}", tokio::time::timeout(PATIENCE, address).await??);
    let mut health = HealthClient::new(Endpoint::from_shared(address.clone())?.connect().await?);
    let service = "liveness".into();
    let watch = health.watch(HealthCheckRequest { service });
    let mut watched = watch.await?.into_inner();
    let first = watched.message().await?.context("a first answer")?;
    assert_eq!(first.status(), ServingStatus::Serving);

    let client = Client::connect(&address).await?;
    devices[0].inject(Call::Synchronize, 0, Fault::Hang);
    let struck = frames(&client, "a", 0, &windows(0)).await;
    let status = struck.expect_err("the device is lost");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let next = watched.message().await?.context("a second answer")?;
    assert_eq!(next.status(), ServingStatus::NotServing);
    let ending = tokio::time::timeout(PATIENCE, ending).await???;
    assert_eq!(ending.exit_code(), 4);
    match ending {
        Ending::DeviceLost(lost) => assert_eq!(lost.device, Device::Cuda(0)),
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_lost_before_the_server_is_ready_has_the_same_exit_code() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = write_models(folder.path())? + NOTHING_KEPT;
    // While weights are copied to it, and while workers reserve their memory there.
    for (call, nth) in [(Call::Copy, 0), (Call::Allocate, 1)] {
        let device = FakeDevice::new(3, MEMORY);
        device.inject(call, nth, Fault::Sticky);
        let (address, ending) = live(&yaml, folder.path(), &[device])?;
        let ending = tokio::time::timeout(PATIENCE, ending).await???;
        assert_eq!(ending.exit_code(), 4, "{call:?}: {ending:?}");
        assert!(address.await.is_err(), "it never served");
    }
    // And before anything was asked of it.
    let device = FakeDevice::new(3, MEMORY);
    device.inject(Call::Copy, 0, Fault::Sticky);
    assert!(!device.open().wrong_kernels(1, 1).is_empty());
    let (_, ending) = live(&yaml, folder.path(), &[device])?;
    let ending = tokio::time::timeout(PATIENCE, ending).await???;
    assert_eq!(ending.exit_code(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preloaded_model_that_is_broken_is_no_lost_device() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = write_models(folder.path())? + NOTHING_KEPT + "strict: true\n";
    fs::write(folder.path().join("b/generator.onnx"), "no network")?;
    let (_, ending) = live(&yaml, folder.path(), &[FakeDevice::new(0, MEMORY)])?;
    let error = tokio::time::timeout(PATIENCE, ending).await??;
    let error = error.expect_err("it does not start").to_string();
    assert!(error.contains("\"b\""), "{error}");
    Ok(())
}
