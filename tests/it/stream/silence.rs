//! The silence gate: what streams, streams the same however it is cut; silence costs nothing.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use lipsync::v1::{self, infer_batch_composite_request::Audio, stream_composite_response::Message};

use super::{Session, fake_server, frames, pcm_session};
use crate::support::{TestServer, speech::to_bytes};

const FPS: usize = 25;

/// Silence (with a little noise), a word, silence, a word.
pub(super) fn speech(rate_hz: u32, seconds: [f32; 4]) -> Vec<i16> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small numbers"
    )]
    let part = |(n, seconds): (usize, f32)| {
        let n_samples = (seconds * rate_hz as f32) as usize;
        (0..n_samples).map(move |i| {
            if n.is_multiple_of(2) {
                return i16::from((i * 7919 % 5) as u8) - 2;
            }
            let phase = std::f32::consts::TAU * i as f32 / rate_hz as f32;
            (8000.0 * (phase * 140.0).sin() * (0.7 + 0.3 * (phase * 4.0).sin())) as i16
        })
    };
    seconds.into_iter().enumerate().flat_map(part).collect()
}

pub(super) fn gated_session(model: &str, rate_hz: u32) -> v1::OpenSession {
    v1::OpenSession {
        sample_rate_hz: rate_hz,
        idle_frames: true,
        output: Some(v1::OutputOptions {
            format: v1::OutputFormat::Rgb.into(),
            ..Default::default()
        }),
        ..pcm_session(model)
    }
}

async fn streamed(
    server: &TestServer,
    open: v1::OpenSession,
    samples: &[i16],
    n_chunk: usize,
) -> Result<Vec<v1::CompositedFrame>> {
    let mut session = Session::open(server, open).await?;
    for chunk in samples.chunks(n_chunk) {
        session.audio(1, chunk);
    }
    session.half_close();
    let answers = session.rest().await?;
    Ok(frames(&answers).into_iter().cloned().collect())
}

async fn unary(
    server: &TestServer,
    open: &v1::OpenSession,
    samples: &[i16],
) -> Result<Vec<v1::CompositedFrame>> {
    let request = v1::InferBatchCompositeRequest {
        model_id: open.model_id.clone(),
        audio: Some(Audio::Pcm(v1::Pcm {
            samples: to_bytes(samples),
            sample_rate_hz: open.sample_rate_hz,
            ..Default::default()
        })),
        output: open.output,
        ..Default::default()
    };
    let client = server.client().await?;
    Ok(client.infer_batch_composite(request).await?.frames)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_chunks_at_any_rate_give_the_frames_of_the_whole_clip() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "server: {max_batch_frames: 256}").await?;
    for rate_hz in [8_000, 16_000, 22_050, 24_000, 44_100, 48_000] {
        let samples = speech(rate_hz, [0.8, 0.6, 2.2, 0.5]);
        let open = gated_session("a", rate_hz);
        let whole = streamed(&server, open.clone(), &samples, samples.len()).await?;
        let ms = usize::try_from(rate_hz / 1000)?;
        for n_chunk in [ms, 20 * ms + 1, 333 * ms, 5000 * ms] {
            let cut = streamed(&server, open.clone(), &samples, n_chunk).await?;
            assert!(cut == whole, "{n_chunk} samples at {rate_hz} Hz");
        }
        // Where the gate is open they are those of a call without any gate.
        let ungated = unary(&server, &open, &samples).await?;
        assert_eq!(whole.len(), ungated.len());
        let same: Vec<bool> = whole
            .iter()
            .zip(&ungated)
            .map(|(a, b)| a.data == b.data)
            .collect();
        let onset = 4 * FPS / 5;
        let first = same.iter().position(|&same| same).context("speech")?;
        assert!(
            (onset - 6..=onset + 1).contains(&first),
            "{first} at {rate_hz} Hz"
        );
        let word = onset..onset + 3 * FPS / 5;
        assert!(same[word.clone()].iter().all(|&same| same), "{rate_hz} Hz");
        let again = word.end + 22 * FPS / 10;
        assert!(same[again..].iter().all(|&same| same), "{rate_hz} Hz");
        assert!(
            whole[..onset - 6]
                .iter()
                .chain(&whole[again - 10..again - 6])
                .all(|f| !f.generated)
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_silence_runs_the_network_not_once_and_moves_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // All of it may wait: it is sent as fast as it goes, and the default has room for a minute.
    let yaml = "session: {max_buffered_audio_s: 120}";
    let (server, _gate) = fake_server(folder.path(), yaml).await?;
    let samples = speech(16_000, [0.0, 1.0, 60.0, 0.5]);
    let frames = streamed(&server, gated_session("a", 16_000), &samples, 1600).await?;
    assert_eq!(frames.len(), 61 * FPS + 13);
    let closed = frames
        .iter()
        .position(|f| !f.generated)
        .context("silence")?;
    assert!(closed < 2 * FPS, "{closed}");
    let open = closed
        + frames[closed..]
            .iter()
            .position(|f| f.generated)
            .context("speech")?;
    assert!((61 * FPS - 6..=61 * FPS - 5).contains(&open), "{open}");
    // What was not generated never reached a worker.
    let n_generated = frames.iter().filter(|f| f.generated).count();
    let stats = server.stats().await?;
    let n_network: u64 = stats.workers.iter().map(|w| w.frames).sum();
    assert_eq!(n_network, u64::try_from(n_generated)?);
    let n_silent = u64::try_from(frames.len() - n_generated)?;
    assert_eq!(
        stats.session_stats.context("stats")?.silent_frames,
        n_silent
    );
    // The walk goes on, and each picture is the one of its background.
    let mut pictures: [Option<&Bytes>; 4] = [None; 4];
    for (n, frame) in (0..).zip(&frames) {
        assert_eq!(frame.frame_index, n);
        if !frame.generated {
            let picture = &mut pictures[usize::try_from(frame.background_index)?];
            assert_eq!(*picture.get_or_insert(&frame.data), &frame.data);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mira_does_not_jump_where_speech_and_rest_meet() -> Result<()> {
    let server = TestServer::mira().await?;
    let mut open = gated_session("mira", 16_000);
    if let Some(output) = &mut open.output {
        output.region_only = true;
    }
    let samples = speech(16_000, [0.6, 0.5, 1.2, 0.0]);
    let frames = streamed(&server, open, &samples, 1600).await?;
    let change = |pair: &[v1::CompositedFrame]| {
        let bytes = pair[0].data.iter().zip(&pair[1].data);
        let sum: u64 = bytes.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum / u64::try_from(pair[0].data.len()).unwrap_or(1).max(1)
    };
    // The mean change of a pixel from frame to frame, in levels.
    let changes: Vec<u64> = frames
        .windows(2)
        .filter(|w| w[0].data.len() == w[1].data.len())
        .map(change)
        .collect();
    assert!(changes.len() > 30);
    assert!(changes.iter().all(|&change| change <= 6), "{changes:?}");
    Ok(())
}

#[tokio::test]
async fn features_that_clients_made_are_all_speech() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut open = gated_session("a", 0);
    open.audio_input = v1::AudioInput::Windows.into();
    let mut session = Session::open(&server, open).await?;
    let audio = Some(v1::audio_chunk::Audio::Windows(
        vec![0; 32 * 16 * 16 * 4 * 9].into(),
    ));
    session.ask(v1::stream_composite_request::Message::Audio(
        v1::AudioChunk {
            segment_id: 1,
            audio,
        },
    ));
    session.half_close();
    let answers = session.rest().await?;
    assert!(
        answers
            .iter()
            .any(|a| matches!(a, Message::SegmentEnd(end) if end.n_frames == 9))
    );
    assert!(frames(&answers).iter().all(|f| f.generated));
    Ok(())
}
