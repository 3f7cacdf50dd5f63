//! What the operations port says of the server: its description, its resources, its past and its alerts.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{
    FakeLoader, Http, PATIENCE, TestServer, avatar, schema, speech::windows_request,
};

async fn fake_server(folder: &Path, yaml: &str) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), 4)?;
    let yaml = format!("models: {{a: {{path: a, preload: true}}}}\n{yaml}");
    TestServer::start(&yaml, folder, Arc::new(FakeLoader::default())).await
}

async fn json(server: &TestServer, path: &str) -> Result<Value> {
    let answer = Http::get(server, path).await?;
    ensure!(answer.status == 200, "{path}: {answer:?}");
    let kind = answer.header("content-type");
    ensure!(kind == "application/json", "{path} is {kind}");
    Ok(serde_json::from_slice(&answer.body)?)
}

#[tokio::test]
async fn answers_are_as_the_description_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let client = server.client().await?;
    client
        .infer_batch_composite(windows_request("a", &[7.0; 3]))
        .await?;
    let file = json(&server, "/openapi.json").await?;
    for path in [
        "/resource-status",
        "/gpu-status",
        "/api/models",
        "/api/stats",
        "/api/speech",
        "/api/history",
        "/api/alerts",
        "/api/advice",
    ] {
        let content = &file["paths"][path]["get"]["responses"]["200"]["content"];
        let described = &content["application/json"]["schema"];
        ensure!(described.is_object(), "{path} is not described");
        let answer = json(&server, path).await?;
        schema::check(&file, described, &answer).with_context(|| path.to_owned())?;
    }
    // The checker itself finds what is missing, and what nobody described.
    let of_memory = &file["components"]["schemas"]["Memory"];
    let wrong = [
        r#"{"total_bytes": 1, "available_bytes": 1}"#,
        r#"{"total_bytes": 1, "available_bytes": 1, "used_ratio": 0.5, "more": 1}"#,
        r#"{"total_bytes": -1, "available_bytes": 1, "used_ratio": 0.5}"#,
    ];
    for text in wrong {
        assert!(schema::check(&file, of_memory, &serde_json::from_str(text)?).is_err());
    }
    Ok(())
}

#[tokio::test]
async fn resources_are_those_of_the_server() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = "server: {worker_count: 3, queue_size: 7}\nsession: {max_sessions: 5}\n";
    let server = fake_server(folder.path(), yaml).await?;
    let status = json(&server, "/resource-status").await?;
    for (pointer, expected) in [
        ("/workers/here", 3),
        ("/workers/lost", 0),
        ("/queue/limit", 7),
        ("/sessions/limit", 5),
        ("/models/ready", 1),
    ] {
        let found = status.pointer(pointer).and_then(Value::as_u64);
        assert_eq!(found, Some(expected), "{pointer}");
    }
    assert_eq!(status["models"]["each"][0]["model_id"], "a");
    assert_eq!(status["ports"][0]["is_encrypted"], false);
    if cfg!(target_os = "linux") {
        assert!(status["host"]["memory"]["total_bytes"].as_u64() > Some(1 << 20));
    }
    let gpus = json(&server, "/gpu-status").await?;
    assert_eq!(
        (&gpus["is_watched"], &gpus["lost"]),
        (&false.into(), &Value::Null)
    );
    Ok(())
}

/// Where there are tenants, these figures are for administrators.
#[tokio::test]
async fn figures_of_all_tenants_need_a_key() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let yaml = format!("tenants: {{acme: {{keys: {{main: {{sha256: {digest}}}}}}}}}\n");
    let server = fake_server(folder.path(), &yaml).await?;
    for path in ["/resource-status", "/gpu-status", "/api/advice"] {
        assert_eq!(Http::get(&server, path).await?.status, 401, "{path}");
        let key = "authorization: Bearer abc\r\n";
        let answer = Http::request(&server, &format!("GET {path}"), key).await?;
        assert_eq!(answer.status, 403, "{path}");
    }
    assert_eq!(Http::get(&server, "/openapi.json").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn the_past_outlives_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cache = folder.path().join("cache");
    fs::create_dir(&cache)?;
    let yaml = "cache_dir: cache\n";
    let first_second = async |server: &TestServer| loop {
        let history = json(server, "/api/history").await?;
        if let Some(first) = history["at_s"][0].as_u64() {
            break anyhow::Ok(first);
        }
    };
    let server = fake_server(folder.path(), yaml).await?;
    let first = first_second(&server).await?;
    server.shut_down().await;
    let server = fake_server(folder.path(), yaml).await?;
    assert_eq!(first_second(&server).await?, first);
    Ok(())
}

/// Takes one message of a webhook and answers it so.
async fn take_post(listener: &TcpListener, status: &str) -> Result<(String, Value)> {
    let (mut socket, _) = timeout(PATIENCE, listener.accept()).await??;
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let n = timeout(PATIENCE, socket.read(&mut part)).await??;
        ensure!(n > 0, "the end in the middle of a message");
        all.extend(&part[..n]);
        let text = String::from_utf8_lossy(&all).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        if let Ok(message) = serde_json::from_str(body) {
            answer(&mut socket, status).await?;
            return Ok((head.to_owned(), message));
        }
    }
}

async fn answer(socket: &mut TcpStream, status: &str) -> Result<()> {
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    Ok(socket.write_all(answer.as_bytes()).await?)
}

/// A configuration that is refused is an alert, until a good one comes; each change is posted.
#[tokio::test]
async fn a_change_of_an_alert_is_posted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 1)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let hook = format!("http://{}/hook?secret=1", listener.local_addr()?);
    let file = folder.path().join("config.yaml");
    let good = format!(
        "models: {{a: {{path: a}}}}\nreload: {{watch: false}}\nalerts: {{webhook: '{hook}'}}\n"
    );
    fs::write(&file, &good)?;
    let server = TestServer::start_file(&file, Arc::new(FakeLoader::default())).await?;
    fs::write(&file, format!("{good}nonsense: 1\n"))?;
    let reload = async || Http::request(&server, "POST /reload", "").await;
    assert_eq!(reload().await?.status, 422);
    // The first try meets a fault, and the next one does not.
    take_post(&listener, "503 Service Unavailable").await?;
    let (head, message) = take_post(&listener, "204 No Content").await?;
    assert!(
        head.starts_with("POST /hook?secret=1 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("content-type: application/json\r\n"),
        "{head}"
    );
    let alert = &message["alert"];
    assert_eq!(
        (&alert["name"], &alert["severity"]),
        (&"reload".into(), &"warning".into())
    );
    let text = message["text"].as_str().unwrap_or_default();
    assert!(text.contains("alert reload is warning"), "{text}");
    let alerts = json(&server, "/api/alerts").await?;
    let raised = alerts.as_array().context("a list")?.iter();
    let raised: Vec<_> = raised
        .filter(|alert| !alert["severity"].is_null())
        .collect();
    assert_eq!(raised.len(), 1, "{raised:?}");
    fs::write(&file, &good)?;
    assert_eq!(reload().await?.status, 200);
    let (_, message) = take_post(&listener, "200 OK").await?;
    assert_eq!(message["alert"]["severity"], Value::Null);
    let metrics = Http::get(&server, "/metrics").await?;
    let line = "lipsync_alert_posts_total{outcome=\"failed\"} 0";
    assert!(metrics.text().contains(line));
    Ok(())
}
