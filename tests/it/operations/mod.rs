//! The operations port: probes, the page, statistics, and sessions over a WebSocket.

mod origins;
mod page;
mod sockets;

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use lipsync::v1::{self, stream_composite_response::Message as Answer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    FakeLoader, Gate, HeldGate, Http, PATIENCE, Socket, TestServer, avatar, speech::babble,
};

async fn fake_server(folder: &Path, yaml: &str) -> Result<(TestServer, Arc<Gate>)> {
    avatar::write_fake(&folder.join("a"), 4)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = format!("models: {{a: {{path: a, preload: true}}}}\n{yaml}");
    let server = TestServer::start(&yaml, folder, Arc::new(loader)).await?;
    Ok((server, gate))
}

fn pcm_session(model: &str) -> v1::OpenSession {
    v1::OpenSession {
        model_id: model.into(),
        sample_rate_hz: 16_000,
        ..Default::default()
    }
}

#[tokio::test]
async fn probes_follow_the_phase() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = fake_server(folder.path(), "server: {pre_drain_ms: 1}").await?;
    let ready = Http::get(&server, "/readyz").await?;
    assert_eq!((ready.status, ready.text()), (200, "serving\n"));
    assert_eq!(ready.header("cache-control"), "no-store");
    assert_eq!(Http::get(&server, "/livez").await?.status, 200);

    server.running().pre_drain().await;
    let leaving = Http::get(&server, "/readyz").await?;
    assert_eq!((leaving.status, leaving.text()), (503, "leaving\n"));

    // Held in the drain by a session whose network stands still.
    let held = HeldGate::close(&gate);
    let mut session = Socket::open(&server, pcm_session("a")).await?;
    session.opened().await?;
    session.audio(1, &babble(1, 640 * 40)).await?;
    server.until("a job runs", |s| s.submitted > 0).await?;
    let address = server.operations()?;
    let draining = tokio::spawn(server.shut_down());
    let probe = |path: &'static str| {
        let address = address.clone();
        async move { raw_status(&address, path).await }
    };
    let given_up = tokio::time::Instant::now() + PATIENCE;
    while probe("/readyz").await? != (503, "draining\n".into()) {
        ensure!(tokio::time::Instant::now() < given_up, "it does not drain");
        tokio::task::yield_now().await;
    }
    assert_eq!(probe("/livez").await?.0, 200);
    drop(held);
    let (answers, code, reason) = session.rest().await?;
    assert!(
        matches!(answers.last(), Some(Answer::SegmentEnd(_))),
        "what was sent is finished"
    );
    assert_eq!((code, &reason[..12]), (4014, "UNAVAILABLE:"));
    assert!(draining.await?, "everything had ended");
    Ok(())
}

async fn raw_status(address: &str, path: &str) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect(address).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut text = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut text)).await??;
    let status = text.split(' ').nth(1).context("no status")?.parse()?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

#[tokio::test]
async fn statistics_are_those_of_the_contract() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // A pack that is done between two readings would change what the cache holds.
    let yaml = "session: {max_sessions: 7}\ncapacity: {bake: off}";
    let (server, _gate) = fake_server(folder.path(), yaml).await?;
    let mut session = Socket::open(&server, pcm_session("a")).await?;
    session.audio(1, &babble(1, 640 * 3)).await?;
    session.half_close().await?;
    session.rest().await?;
    let answer = Http::get(&server, "/api/stats").await?;
    assert_eq!(answer.header("content-type"), "application/json");
    let stats: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let wire = server.stats().await?;
    assert_eq!(stats["server"]["max_sessions"], 7);
    assert_eq!(stats["server"]["completed"], wire.completed);
    assert_eq!(stats["models"][0]["model_id"], "a");
    assert_eq!(stats["models"][0]["state"], "ready");
    let stages = stats["server"]["stages"].as_array().context("stages")?;
    assert_eq!(stages.len(), wire.stages.len());
    for (json, wire) in stages.iter().zip(&wire.stages) {
        assert_eq!(json["stage"], wire.stage.as_str());
        assert_eq!(json["frames"], wire.frames);
        assert_eq!(json["total_us"], wire.total_us);
    }
    let tenants = stats["server"]["tenants"].as_array().context("tenants")?;
    assert_eq!(stats["server"]["has_tenants"], false);
    assert_eq!(tenants.len(), 1);
    assert_eq!(tenants[0]["tenant_id"], "default");
    assert_eq!(
        (&tenants[0]["sessions"], &tenants[0]["frames"]),
        (&1.into(), &3.into())
    );
    let infer = wire.stages.iter().find(|s| s.stage == "infer");
    assert_eq!(infer.context("infer")?.frames, 3);
    let sessions = wire.session_stats.context("sessions")?;
    assert_eq!(stats["server"]["session_stats"]["frames"], sessions.frames);
    assert_eq!(sessions.frames, 3);
    let models = Http::get(&server, "/api/models").await?;
    let models: serde_json::Value = serde_json::from_slice(&models.body)?;
    assert_eq!(models, stats["models"]);
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named() -> Result<()> {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = taken.local_addr()?;
    let yaml = format!("server: {{port: '127.0.0.1:0'}}\noperations: {{port: '{port}'}}");
    let config = lipsync_server::Config::parse(&yaml, Path::new("config.yaml"), [])?;
    let refused = lipsync_server::Server::bind(config, Arc::new(FakeLoader::default())).await;
    let text = refused.err().context("the port is taken")?.to_string();
    assert!(
        text.contains(&port.to_string()) && text.contains("operations.port"),
        "{text}"
    );
    Ok(())
}
