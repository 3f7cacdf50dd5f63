//! Every kind of hot key takes effect while a session runs, and the session notices nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lipsync::v1::{self, stream_composite_response::Message as Answer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use super::Edited;
use crate::{
    stream::{Session, frames, pcm_session},
    support::{
        HeldGate, Http, TestServer,
        speech::{babble, pcm_request, windows_request},
    },
};

const MODELS: &str = "capacity: {bake: off}\nmodels: {a: {path: a, preload: true}}\n";

/// What a new session is told.
async fn opened(edited: &Edited) -> Result<v1::Opened> {
    let mut session = Session::open(&edited.server, pcm_session("a")).await?;
    match session.next().await? {
        Some(Answer::Opened(opened)) => Ok(opened),
        other => bail!("{other:?}"),
    }
}

#[tokio::test]
async fn hot_keys_hold_from_the_next_request_on() -> Result<()> {
    let edited = Edited::start(MODELS).await?;
    let client = edited.server.client().await?;
    let samples = babble(1, 640 * 12);
    let mut running = Session::open(&edited.server, pcm_session("a")).await?;
    assert!(matches!(running.next().await?, Some(Answer::Opened(_))));
    running.audio(1, &samples[..640 * 6]);
    let whole = client
        .infer_batch_composite(pcm_request("a", &samples))
        .await?;

    let five = || windows_request("a", &[1.0; 5]);
    client.infer_batch_composite(five()).await?;
    let report = edited
        .put(&format!("{MODELS}server: {{max_batch_frames: 4}}"))
        .await?;
    assert_eq!(report.changed, ["server.max_batch_frames"]);
    assert!(report.is_news && report.needs_restart.is_empty() && report.models.is_empty());
    let refused = client.infer_batch_composite(five()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    edited
        .put(&format!("{MODELS}output: {{format: png}}"))
        .await?;
    let png = client.infer_batch_composite(five()).await?;
    assert!(
        png.frames
            .iter()
            .all(|frame| frame.data.starts_with(b"\x89PNG"))
    );

    // What began before has its own settings to its end.
    running.audio(1, &samples[640 * 6..]);
    running.half_close();
    let answers = running.rest().await?;
    let streamed = frames(&answers);
    assert_eq!(streamed.len(), whole.frames.len());
    for (streamed, whole) in streamed.iter().zip(&whole.frames) {
        assert!(streamed.data == whole.data && whole.data.starts_with(b"\xff\xd8"));
    }
    assert!(edited.server.shut_down().await);
    Ok(())
}

#[tokio::test]
async fn hot_keys_hold_from_the_next_session_on() -> Result<()> {
    let edited = Edited::start(MODELS).await?;
    // A place is taken all the time.
    let mut running = Session::open(&edited.server, pcm_session("a")).await?;
    assert!(matches!(running.next().await?, Some(Answer::Opened(_))));
    let before = opened(&edited).await?;
    edited
        .put(&format!("{MODELS}session: {{max_buffered_audio_s: 7}}"))
        .await?;
    let after = opened(&edited).await?;
    assert_eq!(
        (before.max_buffered_audio_s, after.max_buffered_audio_s),
        (60, 7)
    );

    let report = edited
        .put(&format!("{MODELS}session: {{max_sessions: 1}}"))
        .await?;
    assert_eq!(
        report.changed,
        ["session.max_buffered_audio_s", "session.max_sessions"]
    );
    // Refused before or after its first message is read.
    let refused = match Session::open(&edited.server, pcm_session("a")).await {
        Ok(mut second) => second.failure().await?,
        Err(error) => error.downcast()?,
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let stats = Http::get(&edited.server, "/api/stats").await?;
    assert!(
        stats.text().contains("\"max_sessions\":1,"),
        "{}",
        stats.text()
    );
    edited
        .put(&format!("{MODELS}session: {{max_sessions: 8}}"))
        .await?;
    opened(&edited).await?;
    Ok(())
}

#[tokio::test]
async fn models_come_change_and_go() -> Result<()> {
    let edited = Edited::start(MODELS).await?;
    let client = edited.server.client().await?;
    let ask = |model: &'static str| client.infer_batch_composite(windows_request(model, &[1.0]));
    let report = edited.put(&format!("{MODELS}  # more\n")).await?;
    assert!(!report.is_news);
    let both = "capacity: {bake: off}\nmodels: {a: {path: c}, b: {path: b}}\n";
    let report = edited.put(both).await?;
    let ids =
        |ids: &[lipsync_core::ModelId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(ids(&report.models.added), ["b"]);
    assert_eq!(ids(&report.models.changed), ["a"]);
    ask("b").await?;
    ask("a").await?;
    let report = edited.put("models: {b: {path: b}}").await?;
    assert_eq!(ids(&report.models.removed), ["a"]);
    assert_eq!(ask("a").await.unwrap_err().code(), Code::NotFound);
    ask("b").await?;
    Ok(())
}

#[tokio::test]
async fn folders_of_models_root_are_models_if_that_is_wanted() -> Result<()> {
    let edited =
        Edited::start("capacity: {bake: off}\nmodels: {a: {path: a}, named: {path: b}}").await?;
    let names = || edited.server.running().shared().registry.list();
    let names = || {
        let mut names: Vec<_> = names().iter().map(|model| model.id.to_string()).collect();
        names.sort_unstable();
        names
    };
    std::fs::create_dir(edited.folder.path().join("half"))?;
    let report = edited
        .put("capacity: {bake: off}\nscan_models_root: true\nmodels: {a: {path: a}, named: {path: b}}")
        .await?;
    assert_eq!(report.changed, ["scan_models_root"]);
    assert_eq!(names(), ["a", "c", "named"]);
    let client = edited.server.client().await?;
    client
        .infer_batch_composite(windows_request("c", &[1.0]))
        .await?;
    // One comes and one goes, and nobody says so.
    crate::support::avatar::write_fake(&edited.folder.path().join("d"), 1)?;
    std::fs::rename(
        edited.folder.path().join("c"),
        edited.folder.path().join(".c"),
    )?;
    let begun = std::time::Instant::now();
    while names() != ["a", "d", "named"] {
        anyhow::ensure!(begun.elapsed() < crate::support::PATIENCE, "{:?}", names());
        tokio::task::yield_now().await;
    }
    client
        .infer_batch_composite(windows_request("d", &[1.0]))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_changed_port_waits_for_the_next_start() -> Result<()> {
    let text = |port| {
        format!("{MODELS}server: {{port: '127.0.0.1:{port}'}}\noperations: {{port: '127.0.0.1:0'}}")
    };
    let edited = Edited::start(&text(0)).await?;
    let report = edited.put(&text(1)).await?;
    assert!(!report.is_news);
    assert_eq!(report.needs_restart, ["server.port"]);
    assert_eq!(edited.stats().needs_restart, ["server.port"]);
    let client = edited.server.client().await?;
    client
        .infer_batch_composite(windows_request("a", &[1.0]))
        .await?;
    assert!(edited.put(&text(0)).await?.needs_restart.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_end_takes_the_grace_of_its_time() -> Result<()> {
    let edited = Edited::start(&format!("{MODELS}server: {{shutdown_grace_s: 3600}}")).await?;
    let held = HeldGate::close(&edited.gate);
    let mut session = Session::open(&edited.server, pcm_session("a")).await?;
    session.audio(1, &babble(1, 640 * 12));
    session.half_close();
    assert!(matches!(session.next().await?, Some(Answer::Opened(_))));
    edited
        .put(&format!("{MODELS}server: {{shutdown_grace_s: 0}}"))
        .await?;
    let ending = tokio::time::timeout(Duration::from_secs(60), edited.server.shut_down());
    assert!(!ending.await.context("the grace is that of the start")?);
    drop(held);
    Ok(())
}

/// The status of the answer to a request with this head.
async fn status_of(server: &TestServer, head: &str) -> Result<u16> {
    let mut socket = TcpStream::connect(server.operations()?).await?;
    let head = format!("{head}connection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).context("no status")?;
    Ok(status.parse()?)
}

#[tokio::test]
async fn a_reload_is_asked_for_from_this_machine_and_by_no_page() -> Result<()> {
    let edited = Edited::start(&format!(
        "{MODELS}operations: {{allowed_origins: ['http://b']}}"
    ))
    .await?;
    let post = async |more: &'static str| Http::request(&edited.server, "POST /reload", more).await;
    edited.write(&format!(
        "{MODELS}output: {{jpeg_quality: 80}}\nengine: {{max_batch: 3}}"
    ))?;
    for page in [
        "origin: http://a\r\n",
        "origin: http://b\r\n",
        "origin: null\r\n",
    ] {
        assert_eq!(post(page).await?.status, 403, "{page}");
    }
    // Through a proxy on this machine, everybody comes from this machine.
    for forwarded in [
        "x-forwarded-for: 192.0.2.1\r\n",
        "forwarded: for=192.0.2.1\r\n",
        "via: 1.1 proxy\r\n",
    ] {
        assert_eq!(post(forwarded).await?.status, 403, "{forwarded}");
    }
    for head in [
        "POST /reload HTTP/1.1\r\nhost: faces.example\r\n",
        "POST /reload HTTP/1.0\r\nhost: 127.0.0.1\r\n",
    ] {
        assert_eq!(status_of(&edited.server, head).await?, 403, "{head}");
    }
    assert_eq!(Http::get(&edited.server, "/reload").await?.status, 405);
    let answer = post("").await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
    assert_eq!(answer["outcome"], "applied");
    assert_eq!(
        answer["changed"],
        serde_json::json!(["output.jpeg_quality"])
    );
    let cold = ["engine.max_batch", "operations.allowed_origins"];
    assert_eq!(answer["needs_restart"], serde_json::json!(cold));
    assert_eq!(answer["models"]["changed"], serde_json::json!(["a"]));

    edited.write("models:\n  a: {path: a, fsp: 3}\n")?;
    let answer = post("").await?;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let error = answer["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("config.yaml:2:16: models.a.fsp: "),
        "{error}"
    );
    assert_eq!(answer["excerpt"], "a: {path: a, fsp: 3}");
    let stats = Http::get(&edited.server, "/api/stats").await?;
    let stats: serde_json::Value = serde_json::from_slice(&stats.body)?;
    assert_eq!(stats["server"]["reload"]["applied"], 1);
    assert_eq!(stats["server"]["reload"]["refused"], 1);
    assert_eq!(
        stats["server"]["reload"]["needs_restart"],
        serde_json::json!(cold)
    );
    Ok(())
}
