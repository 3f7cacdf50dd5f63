//! `/metrics`: what it says after calls and sessions of known outcome.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use lipsync::v1::{self, stream_composite_response::Message as Answer};
use serde_json::Value;
use tonic::Code;

use crate::support::{
    FakeLoader, Http, PATIENCE, Socket, TestServer, avatar,
    speech::{babble, windows_request},
};

/// Samples by name and labels, as they are written.
type Samples = BTreeMap<String, f64>;

async fn fake_server(folder: &Path, yaml: &str) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), 4)?;
    let yaml = format!("models: {{a: {{path: a, preload: true}}}}\n{yaml}");
    TestServer::start(&yaml, folder, Arc::new(FakeLoader::default())).await
}

async fn scrape(server: &TestServer) -> Result<Samples> {
    let page = Http::get(server, "/metrics").await?;
    assert_eq!(page.status, 200);
    let kind = page.header("content-type");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(page.header("cache-control"), "no-store");
    let lines = page.text().lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').context("a name and a value")?;
        Ok((name.to_owned(), value.parse()?))
    });
    let samples: Samples = samples.collect::<Result<_>>()?;
    check_histograms(&samples)?;
    Ok(samples)
}

/// Buckets ascend, and the last one holds all.
fn check_histograms(samples: &Samples) -> Result<()> {
    let mut n_histograms = 0;
    for (name, count) in samples.iter().filter(|(name, _)| {
        let name = name.split('{').next().unwrap_or_default();
        // Counters of Triton have such names, too; it has no histograms.
        name.ends_with("_count") && !name.starts_with("nv_")
    }) {
        let last = name.replacen("_count", "_bucket", 1);
        let last = match last.strip_suffix('}') {
            Some(labels) => format!("{labels},le=\"+Inf\"}}"),
            None => format!("{last}{{le=\"+Inf\"}}"),
        };
        let all = samples.get(&last);
        ensure!(all == Some(count), "{last} is {all:?}, {name} is {count}");
        n_histograms += 1;
    }
    ensure!(n_histograms > 5, "{n_histograms} histograms");
    Ok(())
}

fn value(samples: &Samples, name: &str) -> f64 {
    samples.get(name).copied().unwrap_or(0.0)
}

fn check(samples: &Samples, expected: &[(&str, f64)]) {
    for (name, n) in expected {
        assert_eq!(value(samples, name), *n, "{name}");
    }
}

/// Two calls of the model `a`, of four frames together, and one of a model that there is not.
fn check_calls(samples: &Samples) {
    let infer = "grpc_service=\"lipsync.v1.LipSync\",grpc_method=\"InferBatchComposite\"";
    let named = "model=\"a\",tenant=\"default\"";
    let ok = format!("lipsync_request_duration_seconds_count{{{named},outcome=\"ok\"}}");
    let queue_waits = "lipsync_queue_wait_seconds_count{priority=\"normal\"}";
    check(
        samples,
        &[
            (&format!("grpc_server_started_total{{{infer}}}"), 3.0),
            (
                &format!("grpc_server_handled_total{{{infer},grpc_code=\"OK\"}}"),
                2.0,
            ),
            (
                &format!("grpc_server_handled_total{{{infer},grpc_code=\"NOT_FOUND\"}}"),
                1.0,
            ),
            (
                &format!("grpc_server_handling_seconds_count{{{infer}}}"),
                3.0,
            ),
            (&ok, 2.0),
            (
                "lipsync_request_duration_seconds_count{model=\"_other\",tenant=\"default\",outcome=\"invalid\"}",
                1.0,
            ),
            (
                &format!("lipsync_frames_total{{{named},kind=\"unary\"}}"),
                4.0,
            ),
            (queue_waits, 2.0),
            ("lipsync_batch_frames_sum", 4.0),
            ("lipsync_stage_frames_total{stage=\"infer\"}", 4.0),
            ("lipsync_jobs_total{outcome=\"completed\"}", 2.0),
            ("lipsync_tenant_inflight{tenant=\"default\"}", 0.0),
            ("lipsync_model_resident{model=\"a\"}", 1.0),
            ("lipsync_model_load_seconds_count{model=\"a\"}", 1.0),
            ("lipsync_phase{phase=\"serving\"}", 1.0),
            ("lipsync_connections{port=\"grpc\"}", 1.0),
        ],
    );
}

#[tokio::test]
async fn calls_count_by_model_tenant_and_outcome() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let client = server.client().await?;
    for n_frames in [1, 3] {
        let windows = vec![7.0; n_frames];
        client
            .infer_batch_composite(windows_request("a", &windows))
            .await?;
    }
    let made_up = "not-configured";
    let unknown = client
        .infer_batch_composite(windows_request(made_up, &[7.0]))
        .await;
    assert_eq!(unknown.err().map(|e| e.code()), Some(Code::NotFound));
    let samples = scrape(&server).await?;
    check_calls(&samples);
    assert!(
        value(
            &samples,
            "lipsync_network_received_bytes_total{port=\"grpc\"}"
        ) > 1000.0
    );
    assert!(value(&samples, "lipsync_network_sent_bytes_total{port=\"grpc\"}") > 1000.0);
    let foreign = samples.keys().find(|name| name.contains(made_up));
    assert_eq!(foreign, None, "a client's word is a label");
    Ok(())
}

#[tokio::test]
async fn sessions_count_their_frames_and_times() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let open = v1::OpenSession {
        model_id: "a".into(),
        sample_rate_hz: 16_000,
        ..Default::default()
    };
    let mut session = Socket::open(&server, open).await?;
    session.opened().await?;
    let during = scrape(&server).await?;
    check(
        &during,
        &[
            ("lipsync_sessions", 1.0),
            ("lipsync_tenant_inflight{tenant=\"default\"}", 1.0),
        ],
    );
    session.audio(1, &babble(1, 640 * 40)).await?;
    session.half_close().await?;
    let (answers, code, _) = session.rest().await?;
    assert_eq!(code, 1000);
    let is_frame = |answer: &&Answer| matches!(answer, Answer::Frame(_));
    let n_frames = answers.iter().filter(is_frame).count();
    assert_eq!(n_frames, 40);
    let samples = scrape(&server).await?;
    let named = "model=\"a\",tenant=\"default\"";
    check(
        &samples,
        &[
            ("lipsync_sessions", 0.0),
            (
                &format!("lipsync_frames_total{{{named},kind=\"spoken\"}}"),
                40.0,
            ),
            (
                &format!("lipsync_frames_total{{{named},kind=\"unary\"}}"),
                0.0,
            ),
            (
                &format!("lipsync_first_frame_seconds_count{{{named}}}"),
                1.0,
            ),
            (
                &format!("lipsync_frame_interval_seconds_count{{{named}}}"),
                39.0,
            ),
            (
                &format!("lipsync_session_duration_seconds_count{{{named},outcome=\"ok\"}}"),
                1.0,
            ),
        ],
    );
    Ok(())
}

#[tokio::test]
async fn refusals_count_by_what_ran_out() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "session: {max_sessions: 1}").await?;
    let open = || v1::OpenSession {
        model_id: "a".into(),
        sample_rate_hz: 16_000,
        ..Default::default()
    };
    let mut held = Socket::open(&server, open()).await?;
    held.opened().await?;
    let mut refused = Socket::open(&server, open()).await?;
    let (_, code, _) = refused.rest().await?;
    assert_eq!(code, 4008);
    let samples = scrape(&server).await?;
    let outcome = "tenant=\"default\",outcome=\"refused\"";
    let ended = format!("lipsync_session_duration_seconds_count{{model=\"_other\",{outcome}}}");
    check(
        &samples,
        &[
            ("lipsync_shed_total{reason=\"sessions\"}", 1.0),
            (&ended, 1.0),
        ],
    );
    Ok(())
}

#[tokio::test]
async fn scrapers_that_ask_for_open_metrics_get_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let page = Http::request(&server, "GET /metrics", accept).await?;
    let kind = page.header("content-type");
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(page.text().ends_with("\n# EOF\n"));
    assert!(page.text().contains("# TYPE lipsync_build info\n"));
    Ok(())
}

#[tokio::test]
async fn the_past_and_the_alerts_are_there_for_pages() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(
        folder.path(),
        "alerts: {for_s: 0, memory_warning_percent: 1}",
    )
    .await?;
    let wrong = Http::get(&server, "/api/history?scale=1h").await?;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("scale=10s"), "{}", wrong.text());
    let json = async |path: &str| -> Result<Value> {
        let answer = Http::get(&server, path).await?;
        assert_eq!(answer.header("content-type"), "application/json");
        Ok(serde_json::from_slice(&answer.body)?)
    };
    let given_up = tokio::time::Instant::now() + PATIENCE;
    let past = loop {
        let past = json("/api/history").await?;
        if past["at_s"]
            .as_array()
            .is_some_and(|steps| !steps.is_empty())
        {
            break past;
        }
        ensure!(tokio::time::Instant::now() < given_up, "no step is over");
        tokio::task::yield_now().await;
    };
    let n_steps = past["at_s"].as_array().map_or(0, Vec::len);
    let newest = past["at_s"][n_steps - 1].as_u64().context("a time")?;
    let later = json(&format!("/api/history?scale=1s&since_s={newest}")).await?;
    let later = later["at_s"].as_array().context("times")?;
    assert!(
        later.iter().all(|at| at.as_u64() > Some(newest)),
        "{later:?}"
    );
    for wrong in ["since_s=x", "since=1", "scale"] {
        let refused = Http::get(&server, &format!("/api/history?{wrong}")).await?;
        assert_eq!(refused.status, 400, "{wrong}");
    }
    let figures = past["figures"].as_array().context("figures")?;
    let memory = figures
        .iter()
        .find(|figure| figure["name"] == "resident_bytes");
    let memory = &memory.context("the memory")?["means"];
    assert_eq!(memory.as_array().map(Vec::len), Some(n_steps));
    assert!(memory[0].as_f64().is_some_and(|n| n > 1e6), "{memory}");
    let alerts = json("/api/alerts").await?;
    let alerts = alerts.as_array().context("alerts")?;
    let severity = |name: &str| {
        let alert = alerts.iter().find(|alert| alert["name"] == name);
        alert.map(|alert| alert["severity"].clone())
    };
    assert_eq!(alerts.len(), 12);
    assert_eq!(severity("queue_wait"), Some(Value::Null));
    // Every machine that can run this test uses more than a hundredth of its memory.
    assert_ne!(severity("memory"), Some(Value::Null));
    let raised = scrape(&server).await?;
    let n_raised = raised
        .iter()
        .filter(|(name, n)| name.starts_with("lipsync_alert{alert=\"memory\"") && **n == 1.0);
    assert_eq!(n_raised.count(), 1);
    Ok(())
}
