//! Who is known, and what works without a key.

use anyhow::{Context as _, Result};
use lipsync::{client::Client, v1};
use lipsync_server::Config;
use tonic::{Code, Request, metadata::MetadataValue, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{A, ADMIN, B, OLD, hash, server, yaml};
use crate::support::{Http, Socket, speech::windows_request};

/// The answer to a call with this `authorization`.
async fn answer_to(client: &Client, authorization: Option<&[u8]>) -> Result<tonic::Status> {
    let mut request = Request::new(windows_request("a", &[1.0]));
    if let Some(value) = authorization {
        let value = tonic::codegen::http::HeaderValue::from_bytes(value)?;
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        headers.insert("authorization", value);
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    }
    let refused = client.lip_sync().infer_batch_composite(request).await;
    Ok(refused.err().unwrap_or_else(|| tonic::Status::ok("")))
}

#[tokio::test]
async fn whatever_is_wrong_with_a_key_the_answer_is_the_same() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "", "").await?;
    let client = server.client().await?;
    let bearer = |key: &str| format!("Bearer {key}").into_bytes();
    let refused = answer_to(&client, None).await?;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    for wrong in [
        bearer("nobodys-key"),
        bearer(OLD),
        bearer(&A[1..]),
        bearer(&format!("{A} ")),
        bearer(&A.to_uppercase()),
        bearer(&"k".repeat(10_000)),
        bearer(""),
        A.as_bytes().to_vec(),
        b"Basic YTpi".to_vec(),
        b"Bearer \xff\xfe".to_vec(),
    ] {
        let found = answer_to(&client, Some(&wrong)).await?;
        assert_eq!(found.code(), refused.code());
        assert_eq!(found.message(), refused.message());
        assert_eq!(found.details(), refused.details());
        assert!(!found.message().contains(A));
    }
    assert_eq!(answer_to(&client, Some(&bearer(A))).await?.code(), Code::Ok);
    // As HTTP has it, the scheme may be written in any case.
    let lower = format!("bearer {A}");
    assert_eq!(
        answer_to(&client, Some(lower.as_bytes())).await?.code(),
        Code::Ok
    );
    Ok(())
}

#[tokio::test]
async fn every_method_needs_a_key_but_those_of_probes_and_reflection() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "", "").await?;
    let client = server.client().await?;
    let (mut models, mut admin) = (client.model_admin(), client.server_admin());
    let id = || "a".to_owned();
    let codes = [
        models.list_models(v1::ListModelsRequest {}).await.map(drop),
        models
            .load_model(v1::LoadModelRequest { model_id: id() })
            .await
            .map(drop),
        models
            .unload_model(v1::UnloadModelRequest { model_id: id() })
            .await
            .map(drop),
        models
            .get_model_stats(v1::GetModelStatsRequest { model_id: id() })
            .await
            .map(drop),
        admin
            .get_server_stats(v1::GetServerStatsRequest {})
            .await
            .map(drop),
        admin
            .watch_server_stats(v1::WatchServerStatsRequest::default())
            .await
            .map(drop),
        client
            .lip_sync()
            .get_background(v1::GetBackgroundRequest::default())
            .await
            .map(drop),
        client
            .lip_sync()
            .stream_composite(tokio_stream::empty())
            .await
            .map(drop),
    ]
    .map(|answer| answer.expect_err("no key").code());
    assert_eq!(codes, [Code::Unauthenticated; 8]);
    let channel = Endpoint::from_shared(format!("http://{}", server.address()))?
        .connect()
        .await?;
    let mut health = HealthClient::new(channel);
    let of = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    for service in ["", "liveness", "readiness", "lipsync.v1.LipSync"] {
        assert!(health.check(of(service)).await.is_ok(), "{service}");
    }
    // Which models there are is nobody's business.
    for service in ["model/a", "model/nobody"] {
        let unknown = health.check(of(service)).await.expect_err("no key");
        assert_eq!(unknown.code(), Code::NotFound, "{service}");
    }
    let mut wrong = Request::new(of("liveness"));
    let value = MetadataValue::from_static("Bearer wrong");
    wrong.metadata_mut().insert("authorization", value);
    let refused = health.check(wrong).await.expect_err("a wrong key");
    assert_eq!(refused.code(), Code::Unauthenticated);
    Ok(())
}

#[tokio::test]
async fn the_page_and_its_sessions_need_a_key_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "", "").await?;
    for open in ["/livez", "/readyz", "/"] {
        assert_eq!(Http::get(&server, open).await?.status, 200, "{open}");
    }
    for (path, key, status) in [
        ("/api/models", None, 401),
        ("/api/models", Some("wrong"), 401),
        ("/api/models", Some(A), 200),
        ("/api/stats", None, 401),
        ("/api/stats", Some(A), 403),
        ("/api/stats", Some(ADMIN), 200),
    ] {
        let header = key.map(|key| format!("authorization: Bearer {key}\r\n"));
        let header = header.unwrap_or_default();
        let answer = Http::request(&server, &format!("GET {path}"), &header).await?;
        assert_eq!(answer.status, status, "{path} {key:?}");
        if status == 200 && key == Some(A) {
            let models: serde_json::Value = serde_json::from_slice(&answer.body)?;
            let models = models.as_array().context("a list")?;
            assert_eq!(models.len(), 1);
            assert_eq!(models[0]["model_id"], "a");
        }
    }
    for (protocols, code) in [
        ("lipsync.v1", 4016),
        ("lipsync.v1, lipsync-key.wrong", 4016),
        (&format!("lipsync.v1, lipsync-key.{OLD}"), 4016),
    ] {
        let mut socket = Socket::connect_as(&server, protocols).await?;
        let (_, found, reason) = socket.rest().await?;
        assert_eq!(found, code, "{protocols}: {reason}");
    }
    for (model, code) in [("a", 1000), ("b", 4005), ("nobody", 4005)] {
        let protocols = format!("lipsync.v1, lipsync-key.{A}");
        let mut socket = Socket::connect_as(&server, &protocols).await?;
        let open = v1::OpenSession {
            model_id: model.into(),
            sample_rate_hz: 16_000,
            ..Default::default()
        };
        socket
            .ask(v1::stream_composite_request::Message::Open(open))
            .await?;
        socket.half_close().await?;
        let (_, found, reason) = socket.rest().await?;
        assert_eq!(found, code, "{model}: {reason}");
    }
    Ok(())
}

#[tokio::test]
async fn keys_are_rotated_while_the_server_runs() -> Result<()> {
    const NEW: &str = "new-key-of-a-012345";
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "", "").await?;
    let with = async |key: &str| {
        let client = server.client_with(key).await?;
        let request = windows_request("a", &[1.0]);
        let answer = client.infer_batch_composite(request).await;
        anyhow::Ok(answer.map_or_else(|status| status.code(), |_| Code::Ok))
    };
    let configure = |text: &str| {
        let config = Config::parse(text, &folder.path().join("config.yaml"), [])?;
        server.running().shared().live.set(config.settings().hot);
        anyhow::Ok(())
    };
    assert_eq!(with(NEW).await?, Code::Unauthenticated);
    let before = yaml("")?;
    let old = format!("now: {{sha256: {}}}", hash(A)?);
    let new = format!("next: {{sha256: {}}}", hash(NEW)?);
    configure(&before.replace(&old, &format!("{old}, {new}")))?;
    for key in [A, NEW, B] {
        let expected = if key == B { Code::NotFound } else { Code::Ok };
        assert_eq!(with(key).await?, expected);
    }
    configure(&before.replace(&old, &new))?;
    assert_eq!(with(A).await?, Code::Unauthenticated);
    assert_eq!(with(NEW).await?, Code::Ok);
    Ok(())
}
