//! `ModelAdmin` and `ServerAdmin`.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use lipsync::v1::{self, ModelState};
use tonic::Code;

use crate::support::{FakeLoader, TestServer, avatar, speech::windows_request};

async fn model_stats(server: &TestServer, id: &str) -> Result<v1::ModelStats> {
    let mut admin = server.client().await?.model_admin();
    let request = v1::GetModelStatsRequest {
        model_id: id.into(),
    };
    admin
        .get_model_stats(request)
        .await?
        .into_inner()
        .model
        .context("stats")
}

async fn two_models(folder: &Path) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), 3)?;
    let yaml = "capacity: {preload_frames: 0, bake: off}\nmodels: {a: {path: a}, b: {path: a}}";
    TestServer::start(yaml, folder, Arc::new(FakeLoader::default())).await
}

#[tokio::test]
async fn models_are_loaded_and_unloaded_on_request() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = two_models(folder.path()).await?;
    let mut admin = server.client().await?.model_admin();
    let all = admin
        .list_models(v1::ListModelsRequest {})
        .await?
        .into_inner()
        .models;
    let ids: Vec<&str> = all.iter().map(|m| m.model_id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert!(
        all.iter()
            .all(|m| m.state == i32::from(ModelState::Unloaded))
    );
    let load = v1::LoadModelRequest {
        model_id: "a".into(),
    };
    assert!(admin.load_model(load.clone()).await?.into_inner().load_us > 0);
    assert_eq!(admin.load_model(load).await?.into_inner().load_us, 0);
    assert_eq!(
        model_stats(&server, "a").await?.state,
        i32::from(ModelState::Ready)
    );
    assert_eq!(server.stats().await?.models_loaded, 1);
    let unload = v1::UnloadModelRequest {
        model_id: "a".into(),
    };
    assert!(
        admin
            .unload_model(unload.clone())
            .await?
            .into_inner()
            .was_loaded
    );
    assert!(!admin.unload_model(unload).await?.into_inner().was_loaded);
    let stats = model_stats(&server, "a").await?;
    assert_eq!(stats.state, i32::from(ModelState::Unloaded));
    assert_eq!((stats.loads, stats.unloads), (1, 1));
    assert_eq!(server.stats().await?.models_loaded, 0);
    let unknown = v1::GetModelStatsRequest {
        model_id: "nobody".into(),
    };
    let unknown = admin.get_model_stats(unknown).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_models_use_is_counted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = two_models(folder.path()).await?;
    // The walk from place 0 over three frames is 1, 2, 1, 0, 1: two of five are hits.
    server
        .client()
        .await?
        .infer_batch_composite(windows_request("a", &[1.0; 5]))
        .await?;
    let stats = model_stats(&server, "a").await?;
    assert_eq!((stats.usage_count, stats.frames, stats.loads), (1, 5, 1));
    assert_eq!((stats.fps, stats.n_background_frames), (25, 3));
    assert_eq!((stats.width, stats.height), avatar::SIZE);
    assert_eq!(stats.device, "fake");
    assert!(stats.weights_bytes > 0 && stats.last_used_unix_ms > 0);
    let cache = stats.background_cache.context("cache")?;
    assert_eq!((cache.requests, cache.hits, cache.misses), (5, 2, 3));
    assert!((cache.hit_rate - 0.4).abs() < 1e-9);
    assert_eq!(cache.resident_frames, 3);
    Ok(())
}

#[tokio::test]
async fn server_statistics_are_counted_and_watched() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let yaml = "server: {worker_count: 4, queue_size: 17}\nmodels: {a: {path: a}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    let client = server.client().await?;
    for _ in 0..3 {
        client
            .infer_batch_composite(windows_request("a", &[1.0; 8]))
            .await?;
    }
    let stats = server.stats().await?;
    assert_eq!((stats.worker_count, stats.queue_capacity), (4, 17));
    assert_eq!(
        (stats.submitted, stats.completed, stats.rejected),
        (3, 3, 0)
    );
    assert_eq!(stats.workers.iter().map(|w| w.frames).sum::<u64>(), 24);
    assert!(!stats.draining && stats.uptime_us > 0);
    let mut admin = client.server_admin();
    let watch = v1::WatchServerStatsRequest { interval_ms: 100 };
    let mut watching = admin.watch_server_stats(watch).await?.into_inner();
    for _ in 0..2 {
        assert_eq!(watching.message().await?.context("stats")?.completed, 3);
    }
    let bad = v1::WatchServerStatsRequest { interval_ms: 1 };
    let status = admin.watch_server_stats(bad).await.expect_err("too often");
    assert_eq!(status.code(), Code::InvalidArgument);
    Ok(())
}
