//! Nothing of one tenant shows to another.

use anyhow::{Context as _, Result};
use lipsync::{client::Client, v1};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{A, ADMIN, B, server};
use crate::support::speech::windows_request;

/// Everything that tells whether a model exists, as one caller sees it.
async fn looks_of(client: &Client, model: &str) -> Result<Vec<Status>> {
    let mut models = client.model_admin();
    let id = || model.to_owned();
    let open = v1::StreamCompositeRequest {
        message: Some(v1::stream_composite_request::Message::Open(
            v1::OpenSession {
                model_id: id(),
                sample_rate_hz: 16_000,
                ..Default::default()
            },
        )),
    };
    let opening = async {
        let session = client
            .lip_sync()
            .stream_composite(tokio_stream::iter([open]))
            .await?;
        session.into_inner().message().await.map(drop)
    };
    let answers = [
        client
            .infer_batch_composite(windows_request(model, &[1.0]))
            .await
            .map(drop),
        client
            .lip_sync()
            .get_background(v1::GetBackgroundRequest {
                model_id: id(),
                background_indices: vec![0],
                ..Default::default()
            })
            .await
            .map(drop),
        models
            .get_model_stats(v1::GetModelStatsRequest { model_id: id() })
            .await
            .map(drop),
        models
            .load_model(v1::LoadModelRequest { model_id: id() })
            .await
            .map(drop),
        models
            .unload_model(v1::UnloadModelRequest { model_id: id() })
            .await
            .map(drop),
        opening.await,
    ];
    let refused = |answer: Result<(), Status>| answer.err().context("it should be refused");
    answers.into_iter().map(refused).collect()
}

#[tokio::test]
async fn a_model_of_others_looks_like_one_that_does_not_exist() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "", "").await?;
    let a = server.client_with(A).await?;
    let theirs = looks_of(&a, "b").await?;
    let nobodys = looks_of(&a, "x").await?;
    let not_found = Code::NotFound;
    let denied = Code::PermissionDenied;
    let codes: Vec<_> = theirs.iter().map(Status::code).collect();
    assert_eq!(
        codes,
        [not_found, not_found, not_found, denied, denied, not_found]
    );
    for (one, other) in theirs.iter().zip(&nobodys) {
        assert_eq!(one.code(), other.code());
        assert_eq!(
            one.message().replace('b', "x"),
            other.message().replace('b', "x")
        );
        assert_eq!(one.details(), other.details());
    }
    let frames = a
        .infer_batch_composite(windows_request("a", &[7.0]))
        .await?;
    assert_eq!(frames.frames.len(), 1);
    let list = async |key: &str| {
        let client = server.client_with(key).await?;
        let listed = client
            .model_admin()
            .list_models(v1::ListModelsRequest {})
            .await?;
        anyhow::Ok(listed.into_inner().models)
    };
    let (of_a, of_admin) = (list(A).await?, list(ADMIN).await?);
    let ids = |models: &[v1::ModelStats]| -> Vec<String> {
        models.iter().map(|model| model.model_id.clone()).collect()
    };
    assert_eq!(ids(&of_a), ["a"]);
    assert_eq!(ids(&of_admin), ["a", "b"]);
    // How much others use it is nobody's business.
    assert_eq!(
        (of_a[0].frames, of_a[0].usage_count, of_a[0].loads),
        (0, 0, 0)
    );
    assert_eq!((of_a[0].fps, of_a[0].state()), (25, v1::ModelState::Ready));
    assert!(of_admin[0].frames > 0);
    Ok(())
}

#[tokio::test]
async fn health_tells_a_tenant_of_its_own_models() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "", "").await?;
    let channel = Endpoint::from_shared(format!("http://{}", server.address()))?
        .connect()
        .await?;
    let mut health = HealthClient::new(channel);
    let ask = |key: &str, service: &str| {
        let mut request = Request::new(HealthCheckRequest {
            service: service.into(),
        });
        let value: MetadataValue<_> = format!("Bearer {key}").parse()?;
        request.metadata_mut().insert("authorization", value);
        anyhow::Ok(request)
    };
    for (key, model, is_known) in [
        (A, "model/a", true),
        (A, "model/b", false),
        (A, "model/x", false),
        (B, "model/b", true),
        (ADMIN, "model/b", true),
    ] {
        let checked = health.check(ask(key, model)?).await;
        assert_eq!(checked.is_ok(), is_known, "{key} {model}: {checked:?}");
        let mut watch = health.watch(ask(key, model)?).await?.into_inner();
        let first = watch.message().await?.context("an answer")?;
        let is_unknown = first.status() == ServingStatus::ServiceUnknown;
        assert_eq!(!is_unknown, is_known, "{key} {model}");
    }
    Ok(())
}

#[tokio::test]
async fn admins_see_and_load_everything_and_others_nothing_of_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "", "").await?;
    let (a, admin) = (
        server.client_with(A).await?,
        server.client_with(ADMIN).await?,
    );
    let stats = |client: &Client| {
        let mut admin = client.server_admin();
        async move { admin.get_server_stats(v1::GetServerStatsRequest {}).await }
    };
    let refused = stats(&a).await.expect_err("no admin");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let watch = v1::WatchServerStatsRequest::default();
    let refused = a.server_admin().watch_server_stats(watch).await;
    assert_eq!(
        refused.expect_err("no admin").code(),
        Code::PermissionDenied
    );
    let mut models = admin.model_admin();
    let model_id = || "b".to_owned();
    models
        .load_model(v1::LoadModelRequest {
            model_id: model_id(),
        })
        .await?;
    assert_eq!(stats(&admin).await?.into_inner().models_loaded, 2);
    models
        .unload_model(v1::UnloadModelRequest {
            model_id: model_id(),
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_level_above_the_tenants_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "", "").await?;
    for (key, model, is_allowed) in [(A, "a", false), (ADMIN, "a", true)] {
        let client = server.client_with(key).await?;
        let mut in_message = windows_request(model, &[1.0]);
        in_message.set_priority(v1::Priority::High);
        let mut in_header = Request::new(windows_request(model, &[1.0]));
        let high = MetadataValue::from_static("high");
        in_header.metadata_mut().insert("x-request-priority", high);
        for request in [Request::new(in_message), in_header] {
            let answer = client.lip_sync().infer_batch_composite(request).await;
            match answer {
                Ok(_) => assert!(is_allowed, "{key}"),
                Err(status) => {
                    assert!(!is_allowed, "{key}: {status}");
                    assert_eq!(status.code(), Code::PermissionDenied);
                    assert!(status.message().contains("found high"), "{status}");
                }
            }
        }
    }
    Ok(())
}
