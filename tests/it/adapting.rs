//! What the server changes by itself: what operators see of it, and what clients do.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use lipsync::v1;
use serde_json::Value;
use tonic::{Code, Request, metadata::MetadataValue};

use crate::support::{FakeLoader, Http, TestServer, avatar, speech::windows_request};

async fn fake_server(folder: &Path, yaml: &str) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), 4)?;
    let yaml = format!("models: {{a: {{path: a, preload: true}}}}\n{yaml}");
    TestServer::start(&yaml, folder, Arc::new(FakeLoader::default())).await
}

async fn ask(server: &TestServer, priority: v1::Priority) -> Result<(), tonic::Status> {
    let client = server
        .client()
        .await
        .map_err(|e| tonic::Status::internal(e.to_string()))?;
    let mut request = windows_request("a", &[1.0]);
    request.set_priority(priority);
    client
        .lip_sync()
        .infer_batch_composite(request)
        .await
        .map(drop)
}

#[tokio::test]
async fn low_priority_is_refused_while_it_is_shed_and_nothing_else_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let admission = &server.running().shared().admission;
    admission.shed_low(true);
    let refused = ask(&server, v1::Priority::Low)
        .await
        .expect_err("it is shed");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("low priority"), "{refused}");
    assert_eq!(
        refused
            .metadata()
            .get("grpc-retry-pushback-ms")
            .map(|v| v.as_bytes()),
        Some(&b"30000"[..])
    );
    assert!(ask(&server, v1::Priority::Normal).await.is_ok());
    admission.shed_low(false);
    assert!(ask(&server, v1::Priority::Low).await.is_ok());
    let page = Http::get(&server, "/metrics").await?;
    let line = "lipsync_shed_total{reason=\"low_priority\"} 1";
    assert!(page.text().contains(line), "{}", page.text());
    Ok(())
}

#[tokio::test]
async fn what_was_changed_and_why_is_told_to_operators() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let range = "server: {worker_count: {min: 1, max: 1}}";
    let server = fake_server(folder.path(), range).await?;
    let shared = server.running().shared();
    assert_eq!(shared.pipeline.workers.stats().n_workers(), 1);
    let nothing = Http::get(&server, "/api/adaptations").await?;
    assert_eq!(nothing.text(), "[]");
    let text = "batches have at most 32 frames: 97 % of memory is in use";
    shared.events.note("batches", "memory", text.to_owned());
    let told: Value = serde_json::from_str(Http::get(&server, "/api/adaptations").await?.text())?;
    assert_eq!(told[0]["act"], "batches");
    assert_eq!(told[0]["reason"], "memory");
    assert_eq!(told[0]["text"], text);
    let page = Http::get(&server, "/metrics").await?;
    for line in [
        "lipsync_adaptations_total{act=\"batches\",reason=\"memory\"} 1",
        "lipsync_workers_range{bound=\"min\"} 1",
        "lipsync_workers_range{bound=\"max\"} 1",
        "lipsync_workers{device=\"cpu\"} 1",
    ] {
        assert!(page.text().contains(line), "{line} in {}", page.text());
    }
    Ok(())
}

#[tokio::test]
async fn answers_say_how_they_were_made() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let client = server.client().await?;
    for preference in ["enable", "disable", "auto"] {
        let mut request = Request::new(windows_request("a", &[1.0, 2.0]));
        let value = MetadataValue::try_from(preference)?;
        request.metadata_mut().insert("x-batch-preference", value);
        let wait = MetadataValue::from_static("10s");
        request.metadata_mut().insert("x-max-wait-time", wait);
        let answer = client.lip_sync().infer_batch_composite(request).await?;
        for name in [
            "x-batch-size",
            "x-processing-time",
            "x-queue-time",
            "x-worker",
        ] {
            let value = answer
                .metadata()
                .get(name)
                .and_then(|value| value.to_str().ok());
            assert!(value.is_some_and(|value| !value.is_empty()), "{name}");
        }
    }
    Ok(())
}
