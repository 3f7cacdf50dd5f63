//! Whatever a client sends, it gets a status that names the fault, and the server lives.

use std::{fs, path::Path, sync::Arc};

use anyhow::Result;
use lipsync::{
    client::Client,
    v1::{self, infer_batch_composite_request::Audio},
};
use lipsync_testing::PANIC;
use tonic::{Code, Status, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::support::{
    FakeLoader, RawClient, TestServer, avatar,
    speech::{babble, pcm_request, windows_request},
};

type Request = v1::InferBatchCompositeRequest;

async fn refusal(client: &Client, request: Request) -> Status {
    client
        .infer_batch_composite(request)
        .await
        .expect_err("the request is bad")
}

fn named_field(status: &Status) -> String {
    let details = status.get_error_details();
    let violations = details
        .bad_request()
        .map(|b| b.field_violations.clone())
        .unwrap_or_default();
    violations
        .first()
        .map_or_else(String::new, |v| v.field.clone())
}

async fn server(folder: &Path, yaml: &str) -> Result<TestServer> {
    TestServer::start(yaml, folder, Arc::new(FakeLoader::default())).await
}

async fn expect_named(cases: Vec<(&str, Request)>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let server = server(folder.path(), "models: {a: {path: a}}").await?;
    let client = server.client().await?;
    for (field, request) in cases {
        let status = refusal(&client, request).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        assert_eq!(named_field(&status), field, "{status}");
    }
    client
        .infer_batch_composite(pcm_request("a", &babble(0, 6400)))
        .await?;
    Ok(())
}

fn with_audio(audio: Audio) -> Request {
    Request {
        audio: Some(audio),
        ..pcm_request("a", &[])
    }
}

#[tokio::test]
async fn invalid_arguments_name_the_field() -> Result<()> {
    let good = pcm_request("a", &babble(0, 6400));
    let windows =
        |data: Vec<u8>| with_audio(Audio::Windows(v1::FeatureWindows { data: data.into() }));
    let steps = |n_floats: usize, value: f32| {
        let data = value.to_le_bytes().repeat(n_floats).into();
        with_audio(Audio::Steps(v1::FeatureSteps {
            data,
            ..Default::default()
        }))
    };
    expect_named(vec![
        (
            "model_id",
            Request {
                model_id: "../a".into(),
                ..good.clone()
            },
        ),
        (
            "model_id",
            Request {
                model_id: "a\0".into(),
                ..good.clone()
            },
        ),
        (
            "audio",
            Request {
                audio: None,
                ..good.clone()
            },
        ),
        (
            "frame_count",
            Request {
                frame_count: 1 << 31,
                ..good.clone()
            },
        ),
        (
            "frame_count",
            Request {
                frame_count: 11,
                ..good.clone()
            },
        ),
        (
            "frame_count",
            Request {
                frame_count: 2,
                ..windows_request("a", &[1.0])
            },
        ),
        ("frame_count", pcm_request("a", &babble(0, 16_000 * 3))),
        ("steps.data", steps(511, 0.0)),
        ("steps.data", steps(1024, f32::INFINITY)),
        ("windows.data", windows(vec![0; 400])),
        ("windows.data", windows_request("a", &[f32::NAN])),
    ])
    .await
}

#[tokio::test]
async fn invalid_pcm_names_the_field() -> Result<()> {
    let pcm = |change: fn(&mut v1::Pcm)| {
        let samples = vec![0; 64].into();
        let mut pcm = v1::Pcm {
            samples,
            sample_rate_hz: 16_000,
            ..Default::default()
        };
        change(&mut pcm);
        with_audio(Audio::Pcm(pcm))
    };
    expect_named(vec![
        ("pcm.samples", pcm(|p| p.samples = vec![0; 63].into())),
        (
            "pcm.samples",
            pcm(|p| (p.encoding, p.samples) = (2, f32::NAN.to_le_bytes().to_vec().into())),
        ),
        ("pcm.sample_rate_hz", pcm(|p| p.sample_rate_hz = 1)),
        ("pcm.channels", pcm(|p| p.channels = 3)),
        ("pcm.encoding", pcm(|p| p.encoding = 9)),
        ("pcm.first_frame", pcm(|p| p.first_frame = 1)),
        ("pcm.first_frame", pcm(|p| p.first_frame = u32::MAX)),
    ])
    .await
}

#[tokio::test]
async fn unknown_and_broken_models() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["good", "truncated", "few", "off", "damaged"] {
        avatar::write_fake(&folder.path().join(name), 3)?;
    }
    let path = |name: &str| folder.path().join(name);
    let halve = |png: std::path::PathBuf| -> Result<()> {
        let bytes = fs::read(&png)?;
        Ok(fs::write(&png, &bytes[..bytes.len() / 2])?)
    };
    // One bad frame is shown as its neighbour; without a good one there is nothing to show.
    halve(path("damaged").join("frames/frame_0001.png"))?;
    for n in 0..3 {
        halve(path("truncated").join(format!("frames/frame_000{n}.png")))?;
    }
    fs::remove_file(path("few").join("frames/frame_0001.png"))?;
    fs::write(
        path("off").join("crop_rectangles.json"),
        "[[500,500,600,600],[0,0,9,9],[0,0,9,9]]",
    )?;
    let yaml = "models: {good: {path: good}, truncated: {path: truncated}, few: {path: few}, off: {path: off}, \
                damaged: {path: damaged}}";
    let server = server(folder.path(), yaml).await?;
    let client = server.client().await?;
    let status = refusal(&client, windows_request("nobody", &[1.0])).await;
    assert_eq!(status.code(), Code::NotFound);
    for model in ["truncated", "few", "off"] {
        let status = refusal(&client, windows_request(model, &[1.0])).await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{model}: {status}");
        let folder = folder.path().to_string_lossy().into_owned();
        assert!(
            !status.message().contains(&folder),
            "no path in {:?}",
            status.message()
        );
    }
    for model in ["good", "damaged"] {
        client
            .infer_batch_composite(windows_request(model, &[1.0, 2.0, 3.0]))
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn foreign_onnx_is_refused_by_the_real_engine() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write(
        &folder.path().join("text"),
        2,
        b"hello, I am no network",
        b"nor am I",
    )?;
    avatar::write(&folder.path().join("empty"), 2, b"", b"")?;
    let yaml = "models: {text: {path: text}, empty: {path: empty}}";
    let server = TestServer::start_real(yaml, folder.path()).await?;
    let client = server.client().await?;
    for model in ["text", "empty"] {
        let status = refusal(&client, windows_request(model, &[1.0])).await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{model}: {status}");
    }
    let models = client
        .model_admin()
        .list_models(v1::ListModelsRequest {})
        .await?
        .into_inner();
    assert!(
        models.models.iter().all(|m| !m.failure.is_empty()),
        "{models:?}"
    );
    Ok(())
}

#[tokio::test]
async fn giant_messages_both_ways() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let yaml = "server: {max_message_size_mb: 1}\nmodels: {a: {path: a}}";
    let server = server(folder.path(), yaml).await?;
    let client = server.client().await?;
    let giant = pcm_request("a", &babble(0, 1 << 20));
    assert_eq!(
        refusal(&client, giant).await.code(),
        Code::ResourceExhausted
    );
    // 60 raw frames of 18 KB each do not fit into one MiB.
    let mut request = windows_request("a", &[1.0; 30]);
    request.output = Some(v1::OutputOptions {
        format: 3,
        ..Default::default()
    });
    client.infer_batch_composite(request.clone()).await?;
    let samples = babble(0, 640 * 60);
    let mut request = Request {
        output: request.output,
        ..pcm_request("a", &samples)
    };
    request.frame_count = 60;
    let status = refusal(&client, request).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("1048576"), "{}", status.message());
    Ok(())
}

#[tokio::test]
async fn a_panic_in_a_worker_hurts_one_request_only() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let server = server(folder.path(), "models: {a: {path: a}}").await?;
    let client = server.client().await?;
    let status = refusal(&client, windows_request("a", &[PANIC])).await;
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), "internal error");
    client
        .infer_batch_composite(windows_request("a", &[1.0; 8]))
        .await?;
    let stats = server.stats().await?;
    assert_eq!(stats.workers.iter().map(|w| w.restarts).sum::<u64>(), 1);
    assert_eq!((stats.failed, stats.completed), (1, 1));
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_grpc_do_no_harm() -> Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let server = server(folder.path(), "models: {a: {path: a}}").await?;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xFF; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xFF\xFF\xFF\x00",
    ] {
        let mut socket = tokio::net::TcpStream::connect(server.address()).await?;
        socket.write_all(bytes).await?;
        socket.shutdown().await?;
        // Whether it answers or hangs up, it does so by itself.
        let mut answer = Vec::new();
        let _reset = socket.read_to_end(&mut answer).await;
    }
    server
        .client()
        .await?
        .infer_batch_composite(windows_request("a", &[1.0]))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_message_that_cannot_be_decoded_is_the_clients_fault() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let server = server(folder.path(), "models: {a: {path: a}}").await?;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address()))?;
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await?);
    grpc.ready().await?;
    // Field 1 is a text where the contract has one, and no UTF-8 in the other message.
    let bad = v1::FeatureWindows {
        data: vec![0xFF, 0xFE].into(),
    };
    let path = PathAndQuery::from_static("/lipsync.v1.LipSync/InferBatchComposite");
    let codec = ProstCodec::<_, v1::InferBatchCompositeResponse>::default();
    let status = grpc
        .unary(tonic::Request::new(bad), path, codec)
        .await
        .expect_err("not a request");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("model_id"), "{status}");
    Ok(())
}

#[tokio::test]
async fn compressed_messages_are_refused_with_what_is_taken_instead() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 3)?;
    let server = server(folder.path(), "models: {a: {path: a}}").await?;
    let mut client = RawClient::connect(&server, &h2::client::Builder::new()).await?;
    let request = windows_request("a", &[1.0]);
    let long = "x".repeat(4000);
    for encoding in ["gzip", "deflate", "zstd", "GZIP", "", &long] {
        for method in ["InferBatchComposite", "StreamComposite"] {
            let headers = [("grpc-encoding", encoding)];
            let answer = client.call(method, &request, &headers).await?;
            let status = Status::from_header_map(answer.headers()).expect("a refusal");
            assert_eq!(status.code(), Code::Unimplemented, "{status}");
            let shown = format!("{:.5}", encoding);
            assert!(status.message().contains(&format!("\"{shown}")), "{status}");
            assert!(status.message().len() < 500, "{}", status.message().len());
            assert_eq!(answer.headers()["grpc-accept-encoding"], "identity");
        }
    }
    let headers = [
        ("grpc-encoding", "identity"),
        ("grpc-accept-encoding", "gzip"),
    ];
    let answer = client
        .call("InferBatchComposite", &request, &headers)
        .await?;
    assert!(Status::from_header_map(answer.headers()).is_none());
    assert_eq!(answer.headers().get("grpc-encoding"), None);
    Ok(())
}
