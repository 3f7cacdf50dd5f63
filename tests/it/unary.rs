//! `InferBatchComposite`: what is in an answer.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use lipsync::v1::{self, OutputFormat, infer_batch_composite_request::Audio};

use crate::support::{
    FakeLoader, TestServer, avatar,
    speech::{babble, pcm_request, windows_request},
};

async fn fake_server(folder: &Path, n_frames: u32) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), n_frames)?;
    TestServer::start(
        "models: {a: {path: a}}",
        folder,
        Arc::new(FakeLoader::default()),
    )
    .await
}

fn decode(frame: &v1::CompositedFrame) -> Result<image::RgbImage> {
    Ok(image::load_from_memory(&frame.data)?.to_rgb8())
}

#[tokio::test]
async fn frames_are_in_order_with_their_times_and_backgrounds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), 5).await?;
    let mut request = windows_request("a", &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
    request.start_frame_index = 2;
    request.output = Some(v1::OutputOptions {
        format: OutputFormat::Png.into(),
        ..Default::default()
    });
    let answer = server
        .client()
        .await?
        .infer_batch_composite(request)
        .await?;
    let indices: Vec<u32> = answer.frames.iter().map(|f| f.background_index).collect();
    assert_eq!(indices, [3, 4, 3, 2, 1, 0]);
    for (n, frame) in (0..).zip(&answer.frames) {
        assert_eq!(frame.frame_index, 2 + n);
        assert_eq!(frame.pts_us, n * 40_000);
        assert_eq!(frame.audio_time_us, Some(n * 40_000));
        assert_eq!((frame.width, frame.height), avatar::SIZE);
        assert!(frame.generated);
        let picture = decode(frame)?;
        let corner = picture.get_pixel(0, 0);
        assert_eq!(
            u32::from(corner[2]),
            frame.background_index,
            "the background is the right one"
        );
        let mouth = picture.get_pixel(40, 30);
        assert_eq!(
            u64::from(mouth[0]),
            10 + 10 * n,
            "the face is the right one"
        );
    }
    Ok(())
}

#[tokio::test]
async fn formats_and_regions() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), 3).await?;
    let client = server.client().await?;
    let ask = async |format: OutputFormat, region_only| -> Result<v1::CompositedFrame> {
        let mut request = windows_request("a", &[99.0]);
        request.output = Some(v1::OutputOptions {
            format: format.into(),
            region_only,
            quality: 90,
        });
        let mut answer = client.infer_batch_composite(request).await?;
        answer.frames.pop().context("one frame")
    };
    let png = decode(&ask(OutputFormat::Png, false).await?)?;
    let rgb = ask(OutputFormat::Rgb, false).await?;
    assert_eq!(rgb.data, png.as_raw().as_slice(), "PNG loses nothing");
    let jpeg = ask(OutputFormat::Unspecified, false).await?;
    assert_eq!(jpeg.format, i32::from(OutputFormat::Jpeg));
    let worst = decode(&jpeg)?
        .iter()
        .zip(png.iter())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(
        worst.is_some_and(|w| w < 80),
        "a JPEG of the same picture: {worst:?}"
    );
    for format in [
        OutputFormat::I420,
        OutputFormat::I420LimitedBt601,
        OutputFormat::I420LimitedBt709,
    ] {
        let planes = ask(format, false).await?;
        assert_eq!(planes.format(), format);
        assert_eq!(planes.data.len(), 96 * 64 * 3 / 2);
        let luma = &planes.data[..96 * 64];
        let is_limited = luma.iter().all(|y| (16..=235).contains(y));
        assert!(is_limited || format == OutputFormat::I420, "{format:?}");
    }
    let region = ask(OutputFormat::Rgb, true).await?;
    let rect = region.region.context("a region")?;
    assert_eq!((rect.x, rect.y, rect.width, rect.height), (20, 10, 40, 40));
    assert_eq!((region.width, region.height), (40, 40));
    let row = |y: usize| ((10 + y) * 96 + 20) * 3..((10 + y) * 96 + 60) * 3;
    for y in 0..40 {
        assert_eq!(
            region.data[y * 120..][..120],
            rgb.data[row(y)],
            "row {y} of the region"
        );
    }
    Ok(())
}

#[tokio::test]
async fn zero_frames_means_all_that_the_audio_covers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), 3).await?;
    let client = server.client().await?;
    for (n_samples, expected) in [(1, 1), (640, 1), (641, 2), (16_000, 25)] {
        let answer = client
            .infer_batch_composite(pcm_request("a", &babble(1, n_samples)))
            .await?;
        assert_eq!(answer.frames.len(), expected, "{n_samples} samples");
    }
    let mut request = pcm_request("a", &babble(1, 16_000));
    request.frame_count = 3;
    if let Some(Audio::Pcm(pcm)) = &mut request.audio {
        pcm.first_frame = 20;
    }
    let answer = client.infer_batch_composite(request).await?;
    let times: Vec<Option<u64>> = answer.frames.iter().map(|f| f.audio_time_us).collect();
    assert_eq!(times, [Some(800_000), Some(840_000), Some(880_000)]);
    Ok(())
}

#[tokio::test]
async fn stage_times_add_up_to_at_most_the_total() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), 3).await?;
    let answer = server
        .client()
        .await?
        .infer_batch_composite(pcm_request("a", &babble(1, 6400)))
        .await?;
    let t = answer.timings.context("timings")?;
    let stages = t.queue_us + t.infer_us + t.composite_us + t.prepare_us + t.model_load_us;
    assert!(stages <= t.total_us, "{t:?}");
    // What no stage counts is a few hops between threads.
    assert!(t.total_us - stages < 2_000_000, "{t:?}");
    assert!(
        t.composite_us > 0 && t.prepare_us > 0 && t.model_load_us > 0,
        "{t:?}"
    );
    assert!(!t.workers.is_empty() && t.batch_frames >= 1);
    Ok(())
}

#[tokio::test]
async fn headers_come_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), 3).await?;
    let mut request = tonic::Request::new(windows_request("a", &[1.0, 2.0]));
    request
        .metadata_mut()
        .insert("x-request-id", "abc-123".parse()?);
    let mut lip_sync = server.client().await?.lip_sync();
    let response = lip_sync.infer_batch_composite(request).await?;
    let headers = response.metadata();
    assert_eq!(headers.get("x-request-id").context("id")?, "abc-123");
    for name in [
        "x-batch-size",
        "x-processing-time",
        "x-queue-time",
        "x-worker",
        "x-worker-busy",
    ] {
        assert!(headers.contains_key(name), "{name}");
    }
    let mut request = tonic::Request::new(windows_request("nobody", &[1.0]));
    request
        .metadata_mut()
        .insert("x-request-id", "abc-124".parse()?);
    let status = lip_sync
        .infer_batch_composite(request)
        .await
        .expect_err("unknown");
    assert_eq!(
        status.metadata().get("x-request-id").context("id")?,
        "abc-124"
    );
    Ok(())
}

#[tokio::test]
async fn only_the_steps_under_the_wanted_frames_are_looked_at() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), 3).await?;
    let client = server.client().await?;
    let ask = async |n_steps: usize, end_of_utterance, frame_count| {
        let mut steps: Vec<f32> = (0..n_steps)
            .flat_map(|n| [f32::from(u8::try_from(n % 200).unwrap_or(0)); 512])
            .collect();
        if n_steps > 1000 {
            steps[500 * 512] = f32::NAN;
        }
        let data = steps.iter().flat_map(|v| v.to_le_bytes()).collect();
        let request = v1::InferBatchCompositeRequest {
            audio: Some(Audio::Steps(v1::FeatureSteps {
                data,
                first_frame: 90,
                end_of_utterance: Some(end_of_utterance),
            })),
            frame_count,
            ..pcm_request("a", &[])
        };
        client.infer_batch_composite(request).await
    };
    // What comes long after the wanted frames is not even decoded, let alone made into windows.
    let short = ask(200, true, 40).await?;
    for end_of_utterance in [true, false] {
        let long = ask(5000, end_of_utterance, 40).await?;
        assert_eq!(long.frames, short.frames);
    }
    assert!(
        ask(5000, false, 0).await.is_err(),
        "too many to make at once"
    );
    Ok(())
}

/// The trailer of a call, with this request header.
async fn load_report(server: &TestServer, asks: bool) -> Result<Option<Vec<u8>>> {
    let mut request = tonic::Request::new(windows_request("a", &[10.0]));
    if asks {
        let metadata = request.metadata_mut();
        metadata.insert("x-load-report", "orca".parse()?);
    }
    let mut client = server.client().await?.lip_sync();
    let answer = client.infer_batch_composite(request).await?;
    let trailer = answer.metadata().get_bin("endpoint-load-metrics-bin");
    Ok(trailer
        .map(|value| value.to_bytes())
        .transpose()?
        .map(Into::into))
}

#[tokio::test]
async fn whoever_asks_is_told_how_the_server_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), 5).await?;
    assert_eq!(load_report(&server, false).await?, None);
    let report = load_report(&server, true).await?.context("a report")?;
    let has = |name: &[u8]| report.windows(name.len()).any(|part| part == name);
    assert!(has(b"queue_wait_ms") && has(b"free_sessions"), "{report:?}");
    let yaml = "models: {a: {path: a}}\nserver: {load_reports: true}";
    let telling = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    assert!(load_report(&telling, false).await?.is_some());
    Ok(())
}
