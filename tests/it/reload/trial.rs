//! A configuration that does harm is taken back.

use anyhow::{Context as _, Result};
use tonic::Code;

use super::Edited;
use crate::support::speech::windows_request;

const MODELS: &str = "capacity: {bake: off}\nmodels: {a: {path: a, preload: true}}\n";

#[tokio::test]
async fn a_configuration_under_which_calls_fail_is_rolled_back() -> Result<()> {
    let edited = Edited::start(&format!("{MODELS}cache_dir: '.'")).await?;
    let client = edited.server.client().await?;
    let call = || client.infer_batch_composite(windows_request("a", &[1.0; 2]));
    for _ in 0..30 {
        call().await?;
    }
    // No call is done in a millisecond here, and nothing says so but the calls.
    let held = crate::support::HeldGate::close(&edited.gate);
    let report = edited
        .put(&format!(
            "{MODELS}cache_dir: '.'\nserver: {{request_timeout_ms: 1}}"
        ))
        .await?;
    assert_eq!(report.changed, ["server.request_timeout_ms"]);
    assert!(edited.stats().on_trial);
    while edited.stats().rolled_back == 0 {
        // The first one that is not refused waits at the gate.
        let ended = tokio::time::timeout(std::time::Duration::from_millis(200), call()).await;
        if let Ok(Err(status)) = ended {
            // Or the queue is full of what nobody waits for any more.
            let codes = [Code::DeadlineExceeded, Code::ResourceExhausted];
            assert!(codes.contains(&status.code()), "{status}");
        }
    }
    drop(held);
    call().await?;
    let stats = edited.stats();
    assert_eq!((stats.applied, stats.refused, stats.rolled_back), (1, 0, 1));
    assert!(!stats.on_trial);
    let error = stats.last_error.unwrap_or_default();
    assert!(error.contains("rollback_error_percent: 20"), "{error}");
    let hot = edited.server.running().shared().hot();
    assert_eq!(hot.requests.request_timeout.as_millis(), 30_000);
    // The file is as it was, and is not taken again by itself, but at a request.
    let again = edited.server.running().shared().reload.clone();
    let report = again.reload(lipsync_server::reload::Cause::File).await?;
    assert!(!report.is_news);
    let report = again.reload(lipsync_server::reload::Cause::Request).await?;
    assert!(report.is_news);
    Ok(())
}

#[tokio::test]
async fn a_good_configuration_is_kept_when_its_time_is_over() -> Result<()> {
    let text = |settings: &str| {
        format!("{MODELS}cache_dir: '.'\nreload: {{rollback_window_s: 1}}\n{settings}")
    };
    let edited = Edited::start(&text("")).await?;
    let kept = edited.folder.path().join("last-known-good.yaml");
    edited
        .put(&text("# the second\noutput: {format: png}"))
        .await?;
    edited
        .until("the trial is over", |stats| !stats.on_trial)
        .await?;
    let begun = std::time::Instant::now();
    while !std::fs::read_to_string(&kept)
        .unwrap_or_default()
        .contains("# the second")
    {
        anyhow::ensure!(begun.elapsed() < crate::support::PATIENCE, "it is not kept");
        tokio::task::yield_now().await;
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(&kept)?.permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(edited.stats().rolled_back, 0);
    Ok(())
}

/// Tenants `a` with this key, and something else.
fn keyed(key: &str, settings: &str) -> Result<String> {
    let hash = lipsync_server::tenants::Digest::of(key.as_bytes())
        .context("a key")?
        .hex();
    Ok(format!(
        "{MODELS}tenants: {{a: {{admin: true, keys: {{k: {{sha256: {hash}}}}}}}}}\n{settings}"
    ))
}

#[tokio::test]
async fn a_key_that_was_taken_away_does_not_return_with_the_last_good_configuration() -> Result<()>
{
    let [old, new] = ["the-old-key-0123456789", "the-new-key-0123456789"];
    let edited = Edited::start(&keyed(old, "")?).await?;
    let call = async |key: &str| {
        let client = edited.server.client_with(key).await?;
        let called = client.infer_batch_composite(windows_request("a", &[1.0; 2]));
        anyhow::Ok(called.await)
    };
    call(old).await??;
    // Nothing that could be tried.
    let report = edited.put(&keyed(new, "")?).await?;
    assert_eq!(report.changed, ["tenants"]);
    assert!(!edited.stats().on_trial);
    for _ in 0..30 {
        call(new).await??;
    }
    edited.put(&keyed(old, "")?).await?;
    let held = crate::support::HeldGate::close(&edited.gate);
    let harm = "server: {request_timeout_ms: 1}";
    edited.put(&keyed(new, harm)?).await?;
    assert!(edited.stats().on_trial);
    while edited.stats().rolled_back == 0 {
        // The first one that is not refused waits at the gate.
        let limit = std::time::Duration::from_millis(200);
        let _ended = tokio::time::timeout(limit, call(new)).await;
    }
    drop(held);
    call(new).await??;
    let refused = call(old).await?.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    Ok(())
}
