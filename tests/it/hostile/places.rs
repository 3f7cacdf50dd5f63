//! Places, and memory that is shared.

use std::{fs, sync::Arc};

use anyhow::{Context as _, Result};
use lipsync::v1;
use lipsync_registry::NetworkLoader;
use lipsync_testing::LoaderOf;
use tokio::time::timeout;
use tonic::Code;

use super::{Attacker, fake_server, framed, prefix};
use crate::support::{
    FakeLoader, Gate, HeldGate, PATIENCE, RawClient, TestServer, avatar, raw::status_code,
    speech::windows_request,
};

const INFER: &str = "/lipsync.v1.LipSync/InferBatchComposite";
const STREAM: &str = "/lipsync.v1.LipSync/StreamComposite";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_message_takes_nobodys_place_and_holds_no_drain() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = "server: {worker_count: 1, queue_size: 1}\nsession: {max_sessions: 1}";
    let server = fake_server(folder.path(), yaml).await?;
    let mut attacker = Attacker::connect(&server).await?;
    let mut begun = Vec::new();
    for n in 0..40 {
        let path = [INFER, STREAM][n % 2];
        let mut call = attacker.begin(path, &[]).await?;
        // Some send half of what they promise.
        if n % 4 > 1 {
            assert!(call.send(&prefix(1000), false).await?);
        }
        begun.push(call);
    }
    let client = server.client().await?;
    for _ in 0..5 {
        let answer = client.infer_batch_composite(windows_request("a", &[7.0]));
        assert_eq!(answer.await?.frames.len(), 1);
    }
    let stats = server.stats().await?;
    assert_eq!((stats.sessions, stats.rejected), (0, 0));
    let drained = timeout(PATIENCE, server.shut_down()).await?;
    assert!(drained, "what has not come is not waited for");
    for call in begun {
        // Told so, or cut with its connection.
        if let Ok((code, _)) = call.status().await {
            assert_eq!(code, Code::Unavailable);
        }
    }
    Ok(())
}

/// A loader whose loads stop at a gate where the file says so.
fn slow_loader(gate: &Arc<Gate>) -> Arc<dyn NetworkLoader> {
    let (inner, gate) = (FakeLoader::default(), Arc::clone(gate));
    Arc::new(LoaderOf::new(move |onnx, device, precision| {
        if onnx == b"slow" {
            gate.pass();
        }
        inner.generator(onnx, device, precision)
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_slow_load_takes_nobodys_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for id in ["a", "b"] {
        avatar::write_fake(&folder.path().join(id), 3)?;
    }
    fs::write(folder.path().join("b/generator.onnx"), "slow")?;
    let gate = Arc::<Gate>::default();
    let yaml = "server: {worker_count: 1, queue_size: 1}\n\
                models: {a: {path: a, preload: true}, b: {path: b}}";
    let server = TestServer::start(yaml, folder.path(), slow_loader(&gate)).await?;
    let held = HeldGate::close(&gate);
    let client = server.client().await?;
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..20 {
        let client = client.clone();
        waiting.spawn(async move {
            if n % 4 == 0 {
                let request = v1::LoadModelRequest {
                    model_id: "b".into(),
                };
                return client.model_admin().load_model(request).await.map(drop);
            }
            let request = windows_request("b", &[7.0]);
            client.infer_batch_composite(request).await.map(drop)
        });
    }
    let shared = Arc::clone(server.running().shared());
    while shared.admission.n_upload_bytes() < 20 << 14 {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        client
            .infer_batch_composite(windows_request("a", &[7.0]))
            .await?;
    }
    let drained = tokio::spawn(server.shut_down());
    while let Some(ended) = waiting.join_next().await {
        let status = ended?.expect_err("the load has not ended");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    drop(held);
    assert!(timeout(PATIENCE, drained).await??);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_which_nothing_is_known_take_no_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "session: {max_sessions: 1}").await?;
    let mut attacker = Attacker::connect(&server).await?;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(attacker.begin(STREAM, &[]).await?);
    }
    let open = v1::OpenSession {
        model_id: "a".into(),
        audio_input: v1::AudioInput::Windows.into(),
        ..Default::default()
    };
    let mut session = crate::support::Socket::open(&server, open).await?;
    session.opened().await?;
    assert_eq!(server.stats().await?.sessions, 1);
    silent.into_iter().for_each(super::Begun::reset);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_few_and_keep_nobody_from_asking() -> Result<()> {
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let mut attackers = Vec::new();
    let mut n_refused = 0;
    for _ in 0..4 {
        let mut attacker = Attacker::connect(&server).await?;
        for _ in 0..90 {
            let mut call = attacker.begin(WATCH, &[]).await?;
            assert!(call.send(&framed(&[]), true).await?);
            let response = timeout(PATIENCE, call.response).await??;
            match status_code(response.headers()) {
                None => attackers.push(response.into_body()),
                Some(Code::ResourceExhausted) => n_refused += 1,
                Some(other) => anyhow::bail!("{other:?}"),
            }
        }
    }
    assert!(n_refused > 100, "{n_refused}");
    assert!(attackers.len() > 100, "some may watch");
    server.stats().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_gives_way() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // A client that does not read has two minutes, where nobody needs the room.
    let yaml = "server: {max_message_size_mb: 1, max_unsent_mb: 2}";
    let server = fake_server(folder.path(), yaml).await?;
    let request = v1::GetBackgroundRequest {
        model_id: "a".into(),
        background_indices: vec![0; 50],
        output: Some(v1::OutputOptions {
            format: v1::OutputFormat::Rgb.into(),
            ..Default::default()
        }),
    };
    let mut deaf = h2::client::Builder::new();
    deaf.initial_window_size(0);
    let mut deaf = RawClient::connect(&server, &deaf).await?;
    let answer = deaf.call("GetBackground", &request, &[]).await?;
    assert_eq!(status_code(answer.headers()), None);
    let mut unread = answer.into_body();
    let client = server.client().await?.lip_sync();
    let asking = async {
        loop {
            match client.clone().get_background(request.clone()).await {
                Err(status) if status.code() == Code::ResourceExhausted => {
                    tokio::task::yield_now().await;
                }
                other => return other,
            }
        }
    };
    // One fits beside it, two do not.
    let held = timeout(PATIENCE, asking).await??.into_inner();
    assert_eq!(held.frames.len(), 50);
    let another = deaf.call("GetBackground", &request, &[]);
    let mut second = timeout(PATIENCE, another).await??.into_body();
    while let Some(more) = {
        let answer = deaf.call("GetBackground", &request, &[]).await?;
        let is_refused = status_code(answer.headers()) == Some(Code::ResourceExhausted);
        is_refused.then_some(answer)
    } {
        drop(more);
        tokio::task::yield_now().await;
    }
    let end = timeout(PATIENCE, unread.data()).await?.context("the end")?;
    assert_eq!(
        end.expect_err("no window").reason(),
        Some(h2::Reason::CANCEL)
    );
    drop(second.data());
    Ok(())
}
