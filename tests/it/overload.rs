//! More work than places: refused at once, nothing lost, counters add up.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use lipsync::v1;
use tokio::time::timeout;
use tonic::{Code, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::support::{
    FakeLoader, HeldGate, PATIENCE, RawClient, TestServer, avatar, raw::status_code,
    speech::windows_request,
};

/// A server with one worker and a queue of four, whose network stands at a closed gate.
async fn held_server(folder: &Path) -> Result<(TestServer, HeldGate)> {
    avatar::write_fake(&folder.join("a"), 3)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = "server: {worker_count: 1, queue_size: 4}\nmodels: {a: {path: a, preload: true}}";
    let server = TestServer::start(yaml, folder, Arc::new(loader)).await?;
    Ok((server, HeldGate::close(&gate)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_surplus_is_refused_with_advice_and_nothing_is_lost() -> Result<()> {
    const N_REQUESTS: u64 = 40;
    let folder = tempfile::tempdir()?;
    let (server, gate) = held_server(folder.path()).await?;
    let client = server.client().await?;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..N_REQUESTS {
        let client = client.clone();
        requests.spawn(async move {
            client
                .infer_batch_composite(windows_request("a", &[7.0]))
                .await
        });
    }
    // The refusals arrive while the worker is held: all that finishes before the gate opens.
    let stats = server
        .until("all have arrived", |s| {
            s.rejected + s.submitted == N_REQUESTS
        })
        .await?;
    assert!(stats.queue_depth <= 4, "{stats:?}");
    let n_refused = stats.rejected;
    for _ in 0..n_refused {
        let answer = requests.join_next().await.context("an answer")??;
        let status = answer.expect_err("nothing can succeed at a closed gate");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let details = status.get_error_details();
        let advice = details.retry_info().and_then(|r| r.retry_delay);
        assert!(advice.is_some(), "{status:?}");
        let headers = status.metadata();
        assert!(headers.contains_key("grpc-retry-pushback-ms"), "{status:?}");
    }
    // One runs, one is in the worker's channel, one in the dispatcher's hand, four wait.
    assert!(n_refused >= N_REQUESTS - 8, "{n_refused} refused");
    gate.open();
    let accepted: Vec<_> = requests.join_all().await;
    assert_eq!(u64::try_from(accepted.len())?, N_REQUESTS - n_refused);
    for answer in accepted {
        assert_eq!(answer?.frames.len(), 1);
    }
    let stats = server.stats().await?;
    assert_eq!(stats.submitted, N_REQUESTS - n_refused);
    assert_eq!(
        (stats.completed, stats.failed, stats.cancelled),
        (stats.submitted, 0, 0)
    );
    assert_eq!(stats.rejected, n_refused);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_everything_that_was_accepted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = held_server(folder.path()).await?;
    let client = server.client().await?;
    let ask = || {
        let client = client.clone();
        async move {
            client
                .infer_batch_composite(windows_request("a", &[7.0]))
                .await
        }
    };
    let accepted: Vec<_> = (0..4).map(|_| tokio::spawn(ask())).collect();
    server
        .until("submitted reaches 4", |s| s.submitted >= 4)
        .await?;
    let shared = Arc::clone(server.running().shared());
    let draining = tokio::spawn(server.shut_down());
    while !shared.admission.is_draining() {
        tokio::task::yield_now().await;
    }
    let late = ask().await.expect_err("new work is refused");
    assert_eq!(late.code(), Code::Unavailable, "{late}");
    gate.open();
    for answer in join_all(accepted).await {
        assert_eq!(answer??.frames.len(), 1);
    }
    let all_done = tokio::time::timeout(Duration::from_secs(20), draining).await??;
    assert!(all_done);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_leave_nothing_behind() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = held_server(folder.path()).await?;
    let mut held = Vec::new();
    // As many as the queue holds even before anything was handed to the worker.
    for _ in 0..4 {
        let client = server.client().await?;
        held.push(tokio::spawn(async move {
            client
                .infer_batch_composite(windows_request("a", &[7.0]))
                .await
        }));
    }
    server
        .until("submitted reaches 4", |s| s.submitted >= 4)
        .await?;
    for request in &held {
        request.abort();
    }
    server
        .until("cancelled reaches 4", |s| s.cancelled >= 4)
        .await?;
    gate.open();
    let client = server.client().await?;
    client
        .infer_batch_composite(windows_request("a", &[7.0]))
        .await?;
    let stats = server.stats().await?;
    assert_eq!(
        (stats.completed, stats.cancelled, stats.queue_depth),
        (1, 4, 0)
    );
    // Only what already stood at the gate went through it: the rest was never launched.
    assert!(gate.n_passed() <= 3, "{} batches ran", gate.n_passed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_have_a_budget_and_are_taken_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let yaml = "server: {max_message_size_mb: 1, max_unsent_mb: 2, peer_share_percent: 100}\n\
                session: {send_timeout_s: 2}\nmodels: {a: {path: a, preload: true}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    // 0.92 MB: there is room for two.
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
    let mut unread = Vec::new();
    for _ in 0..2 {
        let answer = deaf.call("GetBackground", &request, &[]).await?;
        assert_eq!(status_code(answer.headers()), None);
        unread.push(answer.into_body());
    }
    let refused = deaf.call("GetBackground", &request, &[]).await?;
    let code = status_code(refused.headers());
    assert_eq!(code, Some(Code::ResourceExhausted));
    assert!(refused.headers().contains_key("grpc-retry-pushback-ms"));
    assert_eq!(server.stats().await?.rejected, 1);
    for mut body in unread {
        let end = timeout(PATIENCE, body.data()).await?.context("the end")?;
        assert_eq!(
            end.expect_err("no window").reason(),
            Some(h2::Reason::CANCEL)
        );
    }
    let mut client = server.client().await?.lip_sync();
    let retrying = async {
        loop {
            match client.get_background(request.clone()).await {
                Err(status) if status.code() == Code::ResourceExhausted => {}
                other => return other,
            }
        }
    };
    let answer = timeout(PATIENCE, retrying).await??.into_inner();
    assert_eq!(answer.frames.len(), 50);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_an_answer_that_is_read_slowly() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let yaml = "server: {max_batch_frames: 512}\nmodels: {a: {path: a, preload: true}}";
    let loader = Arc::new(FakeLoader::default());
    let server = TestServer::start(yaml, folder.path(), loader).await?;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address()))?;
    let mut grpc =
        tonic::client::Grpc::new(endpoint.connect().await?).max_decoding_message_size(64 << 20);
    grpc.ready().await?;
    // 9 MB, more than the connection buffers.
    let mut request = windows_request("a", &[7.0; 500]);
    request.output = Some(v1::OutputOptions {
        format: v1::OutputFormat::Rgb.into(),
        ..Default::default()
    });
    let path = PathAndQuery::from_static("/lipsync.v1.LipSync/InferBatchComposite");
    let codec = ProstCodec::<_, v1::InferBatchCompositeResponse>::default();
    let answer = grpc.server_streaming(tonic::Request::new(request), path, codec);
    let mut answer = answer.await?.into_inner();
    let mut draining = tokio::spawn(server.shut_down());
    let hasty = tokio::time::timeout(Duration::from_secs(1), &mut draining).await;
    assert!(hasty.is_err(), "the drain ended before the answer was read");
    let frames = answer.message().await?.map(|answer| answer.frames.len());
    assert_eq!(frames, Some(500));
    assert!(draining.await?);
    Ok(())
}
