//! Networks that fail: answers in part, and models that are refused until they work again.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use lipsync::v1::{self, CircuitState};
use lipsync_testing::FAULT;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::support::{FakeLoader, TestServer, avatar, speech::windows_request};

async fn server(folder: &Path) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), 3)?;
    let yaml = "server: {worker_count: 1}\nmodels: {a: {path: a, preload: true}}";
    TestServer::start(yaml, folder, Arc::new(FakeLoader::default())).await
}

/// Whether the model is serving, and its circuit.
async fn state(server: &TestServer) -> Result<(bool, CircuitState)> {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address()))?;
    let mut health = HealthClient::new(endpoint.connect().await?);
    let service = "model/a".to_owned();
    let answer = health.check(HealthCheckRequest { service }).await?;
    let is_serving = answer.into_inner().status == i32::from(ServingStatus::Serving);
    let mut admin = server.client().await?.model_admin();
    let list = admin.list_models(v1::ListModelsRequest {}).await?;
    let model = list.into_inner().models.pop().context("a model")?;
    Ok((is_serving, model.circuit()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_answer_names_the_frames_that_it_lacks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let client = server.client().await?;
    let whole = windows_request("a", &[7.0, FAULT, 9.0]);
    let partial = v1::InferBatchCompositeRequest {
        allow_partial: true,
        ..whole.clone()
    };
    let refused = client.infer_batch_composite(whole).await;
    let status = refused.expect_err("one frame fails");
    assert_eq!(status.code(), Code::Internal);
    let answer = client.infer_batch_composite(partial).await?;
    let alone = client.infer_batch_composite(windows_request("a", &[7.0, 8.0, 9.0]));
    let expected = alone.await?.frames;
    assert_eq!(answer.frames, [expected[0].clone(), expected[2].clone()]);
    let [failure] = &answer.failures[..] else {
        anyhow::bail!("{:?}", answer.failures)
    };
    assert_eq!(
        (failure.index, failure.code),
        (1, i32::from(Code::Internal))
    );
    assert_eq!(failure.message, "internal error", "no details for clients");
    let stats = server.stats().await?;
    let recovery = stats.recovery.context("counted")?;
    assert_eq!(recovery.failed_frames, 1);
    assert!(
        recovery.retries > 0 && recovery.split_batches > 0,
        "{recovery:?}"
    );
    assert_eq!((stats.completed, stats.failed), (2, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_keeps_failing_is_refused_and_comes_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let client = server.client().await?;
    let ask = |value| client.infer_batch_composite(windows_request("a", &[value]));
    ask(7.0).await?;
    assert_eq!(state(&server).await?, (true, CircuitState::Closed));
    for _ in 0..5 {
        let status = ask(FAULT).await.expect_err("it fails");
        assert_eq!(status.code(), Code::Internal);
    }
    assert_eq!(state(&server).await?, (false, CircuitState::Open));
    let status = ask(7.0).await.expect_err("it is refused");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let details = status.get_error_details();
    let advice = details.retry_info().and_then(|retry| retry.retry_delay);
    assert!(advice.is_some_and(|delay| !delay.is_zero()));
    // After a second a few are accepted, and more with each success.
    while state(&server).await?.1 != CircuitState::Closed {
        match ask(7.0).await {
            Ok(answer) => assert_eq!(answer.frames.len(), 1),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
    }
    assert!(state(&server).await?.0);
    let stats = server.stats().await?;
    let recovery = stats.recovery.context("counted")?;
    assert_eq!((recovery.circuits_opened, recovery.circuits_closed), (1, 1));
    assert!(recovery.circuit_refused >= 1 && recovery.circuit_refused <= stats.rejected);
    Ok(())
}
