//! Avatars of the Wav2Lip family: sound in, faces out, without an audio encoder.
//!
//! `tools/wav2lip-reference` makes the expected faces with OpenCV and ONNX Runtime.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use lipsync::{
    cuts::Cuts,
    session::{AudioFormat, Event, Session},
    v1::{self, OutputFormat, infer_batch_composite_request::Audio},
};

use crate::support::{
    TestServer, avatar,
    server::repository,
    speech::{pcm_request, to_bytes},
};

/// As the reference has them.
const RECT: [i32; 4] = [20, 10, 61, 63];
const N_BACKGROUNDS: u32 = 5;
const PLACES: [usize; 4] = [0, 3, 12, 24];
const STEP: usize = 5;
/// One second.
const N_FRAMES: usize = 25;

/// The speech of the reference.
fn samples() -> Vec<i16> {
    let sample = |n: i64| i16::try_from((n * n * 31 + n * 7) % 16_001 - 8_000).unwrap_or(0);
    (0..16_000).map(sample).collect()
}

fn write_avatar(folder: &Path, more: &str) -> Result<()> {
    let golden = repository().join("tests/golden/zoo/wav2lip96.legacy-17.onnx");
    avatar::write(folder, N_BACKGROUNDS, &fs::read(golden)?, b"")?;
    fs::remove_file(folder.join("audio_encoder.onnx"))?;
    let rects = vec![RECT; usize::try_from(N_BACKGROUNDS)?];
    let rectangles = folder.join("crop_rectangles.json");
    fs::write(rectangles, serde_json::to_vec(&rects)?)?;
    let manifest = format!(
        "generator: generator.onnx\nframes: frames\ncrop_rectangles: crop_rectangles.json\n{more}"
    );
    fs::write(folder.join("avatar.yaml"), manifest)?;
    Ok(())
}

async fn server(folder: &Path) -> Result<TestServer> {
    write_avatar(&folder.join("lea"), "")?;
    write_avatar(&folder.join("still"), "audio_kind: mel\nrest: generated\n")?;
    write_avatar(&folder.join("soft"), "feather: 25\n")?;
    let yaml = "capacity: {bake: off}\n\
        models: {lea: {path: lea}, still: {path: still}, soft: {path: soft}}\n";
    TestServer::start_real(yaml, folder).await
}

fn rgb(region_only: bool) -> v1::OutputOptions {
    v1::OutputOptions {
        format: OutputFormat::Rgb.into(),
        region_only,
        ..Default::default()
    }
}

fn request(region_only: bool) -> v1::InferBatchCompositeRequest {
    v1::InferBatchCompositeRequest {
        output: Some(rgb(region_only)),
        ..pcm_request("lea", &samples())
    }
}

/// The data of all frames until the session ends.
async fn frames(session: &mut Session) -> Result<Vec<v1::CompositedFrame>> {
    let mut frames = Vec::new();
    while let Some(event) = session.next().await? {
        if let Event::Frame(frame) = event {
            frames.push(frame);
        }
    }
    Ok(frames)
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_are_those_of_the_reference() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let client = server.client().await?;
    let answer = client.infer_batch_composite(request(true)).await?;
    assert_eq!(answer.frames.len(), N_FRAMES);
    let expected = fs::read(repository().join("tests/golden/wav2lip/faces.rgb"))?;
    let face = |&place: &usize| answer.frames[place].data.iter().step_by(STEP);
    let faces: Vec<u8> = PLACES.iter().flat_map(face).copied().collect();
    assert_eq!(faces.len(), expected.len());
    let levels = faces.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
    let n_off = levels.clone().filter(|&level| level > 0).count();
    assert!(levels.max() <= Some(1), "more than a level apart");
    assert!(n_off * 50 < faces.len(), "{n_off} of {} bytes", faces.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_face_is_pasted_hard_and_nothing_else_changes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let client = server.client().await?;
    let faces = client.infer_batch_composite(request(true)).await?.frames;
    let whole = client.infer_batch_composite(request(false)).await?.frames;
    let (width, height) = avatar::SIZE;
    for (face, frame) in faces.iter().zip(&whole) {
        let file = format!("lea/frames/frame_{:04}.png", frame.background_index);
        let mut picture = image::open(folder.path().join(file))?.to_rgb8();
        let [x1, y1, x2, y2] = RECT.map(|n| u32::try_from(n).unwrap_or(0));
        let patch = image::RgbImage::from_raw(x2 - x1, y2 - y1, face.data.to_vec());
        let patch = patch.context("the size of the rectangle")?;
        image::imageops::replace(&mut picture, &patch, x1.into(), y1.into());
        assert_eq!((frame.width, frame.height), (width, height));
        assert!(frame.data == picture.as_raw().as_slice());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn soft_edges_are_those_of_the_background() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let client = server.client().await?;
    let ask = async |model: &str| -> Result<Vec<u8>> {
        let mut request = request(true);
        (request.model_id, request.frame_count) = (model.into(), 1);
        let mut answer = client.infer_batch_composite(request).await?;
        Ok(answer.frames.pop().context("a frame")?.data.to_vec())
    };
    let (hard, soft) = (ask("lea").await?, ask("soft").await?);
    let picture = image::open(folder.path().join("lea/frames/frame_0001.png"))?.to_rgb8();
    let [x1, y1, x2, y2] = RECT.map(|n| u32::try_from(n).unwrap_or(0));
    let distance = |face: &[u8], (x, y): (u32, u32)| {
        let place = usize::try_from(((y - y1) * (x2 - x1) + x - x1) * 3).unwrap_or(0);
        let pixel = picture.get_pixel(x, y).0;
        let levels = face[place..place + 3].iter().zip(pixel);
        levels.map(|(a, b)| u32::from(a.abs_diff(b))).max()
    };
    for edge in [(x1, y1), (x2 - 1, y1 + 20), (x1 + 20, y2 - 1)] {
        let (of_hard, of_soft) = (distance(&hard, edge), distance(&soft, edge));
        assert!(
            of_soft <= Some(20) && of_soft < of_hard,
            "{of_soft:?}, {of_hard:?}"
        );
    }
    let middle = (x1 + 20, y1 + 26);
    assert_eq!(distance(&hard, middle), distance(&soft, middle));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_cut_calls_give_the_frames_of_one_call() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let client = server.client().await?;
    let whole = client.infer_batch_composite(request(true)).await?.frames;
    let format = AudioFormat::mono_s16(16_000);
    for idle_frames in [false, true] {
        let builder = client.session("lea").audio(format).output(rgb(true));
        let mut session = builder.idle_frames(idle_frames).open().await?;
        // The silence gate looks further ahead than the network.
        let look_ahead_ms = if idle_frames { 240 } else { 213 };
        assert_eq!(session.opened().look_ahead_ms, look_ahead_ms);
        for chunk in samples().chunks(1_111) {
            session.push_samples(chunk).await?;
        }
        session.end_segment().await?;
        session.finish();
        let frames = frames(&mut session).await?;
        let spoken: Vec<_> = frames.iter().filter(|f| f.segment_id > 0).collect();
        assert_eq!(spoken.len(), N_FRAMES);
        let same = |(a, b): (&&v1::CompositedFrame, &v1::CompositedFrame)| a.data == b.data;
        // At rest, the first frames fade the face in.
        let n_faded = if idle_frames { 8 } else { 0 };
        assert!(
            spoken.iter().zip(&whole).skip(n_faded).all(same),
            "{idle_frames}"
        );
    }
    let cuts = Cuts::new(format, to_bytes(&samples()), 7);
    let mut data = Vec::new();
    for cut in cuts {
        let answer = client
            .infer_batch_composite(cut.request(&request(true)))
            .await?;
        data.extend(answer.frames.into_iter().map(|frame| frame.data));
    }
    assert!(data.iter().eq(whole.iter().map(|frame| &frame.data)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_mel_windows_and_refuses_feature_steps() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let client = server.client().await?;
    let with = |audio: Audio| v1::InferBatchCompositeRequest {
        audio: Some(audio),
        ..request(true)
    };
    let window = |value: f32| value.to_le_bytes().repeat(80 * 16);
    let data = [-4.0, 0.0, 2.5].into_iter().flat_map(window).collect();
    let windows = with(Audio::Windows(v1::FeatureWindows { data }));
    let answer = client.infer_batch_composite(windows).await?;
    assert_eq!(answer.frames.len(), 3);
    let data = vec![0; 4 * 512].into();
    let steps = with(Audio::Steps(v1::FeatureSteps {
        data,
        ..Default::default()
    }));
    let refusal = client.infer_batch_composite(steps).await.unwrap_err();
    assert!(
        refusal.to_string().contains("sound or whole windows"),
        "{refusal}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_talking_background_rests_on_generated_faces() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let client = server.client().await?;
    let silence = vec![0_i16; 16_000];
    let mut session = client
        .session("still")
        .audio(AudioFormat::mono_s16(16_000))
        .output(rgb(true))
        .idle_frames(true)
        .open()
        .await?;
    session.push_samples(&silence).await?;
    session.end_segment().await?;
    session.finish();
    let frames = frames(&mut session).await?;
    assert!(frames.len() >= N_FRAMES);
    let mut request = v1::InferBatchCompositeRequest {
        output: Some(rgb(true)),
        ..pcm_request("still", &silence)
    };
    // In the middle, where nothing but silence is heard.
    request.frame_count = 12;
    let spoken = client.infer_batch_composite(request).await?.frames;
    let (rests, speaks) = (&frames[11], &spoken[11]);
    assert_eq!(rests.background_index, speaks.background_index);
    assert!(rests.data == speaks.data, "the face of silence");
    Ok(())
}
