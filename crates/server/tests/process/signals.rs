//! SIGTERM and SIGINT.

use std::{
    error::Error as _,
    fs::{self, File},
    iter::successors,
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Result;
use h2::Reason;
use lipsync::{
    client::Client,
    v1::{self, infer_batch_composite_request::Audio},
};
use rustix::process::Signal;
use tonic::{Code, Status};

use crate::server::{BINARY, Server, write_avatar};

fn request(n_frames: usize) -> v1::InferBatchCompositeRequest {
    v1::InferBatchCompositeRequest {
        model_id: "a".into(),
        audio: Some(Audio::Windows(v1::FeatureWindows {
            data: vec![0; 4 * 32 * 16 * 16 * n_frames].into(),
        })),
        ..Default::default()
    }
}

/// Whether the server said that it takes nothing more on this connection.
fn is_go_away(status: &Status) -> bool {
    let mut causes = successors(status.source(), |&error| error.source());
    causes.any(|error| {
        let of_http = error.downcast_ref::<h2::Error>();
        of_http.is_some_and(|error| error.is_go_away() && error.reason() == Some(Reason::NO_ERROR))
    })
}

/// Waits until the server has accepted `n` jobs.
async fn until_submitted(client: &Client, n: u64) -> Result<()> {
    let mut admin = client.server_admin();
    while admin
        .get_server_stats(v1::GetServerStatsRequest {})
        .await?
        .into_inner()
        .submitted
        < n
    {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_answers_what_was_accepted_and_exits_with_zero() -> Result<()> {
    const N_REQUESTS: u64 = 12;
    let folder = tempfile::tempdir()?;
    write_avatar(
        folder.path(),
        "server: {worker_count: 2, queue_size: 100, request_timeout_ms: 300000, shutdown_grace_s: 300}",
    )?;
    let mut server = Server::start(folder.path())?;
    let client = Client::connect(&server.address).await?;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..N_REQUESTS {
        let client = client.clone();
        requests.spawn(async move { client.infer_batch_composite(request(8)).await });
    }
    until_submitted(&client, N_REQUESTS).await?;
    server.signal(Signal::TERM)?;
    // Refused from now on, while the accepted ones go on. One that was still taken waits behind them,
    // and the next then finds the connection closed, for which the client's word is CANCELLED, or INTERNAL
    // where it learns of that while it sends.
    let late = loop {
        match client.infer_batch_composite(request(1)).await {
            Ok(_answered_before_the_signal_was_seen) => {}
            Err(status) => break status,
        }
    };
    let refused = matches!(late.code(), Code::Unavailable | Code::Cancelled);
    assert!(refused || is_go_away(&late), "{late:?}");
    for answer in requests.join_all().await {
        assert_eq!(answer?.frames.len(), 8);
    }
    let status = server.wait(Duration::from_secs(300))?;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_connections_do_not_hold_up_the_exit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "server: {shutdown_grace_s: 300}")?;
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(folder.path())?;
        let _parked = TcpStream::connect(&server.address)?;
        let idle = Client::connect(&server.address).await?;
        until_submitted(&idle, 0).await?;
        let begun = Instant::now();
        server.signal(signal)?;
        let status = server.wait(Duration::from_secs(60))?;
        assert_eq!(status.code(), Some(0), "after {:?}", begun.elapsed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_exits_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "server: {pre_drain_ms: 600000}")?;
    let log = folder.path().join("log");
    let mut command = Command::new(BINARY);
    let mut server = Server::start_with(&mut command, folder.path(), File::create(&log)?)?;
    let client = Client::connect(&server.address).await?;
    server.signal(Signal::TERM)?;
    // Not serving any more is the sign that the first signal was seen.
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address))?
        .connect()
        .await?;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let asked = || tonic_health::pb::HealthCheckRequest::default();
    let serving = i32::from(tonic_health::pb::health_check_response::ServingStatus::Serving);
    while health.check(asked()).await?.into_inner().status == serving {}
    // Work is still taken during the pause before the drain.
    client.infer_batch_composite(request(1)).await?;
    server.signal(Signal::TERM)?;
    let status = server.wait(Duration::from_secs(10))?;
    assert_eq!(status.code(), Some(130));
    let log = fs::read_to_string(log)?;
    for words in [
        "SIGTERM: draining, then stopping",
        "SIGTERM again: stopping at once",
    ] {
        assert!(log.contains(words), "{words} in {log}");
    }
    Ok(())
}
