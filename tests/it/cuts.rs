//! Utterances cut into unary calls by the client give the frames of one whole call, bit for bit.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use lipsync::{client::Client, cuts::Cuts, session::AudioFormat, v1};

use crate::support::{FakeLoader, TestServer, avatar, speech};

async fn frames(client: &Client, cuts: Cuts, start_frame_index: u64) -> Result<Vec<(u64, Bytes)>> {
    let template = v1::InferBatchCompositeRequest {
        model_id: "a".into(),
        start_frame_index,
        ..Default::default()
    };
    let mut frames = Vec::new();
    for cut in cuts {
        let n_frames = usize::try_from(cut.n_frames)?;
        let answer = client.infer_batch_composite(cut.request(&template)).await?;
        assert_eq!(answer.frames.len(), n_frames);
        frames.extend(answer.frames.into_iter().map(|f| (f.frame_index, f.data)));
    }
    Ok(frames)
}

/// Speech of `n_items` in any form; for steps and windows any numbers do.
fn audio(format: AudioFormat, n_items: usize) -> Bytes {
    let samples = speech::babble(3, n_items * format.item_bytes());
    match format {
        AudioFormat::PcmS16 { .. } => {
            let n_values = n_items * format.item_bytes() / 2;
            speech::to_bytes(&samples[..n_values])
        }
        _ => samples[..n_items * format.item_bytes() / 4]
            .iter()
            .flat_map(|&s| (f32::from(s) / 32_768.0).to_le_bytes())
            .collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn awkward_lengths_rates_and_forms() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 7)?;
    let yaml = "server: {max_batch_frames: 200}\nmodels: {a: {path: a, preload: true}}\n";
    let loader = Arc::new(FakeLoader::default());
    let server = TestServer::start(yaml, folder.path(), loader).await?;
    let client = server.client().await?;
    let stereo = |rate_hz| AudioFormat::PcmF32 {
        rate_hz,
        n_channels: 2,
    };
    let steps = AudioFormat::Steps { n_floats: 512 };
    let windows = AudioFormat::Windows {
        n_floats: 32 * 16 * 16,
    };
    for (format, n_items) in [
        (AudioFormat::mono_s16(16_000), 640 * 41),
        (AudioFormat::mono_s16(16_000), 640 * 41 + 1),
        (AudioFormat::mono_s16(16_000), 640 * 30 - 1),
        (AudioFormat::mono_s16(16_000), 1),
        (AudioFormat::mono_s16(8_000), 320 * 33 + 77),
        (AudioFormat::mono_s16(11_025), 441 * 31 + 5),
        (AudioFormat::mono_s16(22_050), 882 * 29 + 3),
        // No multiple of 5: cuts lie at whole seconds.
        (AudioFormat::mono_s16(44_099), 44_099 * 3 / 2),
        (stereo(44_100), 1_764 * 27 + 11),
        (stereo(48_000), 1_920 * 23),
        (steps, 37),
        (steps, 1),
        (windows, 9),
    ] {
        let audio = audio(format, n_items);
        let whole = frames(&client, Cuts::new(format, audio.clone(), 200), 5).await?;
        assert_eq!(whole.first().map(|(index, _)| *index), Some(5));
        for n_per_call in [1, 7, 8, 20] {
            let cuts = Cuts::new(format, audio.clone(), n_per_call);
            assert_eq!(cuts.n_frames(), whole.len() as u64);
            let cut = frames(&client, cuts, 5).await?;
            assert!(
                cut == whole,
                "{format:?}: {n_items} in calls of {n_per_call}"
            );
        }
    }
    Ok(())
}
