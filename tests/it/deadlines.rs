//! Time limits, while the only worker is held and could not notice them itself.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lipsync::v1;
use tonic::{Code, Request, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::support::{
    FakeLoader, HeldGate, RawClient, TestServer, avatar, raw::status_code, speech::windows_request,
};

async fn held_server(folder: &Path) -> Result<(TestServer, HeldGate)> {
    avatar::write_fake(&folder.join("a"), 3)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = "server: {worker_count: 1}\nmodels: {a: {path: a, preload: true}}";
    let server = TestServer::start(yaml, folder, Arc::new(loader)).await?;
    Ok((server, HeldGate::close(&gate)))
}

/// Occupies the worker, the worker's channel and the dispatcher's hand.
async fn occupy(server: &TestServer) -> Result<()> {
    for n in 1..=3 {
        let client = server.client().await?;
        tokio::spawn(async move {
            client
                .infer_batch_composite(windows_request("a", &[1.0]))
                .await
        });
        server
            .until("submitted reaches n", |s| s.submitted >= n)
            .await?;
    }
    Ok(())
}

async fn ask_with(server: &TestServer, header: (&'static str, &str)) -> Result<(Code, Duration)> {
    let mut request: Request<v1::InferBatchCompositeRequest> =
        Request::new(windows_request("a", &[1.0]));
    request.metadata_mut().insert(header.0, header.1.parse()?);
    let begun = Instant::now();
    let status = server
        .client()
        .await?
        .lip_sync()
        .infer_batch_composite(request)
        .await
        .expect_err("the worker is held");
    Ok((status.code(), begun.elapsed()))
}

/// Asks without tonic's client, which keeps a timer of its own for `grpc-timeout` and gives up with
/// CANCELLED when that fires before the server's answer has arrived.
async fn ask_raw(server: &TestServer, timeout: &str) -> Result<Code> {
    let mut client = RawClient::connect(server, &h2::client::Builder::new()).await?;
    let message = windows_request("a", &[1.0]);
    let headers = [("grpc-timeout", timeout)];
    let answer = client
        .call("InferBatchComposite", &message, &headers)
        .await?;
    status_code(answer.headers()).context("a status without a body")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_deadline_and_the_queue_timeout_have_their_own_codes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = held_server(folder.path()).await?;
    occupy(&server).await?;
    let begun = Instant::now();
    assert_eq!(ask_raw(&server, "150m").await?, Code::DeadlineExceeded);
    assert!(begun.elapsed() >= Duration::from_millis(140));
    let (code, waited) = ask_with(&server, ("x-max-wait-time", "150ms")).await?;
    assert_eq!(code, Code::ResourceExhausted);
    assert!(waited >= Duration::from_millis(150), "{waited:?}");
    gate.open();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_reached_a_worker_is_not_queued_any_more() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = held_server(folder.path()).await?;
    // Long enough for the way to the worker, however slow the machine is.
    let bound = Duration::from_secs(1);
    let mut request = Request::new(windows_request("a", &[1.0]));
    request
        .metadata_mut()
        .insert("x-max-wait-time", "1s".parse()?);
    let client = server.client().await?;
    let answer =
        tokio::spawn(async move { client.lip_sync().infer_batch_composite(request).await });
    server.until("it is there", |s| s.submitted == 1).await?;
    // Held in the worker for longer than the bound: it is not the queue that it waits in.
    let until = Instant::now() + bound + Duration::from_millis(100);
    while Instant::now() < until {
        server.stats().await?;
    }
    gate.open();
    assert_eq!(answer.await??.into_inner().frames.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_message_that_never_arrives_ends_with_the_servers_timeout() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let yaml = "server: {request_timeout_ms: 200}\nmodels: {a: {path: a}}";
    let loader = Arc::new(FakeLoader::default());
    let server = TestServer::start(yaml, folder.path(), loader).await?;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address()))?;
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await?);
    grpc.ready().await?;
    let nothing = tokio_stream::pending::<v1::InferBatchCompositeRequest>();
    let path = PathAndQuery::from_static("/lipsync.v1.LipSync/InferBatchComposite");
    let codec = ProstCodec::<_, v1::InferBatchCompositeResponse>::default();
    let status = grpc
        .client_streaming(Request::new(nothing), path, codec)
        .await
        .expect_err("there is no message");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    Ok(())
}
