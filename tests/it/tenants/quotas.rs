//! How much a tenant may have, and what it is told beyond that.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use lipsync::{client::Client, session::AudioFormat, v1};
use lipsync_core::ModelId;
use lipsync_server::core_state::Shared;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{A, ADMIN, B, server, server_with, yaml};
use crate::support::{FakeLoader, HeldGate, TestServer, avatar, speech::windows_request};

async fn frames(client: &Client, model: &str, n: usize) -> Result<usize, Status> {
    let request = windows_request(model, &vec![7.0; n]);
    let answer = client.infer_batch_composite(request).await?;
    Ok(answer.frames.len())
}

/// Checks that a refusal names the quota, and gives its advice.
fn check_quota(refused: &Status, quota: &str) -> Result<Option<Duration>> {
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let details = refused.get_error_details();
    let failure = details.quota_failure().context("no quota failure")?;
    let subject = &failure.violations.first().context("no violation")?.subject;
    assert_eq!(subject, &format!("tenant:a/{quota}"));
    assert!(refused.message().contains(quota), "{refused}");
    Ok(details.retry_info().and_then(|info| info.retry_delay))
}

#[tokio::test]
async fn frames_beyond_the_rate_are_refused_with_the_time_when_they_will_be_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Slow enough that little comes back while the test runs.
    let quota = "frames_per_second: 1, burst_frames: 64";
    let server = server(folder.path(), quota, "").await?;
    let (a, b) = (server.client_with(A).await?, server.client_with(B).await?);
    assert_eq!(frames(&a, "a", 64).await?, 64);
    let refused = loop {
        // On a busy machine there may be some again.
        match frames(&a, "a", 1).await {
            Ok(_) => {}
            Err(refused) => break refused,
        }
    };
    let retry = check_quota(&refused, "frames_per_second")?.context("no advice")?;
    assert!(retry <= Duration::from_secs(1), "{retry:?}");
    let pushback = refused.metadata().get("grpc-retry-pushback-ms");
    assert!(pushback.is_some(), "{refused:?}");
    assert_eq!(frames(&b, "b", 64).await?, 64, "others have theirs");
    tokio::time::sleep(retry).await;
    assert_eq!(frames(&a, "a", 1).await?, 1, "the advice is true");
    Ok(())
}

#[tokio::test]
async fn sessions_beyond_the_quota_are_refused_and_others_are_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "max_sessions: 1", "").await?;
    let (a, b) = (server.client_with(A).await?, server.client_with(B).await?);
    let open = async |client: &Client, model: &str| {
        let session = client.session(model).audio(AudioFormat::mono_s16(16_000));
        session.open().await
    };
    let first = open(&a, "a").await?;
    let refused = open(&a, "a").await.err().context("the second")?;
    let text = refused.to_string();
    assert!(
        text.contains("max_sessions") && text.contains("limit 1"),
        "{text}"
    );
    let theirs = open(&b, "b").await?;
    drop((first, theirs));
    server.running().shared().admission.emptied().await;
    assert!(open(&a, "a").await.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_paced_session_needs_its_frames_a_second() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let quota = "frames_per_second: 60, burst_frames: 64";
    let server = server(folder.path(), quota, "").await?;
    let a = server.client_with(A).await?;
    let open = async || {
        a.session("a")
            .audio(AudioFormat::mono_s16(16_000))
            .pacing(v1::Pacing::Realtime)
            .open()
            .await
    };
    // The model shows 25 frames a second.
    let sessions = (open().await?, open().await?);
    let refused = open().await.err().context("the third")?;
    assert!(
        refused.to_string().contains("frames_per_second"),
        "{refused}"
    );
    drop(sessions);
    server.running().shared().admission.emptied().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_and_places_are_shared() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    // 20 + 4 places; all addresses are one, which may have all of them.
    let sections = "server: {worker_count: 1, queue_size: 20, peer_share_percent: 100}";
    let server = server_with(folder.path(), "max_requests: 2", sections, loader).await?;
    let admin = server.client_with(ADMIN).await?;
    frames(&admin, "b", 1).await?;
    let gate = HeldGate::close(&gate);
    let ask = async |key: &str, model: &'static str| {
        let client = server.client_with(key).await?;
        anyhow::Ok(tokio::spawn(async move { frames(&client, model, 1).await }))
    };
    let in_flight = [ask(A, "a").await?, ask(A, "a").await?];
    let shared = server.running().shared();
    let stats = || n_taken_on(shared);
    while stats() < 2 {
        tokio::task::yield_now().await;
    }
    let a = server.client_with(A).await?;
    let refused = frames(&a, "a", 1).await.expect_err("the third");
    check_quota(&refused, "max_requests")?;
    // `b` has no quota, but a share: 80 % of what it has and what is free.
    let mut of_b = Vec::new();
    for _ in 0..30 {
        of_b.push(ask(B, "b").await?);
    }
    let mut n_refused = 0;
    while stats() < 2 + 30 - n_refused {
        n_refused = of_b.iter().filter(|call| call.is_finished()).count();
        tokio::task::yield_now().await;
    }
    assert!(n_refused > 30 - 22, "{n_refused} of 30 were refused");
    let admins = ask(ADMIN, "a").await?;
    while stats() < 2 + 30 - n_refused + 1 {
        assert!(!admins.is_finished(), "there is a place for another tenant");
        tokio::task::yield_now().await;
    }
    gate.open();
    for call in in_flight {
        assert_eq!(call.await??, 1);
    }
    assert_eq!(admins.await??, 1);
    let mut n_served = 0;
    for call in of_b {
        n_served += usize::from(call.await?.is_ok());
    }
    assert_eq!(n_served + n_refused, 30);
    Ok(())
}

/// Jobs that the workers have taken on, but for the one before the gate was closed.
fn n_taken_on(shared: &Shared) -> usize {
    let submitted = shared.pipeline.workers.stats().submitted;
    usize::try_from(submitted)
        .unwrap_or(usize::MAX)
        .saturating_sub(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_model_more_displaces_the_tenants_idle_one_and_waits_for_none_in_use() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    for model in ["a", "b"] {
        avatar::write_fake(&folder.path().join(model), 3)?;
    }
    let text = yaml("max_resident_models: 1")?.replace("models: [a], ", "");
    let server = TestServer::start(&text, folder.path(), Arc::new(loader)).await?;
    let shared = server.running().shared();
    let is_resident = |id: &str| {
        let id = ModelId::new(id).ok();
        id.is_some_and(|id| shared.registry.resident(&id).is_some())
    };
    let a = server.client_with(A).await?;
    frames(&a, "a", 1).await?;
    frames(&a, "b", 1).await?;
    assert!(is_resident("b") && !is_resident("a"));
    let held = HeldGate::close(&gate);
    let begun = tokio::spawn({
        let a = a.clone();
        async move { frames(&a, "b", 1).await }
    });
    while n_taken_on(shared) < 2 {
        tokio::task::yield_now().await;
    }
    let refused = frames(&a, "a", 1).await.expect_err("b is in use");
    check_quota(&refused, "max_resident_models")?;
    assert!(is_resident("b"));
    held.open();
    assert_eq!(begun.await??, 1);
    assert_eq!(frames(&a, "a", 1).await?, 1);
    assert!(is_resident("a") && !is_resident("b"));
    Ok(())
}
