//! What devices do to requests: batches that several share, too little memory, faults, a device that is lost.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use lipsync::v1;
use lipsync_testing::{FAULT, LOST, NO_MEMORY};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::support::{FakeLoader, HeldGate, TestServer, avatar, speech::windows_request};

/// A server of models `a` and `b` on made-up GPUs, with one worker each.
async fn on_gpus(n_gpus: u32, folder: &Path) -> Result<(TestServer, FakeLoader)> {
    for id in ["a", "b"] {
        avatar::write_fake(&folder.join(id), 3)?;
    }
    let loader = FakeLoader {
        n_gpus,
        ..FakeLoader::default()
    };
    let same = FakeLoader {
        gate: Arc::clone(&loader.gate),
        n_gpus,
    };
    let yaml = "server: {worker_count: 1, shutdown_grace_s: 10}\n\
                models: {a: {path: a, preload: true}, b: {path: b, preload: true}}";
    let server = TestServer::start(yaml, folder, Arc::new(loader)).await?;
    Ok((server, same))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_a_batch_gets_what_it_gets_alone() -> Result<()> {
    const N_CLIENTS: u8 = 16;
    let folder = tempfile::tempdir()?;
    let (server, loader) = on_gpus(1, folder.path()).await?;
    let client = server.client().await?;
    let request = |n: u8| windows_request("a", &[f32::from(n), f32::from(n + 100)]);
    let mut alone = Vec::new();
    for n in 0..N_CLIENTS {
        alone.push(client.infer_batch_composite(request(n)).await?.frames);
    }
    let gate = HeldGate::close(&loader.gate);
    let together: Vec<_> = (0..N_CLIENTS)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.infer_batch_composite(request(n)).await })
        })
        .collect();
    let n_all = 2 * u64::from(N_CLIENTS);
    server.until("all wait", |s| s.submitted == n_all).await?;
    gate.open();
    let mut largest = 0;
    for (answer, expected) in together.into_iter().zip(alone) {
        let answer = answer.await??;
        assert_eq!(answer.frames, expected);
        largest = largest.max(answer.timings.context("timings")?.batch_frames);
    }
    assert!(largest > 2, "no batch was shared");
    let shared = server.stats().await?.shared_batches.context("counted")?;
    assert!(shared.full + shared.idle + shared.wait_over > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_workers_say_where_they_are() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _) = on_gpus(2, folder.path()).await?;
    let client = server.client().await?;
    let mut admin = client.model_admin();
    let list = admin.list_models(v1::ListModelsRequest {}).await?;
    let models = list.into_inner().models;
    let places: Vec<_> = models.iter().map(|m| (&*m.model_id, &*m.device)).collect();
    assert_eq!(places, [("a", "cuda:0"), ("b", "cuda:1")]);
    assert!(
        models
            .iter()
            .all(|m| m.reserved_bytes == 2000 && m.precision == "f16")
    );
    let workers = server.stats().await?.workers;
    let devices: Vec<_> = workers.iter().map(|w| &*w.device).collect();
    assert_eq!(devices, ["cuda:0", "cuda:1"], "at least one a device");
    for (id, worker) in [("a", 0), ("b", 1)] {
        let answer = client
            .infer_batch_composite(windows_request(id, &[1.0]))
            .await?;
        assert_eq!(answer.timings.context("timings")?.workers, [worker]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_a_request_is_refused_with_advice() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _) = on_gpus(1, folder.path()).await?;
    let client = server.client().await?;
    let starved = client.infer_batch_composite(windows_request("a", &[NO_MEMORY, 1.0]));
    let status = starved.await.expect_err("no memory");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = status.get_error_details();
    assert!(details.retry_info().is_some(), "{status:?}");
    // Another model that nobody used went for it; this one serves on.
    let resident = |s: &v1::GetServerStatsResponse| s.models_loaded == 1;
    server.until("b has gone", resident).await?;
    client
        .infer_batch_composite(windows_request("a", &[1.0]))
        .await?;
    assert!(server.stats().await?.workers[0].out_of_memory > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_fault_fails_one_request() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _) = on_gpus(1, folder.path()).await?;
    let client = server.client().await?;
    let struck = client.infer_batch_composite(windows_request("a", &[FAULT]));
    assert_eq!(struck.await.expect_err("a fault").code(), Code::Internal);
    client
        .infer_batch_composite(windows_request("a", &[1.0]))
        .await?;
    let stats = server.stats().await?;
    // It is tried four times.
    assert_eq!((stats.workers[0].faults, stats.failed), (4, 1));
    assert!(!stats.draining);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_device_ends_the_server_in_good_order() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _) = on_gpus(2, folder.path()).await?;
    let client = server.client().await?;
    let address = format!("http://{}", server.address());
    let mut health = HealthClient::new(Endpoint::from_shared(address)?.connect().await?);
    let request = || HealthCheckRequest {
        service: "liveness".into(),
    };
    let mut watched = health.watch(request()).await?.into_inner();
    let first = watched.message().await?.context("a first answer")?;
    assert_eq!(first.status(), ServingStatus::Serving);

    let lost = server.running().device_lost();
    let struck = client.infer_batch_composite(windows_request("a", &[LOST]));
    let status = struck.await.expect_err("the device is lost");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let lost = tokio::time::timeout(Duration::from_secs(60), lost).await?;
    assert_eq!(
        (lost.device.to_string(), &*lost.reason),
        ("cuda:0".into(), "asked to fail")
    );
    let next = watched.message().await?.context("a second answer")?;
    assert_eq!(next.status(), ServingStatus::NotServing);
    for id in ["a", "b"] {
        let late = client.infer_batch_composite(windows_request(id, &[1.0]));
        let status = late.await.expect_err("nothing is taken any more");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    assert!(server.shut_down().await, "all that was accepted has ended");
    Ok(())
}
