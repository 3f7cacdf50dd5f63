//! Models that rest with a face of their own: the generator's face of silence, made once for each background.

use std::fs;

use anyhow::{Context as _, Result};
use lipsync::v1;

use super::{Answer, Session, frames, realtime::realtime_session};
use crate::support::{FakeLoader, TestServer, avatar, speech::babble};

/// What the fake generator paints for silence: the mean of a patch of silence.
const SILENCE: u8 = 4;

async fn server(
    folder: &std::path::Path,
) -> Result<(TestServer, std::sync::Arc<crate::support::Gate>)> {
    let model = folder.join("a");
    avatar::write_fake(&model, 4)?;
    let manifest = fs::read_to_string(model.join("avatar.yaml"))?;
    fs::write(
        model.join("avatar.yaml"),
        format!("{manifest}rest: generated\n"),
    )?;
    let loader = FakeLoader::default();
    let gate = std::sync::Arc::clone(&loader.gate);
    let yaml = "models: {a: {path: a, preload: true}}";
    let server = TestServer::start(yaml, folder, std::sync::Arc::new(loader)).await?;
    Ok((server, gate))
}

/// A pixel in the middle of the face.
fn middle(frame: &v1::CompositedFrame) -> Result<u8> {
    let (width, _) = avatar::SIZE;
    let [x1, y1, x2, y2] = avatar::RECT.map(|n| usize::try_from(n).unwrap_or(0));
    let at = (y1.midpoint(y2) * usize::try_from(width)? + x1.midpoint(x2)) * 3;
    frame.data.get(at).copied().context("a pixel")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_face_at_rest_is_that_of_silence_and_is_made_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = server(folder.path()).await?;
    let mut open = realtime_session("a");
    open.idle_frames = true;
    open.output = Some(v1::OutputOptions {
        format: v1::OutputFormat::Rgb.into(),
        ..Default::default()
    });
    let before = gate.n_passed();
    let mut session = Session::open(&server, open).await?;
    let mut idle = Vec::new();
    while idle.len() < 14 {
        if let Answer::Frame(frame) = session.next().await?.context("more")? {
            idle.push(frame);
        }
    }
    for frame in &idle {
        assert!(frame.generated, "frame {}", frame.frame_index);
        assert_eq!(middle(frame)?, SILENCE, "frame {}", frame.frame_index);
    }
    // Four backgrounds, however long it rests.
    assert_eq!(gate.n_passed() - before, 4);
    session.audio(1, &babble(1, 640 * 8));
    session.half_close();
    let answers = session.rest().await?;
    let spoken: Vec<_> = frames(&answers)
        .into_iter()
        .filter(|f| f.segment_id == 1)
        .collect();
    assert_eq!(spoken.len(), 8);
    assert!(spoken.iter().all(|frame| frame.generated));
    Ok(())
}

#[tokio::test]
async fn without_an_audio_encoder_nobody_knows_silence() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("a");
    avatar::write_fake(&model, 4)?;
    let manifest = fs::read_to_string(model.join("avatar.yaml"))?;
    let manifest = manifest.replace("audio_encoder: audio_encoder.onnx\n", "rest: generated\n");
    fs::write(model.join("avatar.yaml"), manifest)?;
    let loader = std::sync::Arc::new(FakeLoader::default());
    let server = TestServer::start("models: {a: {path: a}}", folder.path(), loader).await?;
    let id = lipsync_core::ModelId::new("a")?;
    let refused = server
        .running()
        .shared()
        .registry
        .load(&id)
        .await
        .expect_err("no encoder");
    assert!(
        refused.to_string().contains("needs an audio encoder"),
        "{refused}"
    );
    Ok(())
}
