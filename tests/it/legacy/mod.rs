//! Protocols of the Go servers that came before: the same frames as `lipsync.v1`, the same gate, and what their clients
//! expect of an error.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use bytes::Bytes;
use lipsync::{
    legacy::{
        compositing::{self, compositing_service_client::CompositingServiceClient},
        monolithic::{self, monolithic_service_client::MonolithicServiceClient},
    },
    v1,
};
use lipsync_compositor::{FaceCrop, decode};
use lipsync_core::{FaceGeometry, PixelRect};
use tonic::{Request, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::support::{
    FakeLoader, Http, TestServer, avatar,
    speech::{babble, pcm_request, windows_request},
};

mod administration;

/// All three protocols, and one more section.
const ON: &str = "legacy: {multi_tenant: true, monolithic: true, compositing: true}";
const N_BACKGROUNDS: u32 = 5;

/// The multi-tenant server's request as its Go client sends it: lists of floats, written from that server's proto and not
/// from ours.
#[derive(Clone, PartialEq, prost::Message)]
struct GoRequest {
    #[prost(string, tag = "1")]
    model_id: String,
    #[prost(float, repeated, tag = "2")]
    visual_frames: Vec<f32>,
    #[prost(float, repeated, tag = "3")]
    audio_features: Vec<f32>,
    #[prost(int32, tag = "4")]
    batch_size: i32,
    #[prost(int32, tag = "5")]
    start_frame_idx: i32,
}

/// And the answer as it reads it.
#[derive(Clone, PartialEq, prost::Message)]
struct GoResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    composited_frames: Vec<Vec<u8>>,
    #[prost(double, tag = "4")]
    total_time_ms: f64,
    #[prost(bool, tag = "5")]
    model_loaded: bool,
    #[prost(bool, tag = "7")]
    success: bool,
    #[prost(string, tag = "8")]
    error: String,
}

/// What the Go client does for a batch, message limits included.
async fn go_client(server: &TestServer, request: GoRequest) -> Result<GoResponse> {
    let mut client = Grpc::new(channel(server).await?).max_decoding_message_size(200 << 20);
    client.ready().await?;
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(
        "/lipsync.MultiTenantLipSync/InferBatchComposite",
    );
    let codec = ProstCodec::<GoRequest, GoResponse>::default();
    let answer = client.unary(Request::new(request), path, codec).await?;
    Ok(answer.into_inner())
}

fn go_request(value: f32, (start_frame_idx, batch_size): (i32, i32)) -> GoRequest {
    let n_visual = 6 * 160 * 160 * usize::try_from(batch_size).unwrap_or(0);
    GoRequest {
        model_id: "a".into(),
        visual_frames: vec![0.5; n_visual],
        audio_features: vec![value; 32 * 16 * 16],
        batch_size,
        start_frame_idx,
    }
}

async fn channel(server: &TestServer) -> Result<Channel> {
    let address = format!("http://{}", server.address());
    Ok(Channel::from_shared(address)?.connect().await?)
}

async fn server(folder: &Path, more: &str) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), N_BACKGROUNDS)?;
    let yaml = format!("{ON}\n{more}\nmodels: {{a: {{path: a}}, broken: {{path: nothing}}}}");
    TestServer::start(&yaml, folder, Arc::new(FakeLoader::default())).await
}

/// Frames of our own protocol over the same background frames.
async fn ours(
    server: &TestServer,
    request: v1::InferBatchCompositeRequest,
    (first, format): (u64, v1::OutputFormat),
) -> Result<Vec<Bytes>> {
    let output = v1::OutputOptions {
        format: format.into(),
        ..Default::default()
    };
    let request = v1::InferBatchCompositeRequest {
        // The walk shows frame n at place n - 1, and frame 0 at the end of its period.
        start_frame_index: first + 2 * (u64::from(N_BACKGROUNDS) - 1) - 1,
        output: Some(output),
        ..request
    };
    let answer = server
        .client()
        .await?
        .infer_batch_composite(request)
        .await?;
    let first = u32::try_from(first)?;
    let shown: Vec<u32> = answer.frames.iter().map(|f| f.background_index).collect();
    assert_eq!(shown, Vec::from_iter((first..).take(shown.len())));
    Ok(answer.frames.into_iter().map(|frame| frame.data).collect())
}

fn f32_samples(samples: &[i16]) -> Bytes {
    let floats = samples.iter().map(|&s| f32::from(s) / 32_768.0);
    floats.flat_map(f32::to_le_bytes).collect()
}

#[tokio::test]
async fn the_multi_tenant_client_gets_the_frames_of_its_window() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "").await?;
    for (first, n) in [(0, 5), (3, 2), (4, 1)] {
        let answer = go_client(&server, go_request(7.0, (first, n))).await?;
        assert!(answer.success, "{}", answer.error);
        assert!(answer.total_time_ms > 0.0);
        assert_eq!(answer.model_loaded, first == 0, "only the first time");
        let windows = vec![7.0; usize::try_from(n)?];
        let place = (u64::try_from(first)?, v1::OutputFormat::Png);
        let expected = ours(&server, windows_request("a", &windows), place).await?;
        assert_eq!(answer.composited_frames, expected);
    }
    // What the server has itself may be left out.
    let mut short = go_request(7.0, (0, 2));
    short.visual_frames.clear();
    let whole = go_client(&server, go_request(7.0, (0, 2))).await?;
    let answer = go_client(&server, short).await?;
    assert_eq!(answer.composited_frames, whole.composited_frames);
    assert_eq!(answer.composited_frames.len(), 2);
    Ok(())
}

#[tokio::test]
async fn the_other_clients_get_the_frames_of_their_samples() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "").await?;
    let samples = babble(3, 4 * 640);
    let expected = ours(
        &server,
        pcm_request("a", &samples),
        (1, v1::OutputFormat::Jpeg),
    )
    .await?;
    assert_eq!(expected.len(), 4);
    let mut client = MonolithicServiceClient::new(channel(&server).await?);
    let request = monolithic::CompositeBatchRequest {
        model_id: "a".into(),
        visual_frames: vec![0; 4 * 4 * 6 * 160 * 160].into(),
        raw_audio: f32_samples(&samples),
        batch_size: 4,
        start_frame_idx: 1,
        ..Default::default()
    };
    let answer = client
        .infer_batch_composite(request.clone())
        .await?
        .into_inner();
    assert!(answer.success, "{}", answer.error);
    assert_eq!(answer.composited_frames, expected);
    let mut client = CompositingServiceClient::new(channel(&server).await?);
    let same = compositing::CompositeBatchRequest {
        model_id: request.model_id.clone(),
        raw_audio: request.raw_audio.clone(),
        // Samples beat it.
        audio_features: vec![1; 4].into(),
        batch_size: 4,
        start_frame_idx: 1,
        ..Default::default()
    };
    let answer = client
        .infer_batch_composite(same.clone())
        .await?
        .into_inner();
    assert_eq!(answer.composited_frames, expected, "{}", answer.error);
    // At the end of a recording there are fewer samples than frames.
    let end = compositing::CompositeBatchRequest {
        raw_audio: request.raw_audio.slice(..4 * 900),
        ..same.clone()
    };
    let answer = client.infer_batch_composite(end).await?.into_inner();
    assert_eq!(answer.composited_frames.len(), 4, "{}", answer.error);
    let window = compositing::CompositeBatchRequest {
        raw_audio: Bytes::new(),
        audio_features: 9.0_f32.to_le_bytes().repeat(32 * 16 * 16).into(),
        ..same
    };
    let answer = client.infer_batch_composite(window).await?.into_inner();
    let windows = windows_request("a", &[9.0; 4]);
    let expected = ours(&server, windows, (1, v1::OutputFormat::Jpeg)).await?;
    assert_eq!(answer.composited_frames, expected, "{}", answer.error);
    Ok(())
}

/// What is changed in a good request, and words of the error.
type Case = (&'static str, fn(&mut GoRequest));

const BAD: [Case; 11] = [
    ("model_id", |r| r.model_id.clear()),
    ("unknown model nobody", |r| r.model_id = "nobody".into()),
    ("the model cannot be used", |r| r.model_id = "broken".into()),
    (
        "batch_size: expected 1 to 64 (server.max_batch_frames), found 0",
        |r| r.batch_size = 0,
    ),
    ("found 65", |r| r.batch_size = 65),
    ("found -1", |r| r.batch_size = -1),
    ("visual_frames: expected f32 [2, 6, 160, 160]", |r| {
        r.visual_frames.pop();
    }),
    ("audio_features", |r| r.audio_features.clear()),
    ("audio_features", |r| {
        r.audio_features.pop();
    }),
    ("audio_features", |r| r.audio_features[5] = f32::NAN),
    (
        "start_frame_idx: the model has 5 background frames, the request ends with frame 5",
        |r| r.start_frame_idx = 4,
    ),
];

#[tokio::test]
async fn errors_come_in_the_message_and_are_counted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "").await?;
    for (words, change) in BAD {
        let mut request = go_request(1.0, (0, 2));
        change(&mut request);
        let answer = go_client(&server, request).await?;
        assert!(!answer.success && answer.composited_frames.is_empty());
        assert!(answer.error.contains(words), "{words}: {}", answer.error);
    }
    let mut two = go_request(1.0, (0, 2));
    two.audio_features.extend_from_within(..);
    let answer = go_client(&server, two).await?;
    assert!(
        answer.error.contains("expected one window, found 2"),
        "{}",
        answer.error
    );
    let page = Http::get(&server, "/metrics").await?;
    for code in ["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"] {
        let line = page.text().lines().find(|line| {
            line.contains("MultiTenantLipSync") && line.contains(code) && line.contains("handled")
        });
        assert!(line.is_some(), "{code}: {}", page.text());
    }
    Ok(())
}

#[tokio::test]
async fn errors_of_samples_are_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "").await?;
    let mut client = MonolithicServiceClient::new(channel(&server).await?);
    for (words, request) in [
        (
            "expected a window of features, or samples",
            monolithic::CompositeBatchRequest::default(),
        ),
        (
            "sample_rate",
            monolithic::CompositeBatchRequest {
                raw_audio: vec![0; 4].into(),
                sample_rate: -1,
                ..Default::default()
            },
        ),
        (
            "raw_audio",
            monolithic::CompositeBatchRequest {
                raw_audio: vec![0; 5].into(),
                ..Default::default()
            },
        ),
    ] {
        let request = monolithic::CompositeBatchRequest {
            model_id: "a".into(),
            batch_size: 1,
            ..request
        };
        let answer = client.infer_batch_composite(request).await?.into_inner();
        assert!(
            !answer.success && answer.error.contains(words),
            "{words}: {}",
            answer.error
        );
    }
    Ok(())
}

/// The network's input for background frame `index` of [`avatar`], as their clients make it.
fn seen(folder: &Path, index: u32) -> Result<Vec<f32>> {
    let file = folder.join(format!("a/frames/frame_{index:04}.png"));
    let picture = decode(
        &std::fs::read(file)?,
        lipsync_compositor::DecodeLimits::default(),
    )?;
    let rect = PixelRect {
        x: 20,
        y: 10,
        width: 40,
        height: 40,
    };
    let geometry = FaceGeometry::SMALL;
    let crop = FaceCrop::cut(&picture, rect, geometry)?;
    let mut values = Vec::new();
    for channel in 0..6 {
        for y in 0..160 {
            for x in 0..160 {
                let at = 3 * ((y + 4) * 168 + x + 4) + channel % 3;
                let is_black = channel >= 3 && geometry.is_masked(x, y);
                let byte = if is_black { 0 } else { crop.pixels()[at] };
                values.push(f32::from(byte) / 255.0);
            }
        }
    }
    Ok(values)
}

#[tokio::test]
async fn pictures_are_compared_where_that_is_switched_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), N_BACKGROUNDS)?;
    let yaml = "legacy: {multi_tenant: true, check_visual_frames: true}\nmodels: {a: {path: a}}";
    let server = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    let good = GoRequest {
        visual_frames: [seen(folder.path(), 2)?, seen(folder.path(), 3)?].concat(),
        ..go_request(1.0, (2, 2))
    };
    let answer = go_client(&server, good.clone()).await?;
    assert!(answer.success, "{}", answer.error);
    let answer = go_client(&server, go_request(1.0, (2, 2))).await?;
    assert!(
        answer.error.contains("visual_frames: frame 0 differs"),
        "{}",
        answer.error
    );
    let none = GoRequest {
        visual_frames: Vec::new(),
        ..good
    };
    let answer = go_client(&server, none).await?;
    assert!(answer.error.contains("found 0 bytes"), "{}", answer.error);
    Ok(())
}
