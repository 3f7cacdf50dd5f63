//! Health and reflection, as tools ask for them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use lipsync::v1;
use lipsync_server::Config;
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
async fn a_watcher_sees_a_model_fail_and_heal() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let a = folder.path().join("a");
    avatar::write_fake(&a, 3)?;
    let loader = Arc::new(FakeLoader::default());
    let server = TestServer::start("models: {a: {path: a}}", folder.path(), loader).await?;
    let mut watching = client(&server)
        .await?
        .watch(of("model/a"))
        .await?
        .into_inner();
    let mut next = async || {
        let answer = watching.message().await?.context("an answer")?;
        anyhow::Ok(ServingStatus::try_from(answer.status)?)
    };
    assert_eq!(next().await?, ServingStatus::Serving);
    let manifest = std::fs::read(a.join("avatar.yaml"))?;
    std::fs::write(a.join("avatar.yaml"), "audio_kind: [")?;
    let mut admin = server.client().await?.model_admin();
    let load = || v1::LoadModelRequest {
        model_id: "a".into(),
    };
    for _ in 0..3 {
        let refused = admin.load_model(load()).await.expect_err("broken");
        assert_eq!(refused.code(), Code::FailedPrecondition);
    }
    assert_eq!(next().await?, ServingStatus::NotServing);
    std::fs::write(a.join("avatar.yaml"), manifest)?;
    admin.load_model(load()).await?;
    // Nothing was said while it was tried again: that would be a promise.
    assert_eq!(next().await?, ServingStatus::Serving);
    Ok(())
}

#[tokio::test]
async fn a_watcher_sees_a_model_added_removed_and_changed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["a", "b"] {
        avatar::write_fake(&folder.path().join(name), 3)?;
    }
    let loader = Arc::new(FakeLoader::default());
    let server = TestServer::start("models: {a: {path: a}}", folder.path(), loader).await?;
    let registry = server.running().shared().registry.clone();
    let configure = |yaml: &str| {
        let config = Config::parse(yaml, &folder.path().join("config.yaml"), [])?;
        anyhow::Ok(registry.reconfigure(config.registry)?)
    };
    let mut health = client(&server).await?;
    let mut watching = health.watch(of("model/b")).await?.into_inner();
    let mut next = async || {
        let answer = watching.message().await?.context("an answer")?;
        anyhow::Ok(ServingStatus::try_from(answer.status)?)
    };
    assert_eq!(next().await?, ServingStatus::ServiceUnknown);
    configure("models: {b: {path: nowhere}}")?;
    assert_eq!(next().await?, ServingStatus::Serving);
    registry.look_over();
    assert_eq!(next().await?, ServingStatus::NotServing);
    configure("models: {b: {path: b}}")?;
    assert_eq!(next().await?, ServingStatus::Serving);
    configure("models: {a: {path: a}}")?;
    assert_eq!(next().await?, ServingStatus::ServiceUnknown);
    let gone = health.check(of("model/b")).await.expect_err("removed");
    assert_eq!(gone.code(), Code::NotFound);
    Ok(())
}

#[tokio::test]
async fn broken_and_missing_models_fail_by_themselves() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["a", "broken", "torn"] {
        avatar::write_fake(&folder.path().join(name), 3)?;
    }
    std::fs::write(folder.path().join("broken/avatar.yaml"), "audio_kind: [")?;
    std::fs::remove_file(folder.path().join("torn/generator.onnx"))?;
    let yaml = "models: {a: {path: a, preload: true}, broken: {path: broken, preload: true}, \
                gone: {path: gone, preload: true}, lazy: {path: gone}, torn: {path: torn}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    let mut admin = server.client().await?.model_admin();
    let listed = admin
        .list_models(v1::ListModelsRequest {})
        .await?
        .into_inner();
    let mut health = client(&server).await?;
    for model in listed.models {
        let (state, serving) = if model.model_id == "a" {
            (v1::ModelState::Ready, ServingStatus::Serving)
        } else {
            assert!(
                !model.failure.is_empty() && !model.failure.contains('/'),
                "{model:?}"
            );
            (v1::ModelState::Failed, ServingStatus::NotServing)
        };
        assert_eq!(model.state(), state, "{model:?}");
        let name = format!("model/{}", model.model_id);
        let found = health.check(of(&name)).await?.into_inner();
        assert_eq!(found.status(), serving, "{name}");
    }
    let ready = health.check(of("")).await?.into_inner();
    assert_eq!(ready.status(), ServingStatus::Serving);
    // Put right, it is served without a new start.
    avatar::write_fake(&folder.path().join("gone"), 3)?;
    let request = windows_request("gone", &[1.0]);
    server
        .client()
        .await?
        .infer_batch_composite(request)
        .await?;
    let healed = health.check(of("model/gone")).await?.into_inner();
    assert_eq!(healed.status(), ServingStatus::Serving);
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
