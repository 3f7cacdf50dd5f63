//! Messages that are too much, and what is said to them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use lipsync::v1;
use prost::Message as _;
use tokio::time::timeout;
use tonic::{Code, codegen::http::Request};

use super::{Attacker, fake_server, framed, prefix};
use crate::support::{PATIENCE, speech::windows_request};

const INFER: &str = "/lipsync.v1.LipSync/InferBatchComposite";
const BACKGROUND: &str = "/lipsync.v1.LipSync/GetBackground";

/// Methods whose messages are small, and whether they take many.
const SMALL: [(&str, bool); 12] = [
    (BACKGROUND, false),
    ("/lipsync.v1.ModelAdmin/ListModels", false),
    ("/lipsync.v1.ModelAdmin/LoadModel", false),
    ("/lipsync.v1.ModelAdmin/UnloadModel", false),
    ("/lipsync.v1.ModelAdmin/GetModelStats", false),
    ("/lipsync.v1.ServerAdmin/GetServerStats", false),
    ("/lipsync.v1.ServerAdmin/WatchServerStats", false),
    ("/lipsync.v1.ServerAdmin/ExplainTenants", false),
    ("/grpc.health.v1.Health/Check", false),
    ("/grpc.health.v1.Health/Watch", false),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        true,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        true,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_by_what_it_claims() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let mut attacker = Attacker::connect(&server).await?;
    let large = [
        (INFER, false),
        ("/lipsync.v1.LipSync/StreamComposite", true),
    ];
    for (path, is_stream) in SMALL.into_iter().chain(large) {
        let mut call = attacker.begin(path, &[]).await?;
        // Not a byte of it follows.
        assert!(call.send(&prefix(51 << 20), false).await?);
        let (code, text) = timeout(PATIENCE, call.status()).await??;
        // Reflection ends without saying why: its service swallows what it cannot read.
        if !(is_stream && path.contains("reflection")) {
            assert_eq!(code, Code::ResourceExhausted, "{path}: {text}");
            assert!(text.contains("limit"), "{path}: {text}");
        }
    }
    for (path, is_stream) in SMALL {
        let mut call = attacker.begin(path, &[]).await?;
        // Its limit is 64 KiB.
        let _sent = call.send(&framed(&vec![0; 70_000]), true).await?;
        let (code, text) = timeout(PATIENCE, call.status()).await??;
        let is_refused = code == Code::ResourceExhausted;
        assert!(is_refused || is_stream, "{path}: {code:?} {text}");
    }
    server.stats().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_fields_and_many_messages_are_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let mut attacker = Attacker::connect(&server).await?;
    let unknown = [0x78, 0].repeat(20_000);
    let request = windows_request("a", &[7.0]).encode_to_vec();
    let twice = [framed(&request), framed(&request)].concat();
    for (path, sent) in [
        (INFER, framed(&unknown)),
        (BACKGROUND, framed(&unknown)),
        (INFER, twice),
        (INFER, framed(&request)[..20].to_vec()),
        (INFER, Vec::new()),
        (INFER, vec![9; 5]),
    ] {
        let mut call = attacker.begin(path, &[]).await?;
        let _sent = call.send(&sent, true).await?;
        let (code, text) = timeout(PATIENCE, call.status()).await??;
        assert_eq!(code, Code::InvalidArgument, "{path}: {text}");
        assert!(text.contains("message"), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_write_comes_back_short_and_escaped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let mut attacker = Attacker::connect(&server).await?;
    let long = "\u{200b}".repeat(300_000);
    let infer = v1::InferBatchCompositeRequest {
        model_id: long.clone(),
        ..windows_request("a", &[7.0])
    };
    let background = v1::GetBackgroundRequest {
        model_id: "\u{200b}".repeat(20_000),
        background_indices: vec![0],
        ..Default::default()
    };
    let open = v1::StreamCompositeRequest {
        message: Some(v1::stream_composite_request::Message::Open(
            v1::OpenSession {
                model_id: long,
                ..Default::default()
            },
        )),
    };
    let header = "x".repeat(10_000);
    let infer_a = windows_request("a", &[7.0]).encode_to_vec();
    let background_a = v1::GetBackgroundRequest {
        model_id: "a".into(),
        ..background.clone()
    };
    for (path, message, headers) in [
        (INFER, infer.encode_to_vec(), ("x-model-id", "a")),
        (BACKGROUND, background.encode_to_vec(), ("x-model-id", "a")),
        (
            "/lipsync.v1.LipSync/StreamComposite",
            open.encode_to_vec(),
            ("x-model-id", "a"),
        ),
        (INFER, infer_a.clone(), ("x-model-id", &*header)),
        (
            BACKGROUND,
            background_a.encode_to_vec(),
            ("x-model-id", &*header),
        ),
        (INFER, infer_a.clone(), ("x-request-priority", &*header)),
        (INFER, infer_a.clone(), ("x-max-wait-time", &*header)),
        (INFER, infer_a.clone(), ("x-batch-preference", &*header)),
        (INFER, infer_a, ("grpc-timeout", &*header)),
    ] {
        let mut call = attacker.begin(path, &[headers]).await?;
        let _sent = call.send(&framed(&message), true).await?;
        let (code, text) = timeout(PATIENCE, call.status()).await??;
        assert_eq!(code, Code::InvalidArgument, "{path} {}", headers.0);
        assert!(text.len() < 1000, "{path} {}: {text}", headers.0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_grpc_is_told_so_by_http() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let attacker = Attacker::connect(&server).await?;
    for content_type in [
        "application/json",
        "application/grpc-web+proto",
        "application/grpc+json",
        "application/grpc+protobuf",
        "text/plain",
    ] {
        let request = Request::post(format!("http://{}{INFER}", attacker.address))
            .header("content-type", content_type)
            .body(())?;
        let mut sender = attacker.sender.clone().ready().await?;
        let (response, _body) = sender.send_request(request, true)?;
        let response = timeout(PATIENCE, response).await??;
        assert_eq!(response.status(), 415, "{content_type}");
        assert!(response.headers().get("grpc-status").is_none());
    }
    let get = Request::get(format!("http://{}{INFER}", attacker.address))
        .header("content-type", "application/grpc")
        .body(())?;
    let mut sender = attacker.sender.clone().ready().await?;
    let (response, _body) = sender.send_request(get, true)?;
    let response = timeout(PATIENCE, response).await??;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers().get("allow").context("allow")?, "POST");
    Ok(())
}

/// The protocol's documents ask for INTERNAL.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_flagged_as_compressed_needs_a_compression() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let mut attacker = Attacker::connect(&server).await?;
    for path in [INFER, "/lipsync.v1.LipSync/StreamComposite"] {
        let mut message = framed(&windows_request("a", &[7.0]).encode_to_vec());
        message[0] = 1;
        let mut call = attacker.begin(path, &[]).await?;
        let _sent = call.send(&message, true).await?;
        let (code, text) = timeout(PATIENCE, call.status()).await??;
        assert_eq!(code, Code::Internal, "{path}: {text}");
        assert!(text.contains("grpc-encoding"), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_figures_without_end_takes_turns() -> Result<()> {
    // A thousand at once and a thousand a second. A server that held nobody back would be done in less.
    const N_CALLS: usize = 4000;
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let client = server.client().await?;
    let began = std::time::Instant::now();
    let asking = futures_util::stream::iter(0..N_CALLS).map(|n| {
        let client = client.clone();
        async move {
            match n % 2 {
                0 => client
                    .server_admin()
                    .get_server_stats(v1::GetServerStatsRequest {})
                    .await
                    .map(drop),
                _ => client
                    .model_admin()
                    .list_models(v1::ListModelsRequest {})
                    .await
                    .map(drop),
            }
        }
    });
    let answers: Vec<_> = asking.buffer_unordered(50).collect().await;
    let took = began.elapsed();
    for answer in answers {
        answer?;
    }
    assert!(took >= Duration::from_millis(2900), "{took:?}");
    Ok(())
}
