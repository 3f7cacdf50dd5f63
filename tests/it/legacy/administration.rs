//! Models, health and tenants through these protocols, and that they are off unless asked for.

use std::sync::Arc;

use anyhow::Result;
use lipsync::legacy::{
    compositing::{self, compositing_service_client::CompositingServiceClient},
    monolithic::{self, monolithic_service_client::MonolithicServiceClient},
    multi_tenant::{self, multi_tenant_lip_sync_client::MultiTenantLipSyncClient},
};
use tonic::{Code, Request};

use super::{ON, channel, server};
use crate::{
    support::{FakeLoader, TestServer, avatar},
    tenants,
};

#[tokio::test]
async fn models_are_listed_loaded_and_unloaded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "capacity: {max_models: 7}").await?;
    let mut client = MultiTenantLipSyncClient::new(channel(&server).await?);
    let health = client
        .health(multi_tenant::HealthRequest {})
        .await?
        .into_inner();
    assert!(health.healthy && !health.cuda_available);
    assert_eq!((health.loaded_models, health.max_models), (0, 7));
    let model_id = "a".to_owned();
    let load = multi_tenant::LoadModelRequest {
        model_id: model_id.clone(),
        force_reload: true,
    };
    let loaded = client.load_model(load.clone()).await?.into_inner();
    assert!(loaded.success && loaded.stats.is_some(), "{}", loaded.error);
    let listed = client
        .list_models(multi_tenant::ListModelsRequest {})
        .await?;
    let listed: Vec<_> = listed.into_inner().models;
    let loaded: Vec<_> = listed
        .iter()
        .map(|m| (m.model_id.as_str(), m.loaded))
        .collect();
    assert_eq!(loaded, [("a", true), ("broken", false)]);
    assert!(
        listed
            .iter()
            .all(|m| m.model_path.is_empty() && m.background_dir.is_empty())
    );
    let stats = client
        .get_model_stats(multi_tenant::GetModelStatsRequest::default())
        .await?;
    let stats = stats.into_inner();
    assert_eq!((stats.loaded_models, stats.max_models), (1, 7));
    assert!(stats.total_memory_bytes > 0 && stats.max_memory_bytes > 0);
    for was_loaded in [true, false] {
        let model_id = model_id.clone();
        let unload = multi_tenant::UnloadModelRequest { model_id };
        let unloaded = client.unload_model(unload).await?.into_inner();
        assert_eq!(unloaded.success, was_loaded);
        assert_eq!(unloaded.error.is_empty(), was_loaded);
    }
    Ok(())
}

#[tokio::test]
async fn the_other_protocols_manage_models_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "").await?;
    let mut client = MonolithicServiceClient::new(channel(&server).await?);
    let load = |id: &str| monolithic::LoadModelRequest {
        model_id: id.into(),
        preferred_gpu: -1,
    };
    assert!(client.load_model(load("a")).await?.into_inner().success);
    let refused = client.load_model(load("broken")).await?.into_inner();
    assert!(
        !refused.success && refused.error.contains("cannot be used"),
        "{}",
        refused.error
    );
    let stats = client
        .get_model_stats(monolithic::GetModelStatsRequest {})
        .await?;
    assert_eq!(stats.into_inner().models.len(), 1);
    let listed = client.list_models(monolithic::ListModelsRequest {}).await?;
    assert_eq!(listed.into_inner().models.len(), 2);
    assert!(
        client
            .health(monolithic::HealthRequest {})
            .await?
            .into_inner()
            .healthy
    );
    let mut client = CompositingServiceClient::new(channel(&server).await?);
    let health = client
        .health(compositing::HealthRequest {})
        .await?
        .into_inner();
    assert!(health.inference_server_healthy && health.loaded_models == 1);
    Ok(())
}

#[tokio::test]
async fn tenants_pass_the_same_gate() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = tenants::server(folder.path(), "max_requests: 0", ON).await?;
    let health = multi_tenant::HealthRequest {};
    let nobody = MultiTenantLipSyncClient::new(channel(&server).await?)
        .health(health)
        .await;
    assert_eq!(nobody.expect_err("no key").code(), Code::Unauthenticated);
    let with_key = |key: &str, channel| {
        let value = format!("Bearer {key}").parse();
        MonolithicServiceClient::with_interceptor(channel, move |mut request: Request<()>| {
            if let Ok(value) = &value {
                let value: &tonic::metadata::MetadataValue<_> = value;
                request
                    .metadata_mut()
                    .insert("authorization", value.clone());
            }
            Ok(request)
        })
    };
    let mut a = with_key(tenants::A, channel(&server).await?);
    let load = monolithic::LoadModelRequest {
        model_id: "a".into(),
        preferred_gpu: 0,
    };
    let refused = a.load_model(load).await?.into_inner();
    assert!(
        !refused.success && refused.error.contains("admin: true"),
        "{}",
        refused.error
    );
    let listed = a
        .list_models(monolithic::ListModelsRequest {})
        .await?
        .into_inner();
    let listed: Vec<_> = listed.models.iter().map(|m| m.model_id.as_str()).collect();
    assert_eq!(listed, ["a"]);
    let frames = |id: &str| monolithic::CompositeBatchRequest {
        model_id: id.into(),
        audio_features: vec![0; 4 * 32 * 16 * 16].into(),
        batch_size: 1,
        ..Default::default()
    };
    let mut b = with_key(tenants::B, channel(&server).await?);
    let others = b.infer_batch_composite(frames("a")).await?.into_inner();
    assert!(
        !others.success && others.error.contains("unknown model"),
        "{}",
        others.error
    );
    let own = b.infer_batch_composite(frames("b")).await?.into_inner();
    assert!(own.success, "{}", own.error);
    // A quota is a refusal before the message is read.
    let status = a
        .infer_batch_composite(frames("a"))
        .await
        .expect_err("none");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    Ok(())
}

#[tokio::test]
async fn they_are_off_unless_switched_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let yaml = "models: {a: {path: a}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    let mut client = MonolithicServiceClient::new(channel(&server).await?);
    let status = client.health(monolithic::HealthRequest {}).await;
    assert_eq!(status.expect_err("off").code(), Code::Unimplemented);
    let mut client = MultiTenantLipSyncClient::new(channel(&server).await?);
    let status = client.health(multi_tenant::HealthRequest {}).await;
    assert_eq!(status.expect_err("off").code(), Code::Unimplemented);
    Ok(())
}
