//! Streams: their errors, their places and their end.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use lipsync::{
    inference::{self as oip, infer_parameter::ParameterChoice},
    v1,
};
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use super::{client, fake_server, pictures, set, streamed, text, windows};
use crate::support::{FakeLoader, HeldGate, Http, PATIENCE, TestServer, avatar};

#[tokio::test]
async fn a_request_that_fails_does_not_end_its_stream() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    let mut wrong = windows("a", &[1.0]);
    wrong.model_version = "x".into();
    let mut unknown = windows("nobody", &[1.0]);
    unknown.id = "the second".into();
    let requests = vec![wrong.clone(), unknown, windows("a", &[5.0])];
    let answers = streamed(&mut client, requests.clone()).await?;
    let [wrong, unknown, good] = answers.as_slice() else {
        anyhow::bail!("{} answers", answers.len());
    };
    assert!(wrong.error_message.contains("model_version"), "{wrong:?}");
    assert!(unknown.error_message.contains("nobody"), "{unknown:?}");
    let id = |r: &oip::ModelStreamInferResponse| r.infer_response.clone().unwrap_or_default().id;
    assert_eq!(id(unknown), "the second");
    assert!(good.error_message.is_empty());
    assert_eq!(
        pictures(good.infer_response.as_ref().context("frames")?)?.len(),
        1
    );

    // An id comes back with each response, so that it has a limit.
    let mut long = windows("a", &[5.0]);
    long.id = "\u{200b}".repeat(400_000);
    let refused = client.model_infer(long.clone()).await.expect_err("the id");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(
        refused
            .message()
            .contains("id: expected at most 1024 bytes")
    );
    let mut unknown = long.clone();
    unknown.model_name = "\u{200b}".repeat(400_000);
    for refused in streamed(&mut client, vec![long, unknown]).await? {
        let n_bytes = refused.encoded_len();
        assert!(n_bytes < 10_000, "{n_bytes} bytes come back");
    }

    // Unless the client wants that.
    let mut request = Request::new(tokio_stream::iter(requests));
    request
        .metadata_mut()
        .insert("triton_grpc_error", "true".parse()?);
    let answers = client.model_stream_infer(request).await?;
    let status = answers.into_inner().message().await.expect_err("a status");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    Ok(())
}

/// Streams hold one message and one answer each, take a place for each request, and end with the server.
#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_the_gate_and_end_with_the_server() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = "server: {worker_count: 1, queue_size: 1}\nmodels: {a: {path: a, preload: true}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(loader)).await?;
    let held = HeldGate::close(&gate);
    let mut client = client(&server).await?;
    const N_STREAMS: u64 = 12;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..N_STREAMS {
        let mut client = client.clone();
        waiting.spawn(async move { streamed(&mut client, vec![windows("a", &[1.0])]).await });
    }
    let all_in = |s: &v1::GetServerStatsResponse| s.rejected + s.submitted == N_STREAMS;
    server.until("all are in", all_in).await?;
    drop(held);
    let mut n_refused = 0;
    while let Some(answers) = tokio::time::timeout(PATIENCE, waiting.join_next()).await? {
        let answers = answers??;
        assert_eq!(answers.len(), 1, "{answers:?}");
        let error = &answers[0].error_message;
        n_refused += u64::from(!error.is_empty());
        assert!(
            error.is_empty() || error.contains("try again in"),
            "{error}"
        );
    }
    assert!((1..N_STREAMS).contains(&n_refused), "{n_refused}");

    // A stream that waits for its client does not hold up the end.
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    sender.send(windows("a", &[1.0])).await?;
    let answers = client
        .model_stream_infer(ReceiverStream::new(requests))
        .await?;
    let mut answers = answers.into_inner();
    assert!(answers.message().await?.is_some());
    let begun = std::time::Instant::now();
    assert!(server.shut_down().await, "nothing was cut off");
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "{:?}",
        begun.elapsed()
    );
    let status = answers.message().await.expect_err("the server is gone");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    Ok(())
}

/// `timeout` and `priority`, as Triton's clients send them.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_no_longer_than_it_says_and_in_its_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = "server: {worker_count: 1}\nmodels: {a: {path: a, preload: true}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(loader)).await?;
    let held = HeldGate::close(&gate);
    let client = client(&server).await?;
    let ask = |request: oip::ModelInferRequest| {
        let mut client = client.clone();
        tokio::spawn(async move { client.model_infer(request).await })
    };
    // The worker, its channel and the dispatcher's hand.
    let mut before = Vec::new();
    for n in 1..=3 {
        before.push(ask(windows("a", &[1.0])));
        server.until("it is there", |s| s.submitted == n).await?;
    }
    let mut short = windows("a", &[1.0]);
    set(&mut short, "timeout", ParameterChoice::Int64Param(150_000));
    let begun = std::time::Instant::now();
    let status = ask(short).await?.expect_err("its time is over");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(begun.elapsed() >= Duration::from_millis(150));
    let mut urgent = windows("a", &[2.0]);
    set(&mut urgent, "priority", ParameterChoice::Uint64Param(1));
    let urgent = ask(urgent);
    server.until("all were there", |s| s.submitted == 5).await?;
    drop(held);
    for answer in before {
        answer.await??;
    }
    urgent.await??;
    let page = Http::get(&server, "/metrics").await?;
    let high = "lipsync_queue_wait_seconds_count{priority=\"high\"} 1";
    assert!(page.text().contains(high), "{}", page.text());
    Ok(())
}

#[tokio::test]
async fn an_answer_over_the_clients_limit_costs_that_answer_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _) = fake_server(folder.path()).await?;
    let mut client = client(&server).await?.max_decoding_message_size(4096);
    let mut raw = windows("a", &[1.0, 2.0]);
    set(&mut raw, "format", text("rgb"));
    for _ in 0..3 {
        let status = client
            .model_infer(raw.clone())
            .await
            .expect_err("too large");
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
        // One frame as a JPEG file fits.
        let answer = client.model_infer(windows("a", &[3.0])).await?.into_inner();
        assert_eq!(pictures(&answer)?.len(), 1);
    }
    let streamed = streamed(&mut client, vec![raw]).await;
    assert!(streamed.is_err(), "{streamed:?}");
    let answer = client.model_infer(windows("a", &[3.0])).await?.into_inner();
    assert_eq!(pictures(&answer)?.len(), 1);
    Ok(())
}
