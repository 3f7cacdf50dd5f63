//! Health and reflection, as tools ask for them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{FakeLoader, TestServer, avatar, speech::windows_request};

async fn channel(server: &TestServer) -> Result<Channel> {
    Ok(
        Endpoint::from_shared(format!("http://{}", server.address()))?
            .connect()
            .await?,
    )
}

async fn client(server: &TestServer) -> Result<HealthClient<Channel>> {
    Ok(HealthClient::new(channel(server).await?))
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.into(),
    }
}

#[tokio::test]
async fn health_is_known_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    avatar::write_fake(&folder.path().join("broken"), 3)?;
    std::fs::remove_file(folder.path().join("broken/crop_rectangles.json"))?;
    let yaml = "models: {a: {path: a}, broken: {path: broken}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    let refused = server
        .client()
        .await?
        .infer_batch_composite(windows_request("broken", &[1.0]))
        .await;
    assert!(refused.is_err());
    let mut health = client(&server).await?;
    let serving = i32::from(ServingStatus::Serving);
    for name in [
        "",
        "readiness",
        "liveness",
        "lipsync.v1.LipSync",
        "lipsync.v1.ModelAdmin",
        "model/a",
    ] {
        assert_eq!(
            health.check(of(name)).await?.into_inner().status,
            serving,
            "{name:?}"
        );
    }
    let broken = health.check(of("model/broken")).await?.into_inner();
    assert_eq!(broken.status, i32::from(ServingStatus::NotServing));
    for name in ["nobody", "model/nobody", "model/../a"] {
        let status = health.check(of(name)).await.expect_err("unknown");
        assert_eq!(status.code(), Code::NotFound, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_watcher_sees_the_drain_and_unknown_names() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let loader = Arc::new(FakeLoader::default());
    let server = TestServer::start("models: {a: {path: a}}", folder.path(), loader).await?;
    let mut health = client(&server).await?;
    let mut unknown = health.watch(of("nobody")).await?.into_inner();
    let first = unknown.message().await?.context("an answer")?;
    assert_eq!(first.status, i32::from(ServingStatus::ServiceUnknown));
    let mut watching = health.watch(of("")).await?.into_inner();
    let mut readiness = health.watch(of("readiness")).await?.into_inner();
    let mut liveness = health.watch(of("liveness")).await?.into_inner();
    for watching in [&mut watching, &mut readiness, &mut liveness] {
        let first = watching.message().await?.context("an answer")?;
        assert_eq!(first.status, i32::from(ServingStatus::Serving));
    }
    let draining = tokio::spawn(server.shut_down());
    for watching in [&mut watching, &mut readiness] {
        let second = watching.message().await?.context("an answer")?;
        assert_eq!(second.status, i32::from(ServingStatus::NotServing));
    }
    // A process that drains is alive.
    let second = liveness.message().await?.context("an answer")?;
    assert_eq!(second.status, i32::from(ServingStatus::Serving));
    drop((watching, readiness, liveness, unknown, health));
    assert!(draining.await?);
    Ok(())
}

#[tokio::test]
async fn reflection_lists_every_service() -> Result<()> {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let loader = Arc::new(FakeLoader::default());
    let server = TestServer::start("models: {a: {path: a}}", folder.path(), loader).await?;
    let mut reflection = ServerReflectionClient::new(channel(&server).await?);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let asked = tokio_stream::iter([request]);
    let mut answers = reflection.server_reflection_info(asked).await?.into_inner();
    let answer = answers.message().await?.context("an answer")?;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        anyhow::bail!("{answer:?}")
    };
    let names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
    for name in [
        "lipsync.v1.LipSync",
        "lipsync.v1.ServerAdmin",
        "grpc.health.v1.Health",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
    Ok(())
}
