//! What the server and its models say about themselves.

use anyhow::{Context as _, Result};
use lipsync::inference as oip;
use tonic::Code;

use super::{Client, fake_server, request, windows};
use crate::support::Http;

#[tokio::test]
async fn the_server_and_its_models_describe_themselves() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    assert!(
        client
            .server_live(oip::ServerLiveRequest {})
            .await?
            .into_inner()
            .live
    );
    assert!(
        client
            .server_ready(oip::ServerReadyRequest {})
            .await?
            .into_inner()
            .ready
    );
    let about = client
        .server_metadata(oip::ServerMetadataRequest {})
        .await?
        .into_inner();
    assert_eq!(about.name, "lipsync-server");
    let metadata = oip::ModelMetadataRequest {
        name: "a".into(),
        version: String::new(),
    };
    let metadata = client.model_metadata(metadata).await?.into_inner();
    let inputs: Vec<_> = metadata
        .inputs
        .iter()
        .map(|i| (i.name.as_str(), i.shape.as_slice()))
        .collect();
    assert_eq!(
        inputs,
        [
            ("PCM", &[-1_i64][..]),
            ("STEPS", &[-1, 512]),
            ("WINDOWS", &[-1, 32, 16, 16])
        ]
    );
    Ok(())
}

#[tokio::test]
async fn the_second_version_is_decoupled() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    for (version, is_decoupled) in [("", false), ("2", true)] {
        let config = oip::ModelConfigRequest {
            name: "a".into(),
            version: version.into(),
        };
        let config = client
            .model_config(config)
            .await?
            .into_inner()
            .config
            .context("one")?;
        assert_eq!(
            config.model_transaction_policy.context("one")?.decoupled,
            is_decoupled
        );
        assert_eq!((config.max_batch_size, config.output.len()), (0, 5));
    }
    Ok(())
}

#[tokio::test]
async fn a_model_is_ready_if_it_can_be_loaded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    client.model_infer(windows("a", &[1.0])).await?;
    let ready = |client: &Client, name: &str| {
        let (mut client, name) = (client.clone(), name.to_owned());
        async move {
            let request = oip::ModelReadyRequest {
                name,
                version: String::new(),
            };
            client
                .model_ready(request)
                .await
                .map(|r| r.into_inner().ready)
        }
    };
    assert!(ready(&client, "a").await?);
    assert!(!ready(&client, "nobody").await?);
    assert!(!ready(&client, "broken").await?);
    assert_eq!(
        ready(&client, "").await.expect_err("no name").code(),
        Code::InvalidArgument
    );
    let index = client
        .repository_index(oip::RepositoryIndexRequest::default())
        .await?
        .into_inner();
    let states: Vec<_> = index
        .models
        .iter()
        .map(|m| (m.name.as_str(), m.version.as_str(), m.state.as_str()))
        .collect();
    assert_eq!(states[..2], [("a", "1", "READY"), ("a", "2", "READY")]);
    assert!(
        index.models[2..]
            .iter()
            .all(|m| m.state == "UNAVAILABLE" && !m.reason.is_empty())
    );
    Ok(())
}

#[tokio::test]
async fn models_are_loaded_unloaded_and_counted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, mut client) = fake_server(folder.path()).await?;
    let load = oip::RepositoryModelLoadRequest {
        model_name: "a".into(),
        ..Default::default()
    };
    client.repository_model_load(load.clone()).await?;
    client.model_infer(windows("a", &[1.0, 2.0])).await?;
    let stats = oip::ModelStatisticsRequest {
        name: "a".into(),
        version: String::new(),
    };
    let stats = client
        .model_statistics(stats)
        .await?
        .into_inner()
        .model_stats;
    assert_eq!((stats[0].inference_count, stats[0].execution_count), (2, 1));
    let all = client
        .model_statistics(oip::ModelStatisticsRequest::default())
        .await?
        .into_inner();
    assert_eq!(all.model_stats.len(), 4, "two versions of two models");
    let unload = oip::RepositoryModelUnloadRequest {
        model_name: "a".into(),
        ..Default::default()
    };
    client.repository_model_unload(unload).await?;
    let mut other = load.clone();
    other.repository_name = "elsewhere".into();
    let status = client
        .repository_model_load(other)
        .await
        .expect_err("no such");
    assert_eq!(status.code(), Code::Unimplemented);
    let mut with_files = load;
    with_files
        .parameters
        .insert("config".into(), oip::ModelRepositoryParameter::default());
    let status = client
        .repository_model_load(with_files)
        .await
        .expect_err("parameters");
    assert_eq!(status.code(), Code::Unimplemented);
    Ok(())
}

#[tokio::test]
async fn metrics_have_the_figures_under_tritons_names() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, mut client) = fake_server(folder.path()).await?;
    client.model_infer(windows("a", &[1.0, 2.0])).await?;
    let wrong = request("a", ("NOISE", "FP32", &[1]), vec![0; 4].into());
    let status = client.model_infer(wrong).await.expect_err("no such input");
    assert_eq!(status.code(), Code::InvalidArgument);
    client
        .model_infer(windows("nobody", &[1.0]))
        .await
        .expect_err("no such model");
    let page = Http::get(&server, "/metrics").await?;
    let page = page.text();
    let found: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("nv_inference_") && !line.contains("_us{"))
        .collect();
    assert_eq!(
        found,
        [
            r#"nv_inference_request_success{model="a",version="1"} 1"#,
            r#"nv_inference_count{model="a",version="1"} 2"#,
            r#"nv_inference_exec_count{model="a",version="1"} 1"#,
            r#"nv_inference_request_failure{model="a",reason="OTHER",version="1"} 1"#,
        ]
    );
    assert!(page.contains("# TYPE nv_inference_count counter\n"));
    assert!(page.contains(r#"nv_inference_request_duration_us{model="a",version="1"} "#));
    Ok(())
}
