//! Backgrounds, and what is sent of a frame: spliced, as a whole, or its region alone.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use lipsync::v1::{self, OutputFormat};
use lipsync_compositor::{EncodeOptions, Encoding, composite, encode_with};
use lipsync_core::{FaceGeometry, ModelId};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{FakeLoader, TestServer, avatar, speech::windows_request};

const SYNTHETIC: &[u8] = b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";

async fn serve(folder: &Path, output: &str) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), 3)?;
    let yaml = format!("models: {{a: {{path: a}}}}\n{output}");
    TestServer::start(&yaml, folder, Arc::new(FakeLoader::default())).await
}

fn options(format: OutputFormat, quality: u32, region_only: bool) -> v1::OutputOptions {
    v1::OutputOptions {
        format: format.into(),
        quality,
        region_only,
    }
}

async fn frames(
    server: &TestServer,
    greys: &[f32],
    output: v1::OutputOptions,
) -> Result<Vec<v1::CompositedFrame>> {
    let mut request = windows_request("a", greys);
    request.output = Some(output);
    let client = server.client().await?;
    Ok(client.infer_batch_composite(request).await?.frames)
}

async fn backgrounds(
    server: &TestServer,
    indices: &[u32],
    output: v1::OutputOptions,
) -> Result<v1::GetBackgroundResponse, tonic::Status> {
    let request = v1::GetBackgroundRequest {
        model_id: "a".into(),
        background_indices: indices.to_vec(),
        output: Some(output),
    };
    let client = server
        .client()
        .await
        .map_err(|e| tonic::Status::unknown(e.to_string()))?;
    Ok(client
        .lip_sync()
        .get_background(request)
        .await?
        .into_inner())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_served_jpeg_is_the_full_encode_of_the_composite() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = serve(folder.path(), "").await?;
    let registry = &server.running().shared().registry;
    let model = registry.model(&ModelId::new("a")?).await?.model;
    let options_of_model = EncodeOptions {
        restart_interval: model.bake_settings().restart_interval,
        is_marked: true,
    };
    // The quality that frames are baked with, and another one.
    for quality in [85, 60] {
        let output = options(OutputFormat::Jpeg, quality, false);
        let greys = [10.0, 99.0, 200.0, 7.0];
        let served = frames(&server, &greys, output).await?;
        assert_eq!(served.len(), greys.len());
        for (frame, grey) in served.iter().zip([10, 99, 200, 7]) {
            let generated = vec![grey; FaceGeometry::SMALL.region_bytes()];
            let background = model.picture(frame.background_index)?;
            let crop = model.face_crop(frame.background_index)?;
            let whole = composite(&background, &crop, &generated)?;
            let encoding = Encoding::Jpeg {
                quality: u8::try_from(quality)?,
            };
            let expected = encode_with(&whole, encoding, options_of_model)?;
            assert!(frame.data == expected, "quality {quality}, grey {grey}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn regions_pasted_onto_their_backgrounds_are_the_frames() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = serve(folder.path(), "").await?;
    let greys = [30.0, 60.0, 90.0];
    let whole = frames(&server, &greys, options(OutputFormat::Rgb, 0, false)).await?;
    let regions = frames(&server, &greys, options(OutputFormat::Rgb, 0, true)).await?;
    let indices: Vec<u32> = regions.iter().map(|frame| frame.background_index).collect();
    let answer = backgrounds(&server, &indices, options(OutputFormat::Rgb, 0, false)).await?;
    assert_eq!(answer.n_background_frames, 3);
    for ((background, region), frame) in answer.frames.iter().zip(&regions).zip(&whole) {
        assert_eq!(background.background_index, region.background_index);
        assert_eq!((background.width, background.height), avatar::SIZE);
        assert_eq!(background.region, region.region);
        let rect = region.region.context("a region")?;
        let mut pasted = image::RgbImage::from_raw(
            background.width,
            background.height,
            background.data.to_vec(),
        )
        .context("a picture")?;
        let face = image::RgbImage::from_raw(region.width, region.height, region.data.to_vec());
        let (x, y) = (rect.x.into(), rect.y.into());
        image::imageops::replace(&mut pasted, &face.context("a face")?, x, y);
        assert!(frame.data == pasted.into_raw());
    }
    Ok(())
}

#[tokio::test]
async fn coded_pictures_say_that_they_are_synthetic_unless_told_not_to() -> Result<()> {
    for (output, is_marked) in [("", true), ("output: {mark_generated: false}", false)] {
        let folder = tempfile::tempdir()?;
        let server = serve(folder.path(), output).await?;
        for (format, quality) in [
            (OutputFormat::Jpeg, 85),
            (OutputFormat::Jpeg, 60),
            (OutputFormat::Png, 0),
        ] {
            for region_only in [false, true] {
                let output = options(format, quality, region_only);
                let generated = frames(&server, &[5.0], output).await?;
                let idle = backgrounds(&server, &[1], output).await?;
                for data in [&generated[0].data, &idle.frames[0].data] {
                    assert_eq!(
                        contains(data, SYNTHETIC),
                        is_marked,
                        "{format:?} {quality}, region {region_only}"
                    );
                    image::load_from_memory(data)?;
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn backgrounds_that_do_not_exist_or_are_too_many_are_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = serve(folder.path(), "").await?;
    let output = options(OutputFormat::Jpeg, 0, false);
    for (indices, found) in [
        (vec![], "found 0"),
        (vec![0, 3], "found 3"),
        (vec![0; 65], "found 65"),
    ] {
        let refused = backgrounds(&server, &indices, output).await;
        let status = refused.err().context("refused")?;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("background_indices"));
        assert!(status.message().contains(found), "{}", status.message());
    }
    let request = v1::GetBackgroundRequest {
        model_id: "nobody".into(),
        background_indices: vec![0],
        output: None,
    };
    let mut client = server.client().await?.lip_sync();
    let status = client.get_background(request).await.err();
    assert_eq!(status.map(|s| s.code()), Some(Code::NotFound));
    Ok(())
}

#[tokio::test]
async fn an_answer_of_faces_that_would_not_fit_is_refused_before_anything_is_decoded() -> Result<()>
{
    let folder = tempfile::tempdir()?;
    let limits = "server: {max_message_size_mb: 1, max_batch_frames: 512}";
    let server = serve(folder.path(), limits).await?;
    let registry = &server.running().shared().registry;
    let model = registry.model(&ModelId::new("a")?).await?.model;
    let faces = options(OutputFormat::Rgb, 0, true);
    // A face is 4.8 kB.
    let refused = backgrounds(&server, &[0; 300], faces).await;
    let status = refused.err().context("refused")?;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("1440000 bytes"), "{status}");
    assert_eq!(model.decoded_stats().requests, 0);
    let answer = backgrounds(&server, &[0; 200], faces).await?;
    assert_eq!(answer.frames.len(), 200);
    assert_eq!(model.decoded_stats().loads, 1);
    Ok(())
}

/// One damaged frame among many: health, lists, single answers and whole clips say the same about the model, and
/// nobody is refused for it.
#[tokio::test]
async fn a_damaged_frame_ends_no_answer_and_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 5)?;
    let path = folder.path().join("a/frames/frame_0002.png");
    let whole = std::fs::read(&path)?;
    std::fs::write(&path, &whole[..whole.len() / 2])?;
    let server = TestServer::start(
        "models: {a: {path: a, preload: true}}",
        folder.path(),
        Arc::new(FakeLoader::default()),
    )
    .await?;
    // The walk is 1, 2, 3, 4, 3, 2, 1, 0.
    let output = options(OutputFormat::Rgb, 0, false);
    let shown = frames(&server, &[50.0; 8], output).await?;
    assert_eq!(shown.len(), 8);
    assert_eq!(shown[1].data, shown[0].data, "frame 2 is shown as frame 1");
    assert_ne!(shown[2].data, shown[0].data);
    for quality in [85, 60] {
        let output = options(OutputFormat::Jpeg, quality, false);
        assert_eq!(frames(&server, &[50.0; 8], output).await?.len(), 8);
    }
    let stats = server
        .client()
        .await?
        .model_admin()
        .get_model_stats(v1::GetModelStatsRequest {
            model_id: "a".into(),
        })
        .await?
        .into_inner()
        .model
        .context("stats")?;
    assert_eq!(stats.state, i32::from(v1::ModelState::Ready));
    let fault = &stats.pack_fault;
    assert!(
        fault.starts_with("background frame 2 cannot be decoded"),
        "{fault}"
    );
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address()))?;
    let mut health = HealthClient::new(endpoint.connect().await?);
    let of_model = HealthCheckRequest {
        service: "model/a".into(),
    };
    let answer = health.check(of_model).await?.into_inner();
    assert_eq!(answer.status, i32::from(ServingStatus::Serving));
    Ok(())
}
