//! One line of the log for each finished call.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use lipsync::{client::Client, v1};
use rustix::process::Signal;
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::server::{Server, write_avatar};

/// Far more than anything here takes.
const TOO_LONG: Duration = Duration::from_secs(120);

fn request(model: &str, id: &'static str) -> Result<Request<v1::GetBackgroundRequest>> {
    let mut request = Request::new(v1::GetBackgroundRequest {
        model_id: model.into(),
        background_indices: vec![0, 1],
        ..Default::default()
    });
    request.metadata_mut().insert("x-request-id", id.parse()?);
    Ok(request)
}

/// The fields of the lines about calls that a server with these settings writes for a good call and a wrong one.
async fn lines(folder: &Path, logging: &str) -> Result<Vec<Value>> {
    write_avatar(folder, logging)?;
    let log = folder.join("log");
    let mut server = Server::start_with_json(folder, &log)?;
    let client = Client::connect(&server.address).await?;
    client
        .lip_sync()
        .get_background(request("a", "one")?)
        .await?;
    let unknown = client.lip_sync().get_background(request("b", "two")?).await;
    let unknown = unknown.err().context("there is no such model")?;
    assert_eq!(unknown.code(), Code::NotFound);
    client
        .server_admin()
        .get_server_stats(v1::GetServerStatsRequest {})
        .await?;
    server.signal(Signal::TERM)?;
    assert_eq!(server.wait(TOO_LONG)?.code(), Some(0));
    let mut calls = Vec::new();
    for line in fs::read_to_string(log)?.lines() {
        let mut line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if line["target"] == "lipsync_server::calls" {
            calls.push(line["fields"].take());
        }
    }
    Ok(calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_call_is_one_line_with_numbers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lines = lines(folder.path(), "logging: {format: json}").await?;
    let [good, wrong] = &lines[..] else {
        panic!("{lines:#?}");
    };
    let expected = json!({
        "request_id": "one",
        "method": "GetBackground",
        "tenant": "default",
        "model": "a",
        "code": "OK",
        "outcome": "ok",
        "frames": 2,
    });
    for (field, expected) in expected.as_object().into_iter().flatten() {
        assert_eq!(&good[field], expected, "{field}");
    }
    assert!(
        good["total_ms"].as_f64().is_some_and(|ms| ms > 0.0),
        "{good}"
    );
    assert!(
        good["queue_ms"].is_number() && good["late_frames"].is_null(),
        "{good}"
    );
    assert_eq!(wrong["request_id"], "two");
    assert_eq!(wrong["code"], "NOT_FOUND");
    assert!(wrong["model"].is_null(), "a client's word: {wrong}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_can_be_left_out() -> Result<()> {
    for (calls, expected) in [("errors", &["two"][..]), ("none", &[][..])] {
        let folder = tempfile::tempdir()?;
        let logging = format!("logging: {{format: json, calls: {calls}}}");
        let lines = lines(folder.path(), &logging).await?;
        let id = |line: &Value| line["request_id"].as_str().map(str::to_owned);
        let ids: Vec<_> = lines.iter().filter_map(id).collect();
        assert_eq!(ids, expected, "{calls}");
    }
    Ok(())
}
