//! Avatars of the kinds wenet and HuBERT speak from samples, by encoders that several of them share.

use std::{fs, path::Path};

use anyhow::{Result, bail};
use lipsync::v1::{self, stream_composite_response::Message as Answer};
use lipsync_core::AudioKind;
use lipsync_engine::network_writer::Unet;

use super::{Session, frames, pcm_session};
use crate::support::{
    TestServer, avatar,
    server::repository,
    speech::{babble, pcm_request},
};

/// Writes an avatar whose generator hears windows of `channels` channels, with the small encoder `encoder` of
/// `tests/golden/speech`.
fn write(folder: &Path, (kind, channels): (AudioKind, usize), encoder: &str) -> Result<()> {
    let mut unet = Unet::new(160, kind);
    unet.channels = [8, 8, 8, 8, 16];
    unet.audio.channels = channels;
    let file = format!("tests/golden/speech/{encoder}-small-torch-default.onnx");
    let encoder = repository().join(file);
    avatar::write(folder, 5, &unet.write(), &fs::read(encoder)?)?;
    let manifest = "generator: generator.onnx\naudio_encoder: audio_encoder.onnx\nframes: frames\n\
                    crop_rectangles: crop_rectangles.json\n";
    fs::write(folder.join("avatar.yaml"), manifest)?;
    Ok(())
}

async fn server(folder: &Path) -> Result<TestServer> {
    let mut yaml = String::from("capacity: {bake: off}\nmodels:\n");
    for (name, hears, encoder) in [
        ("wide", (AudioKind::Wenet, 256), "wenet"),
        ("narrow", (AudioKind::Wenet, 128), "wenet"),
        ("hubert", (AudioKind::Hubert, 16), "hubert"),
        ("wrong", (AudioKind::Ave, 32), "wenet"),
    ] {
        write(&folder.join(name), hears, encoder)?;
        yaml.push_str(&format!("  {name}: {{path: {name}}}\n"));
    }
    TestServer::start_real(&yaml, folder).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_the_frames_of_one_unary_call() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let samples = babble(5, 800 * 22 + 77);
    for (model, fps, look_ahead_ms, n_frames) in [
        ("wide", 20u32, 715, 23),
        ("narrow", 20, 515, 23),
        ("hubert", 25, 1_325, 28),
    ] {
        let call = pcm_request(model, &samples);
        let whole = server.client().await?.infer_batch_composite(call).await?;
        assert_eq!(whole.frames.len(), n_frames);
        assert_eq!(whole.frames[1].pts_us, 1_000_000 / u64::from(fps));
        let other = pcm_request(model, &babble(9, samples.len()));
        let other = server.client().await?.infer_batch_composite(other).await?;
        let mut pairs = whole.frames.iter().zip(&other.frames);
        assert!(pairs.any(|(a, b)| a.data != b.data), "{model} is deaf");
        let mut session = Session::open(&server, pcm_session(model)).await?;
        for chunk in samples.chunks(5_000) {
            session.audio(1, chunk);
        }
        session.half_close();
        let answers = session.rest().await?;
        let Answer::Opened(opened) = &answers[0] else {
            bail!("opened comes first")
        };
        assert_eq!((opened.fps, opened.look_ahead_ms), (fps, look_ahead_ms));
        let streamed = frames(&answers);
        assert_eq!(streamed.len(), whole.frames.len());
        for (n, (streamed, whole)) in streamed.iter().zip(&whole.frames).enumerate() {
            assert!(streamed.data == whole.data, "{model}: frame {n}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn part_of_an_utterance_gives_its_frames() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let client = server.client().await?;
    let samples = babble(6, 800 * 40);
    let whole = client
        .infer_batch_composite(pcm_request("wide", &samples))
        .await?;
    // 15 frames of context, and the rest.
    let mut part = pcm_request("wide", &samples[800 * 10..]);
    if let Some(v1::infer_batch_composite_request::Audio::Pcm(pcm)) = &mut part.audio {
        pcm.first_frame = 15;
    }
    part.start_frame_index = 25;
    let part = client.infer_batch_composite(part).await?;
    assert_eq!(part.frames.len(), 15);
    for (part, whole) in part.frames.iter().zip(&whole.frames[25..]) {
        assert!(part.data == whole.data);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_of_another_kind_is_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path()).await?;
    let call = pcm_request("wrong", &babble(1, 16_000));
    let refused = server.client().await?.infer_batch_composite(call).await;
    let text = refused.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(
        text.contains("the audio encoder of ave, 512 floats a step")
            && text.contains("one of 8192 floats a step"),
        "{text}"
    );
    Ok(())
}
