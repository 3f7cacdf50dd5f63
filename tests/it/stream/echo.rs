//! `audio_echo`: each frame brings the audio under it.

use anyhow::Result;
use lipsync::v1::{self, audio_chunk::Audio, stream_composite_request::Message as Ask};

use super::{Session, fake_server, frames, pcm_session};

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_what_was_sent_to_the_byte() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let formats = [
        (16_000, 1, v1::PcmEncoding::S16le, 2),
        (44_100, 2, v1::PcmEncoding::S16le, 4),
        (11_025, 1, v1::PcmEncoding::F32le, 4),
    ];
    for (sample_rate_hz, channels, encoding, item_bytes) in formats {
        let open = v1::OpenSession {
            sample_rate_hz,
            channels,
            encoding: encoding.into(),
            audio_echo: true,
            idle_frames: true,
            pacing: v1::Pacing::Realtime.into(),
            ..pcm_session("a")
        };
        let n_samples = usize::try_from(sample_rate_hz)? + 17;
        // Any bits but those of a float that is not finite.
        let byte = |i: usize| u8::try_from(i * 31 % 64).unwrap_or(0);
        let sent: Vec<u8> = (0..n_samples * item_bytes).map(byte).collect();
        let mut session = Session::open(&server, open).await?;
        for chunk in sent.chunks(777 * item_bytes) {
            let audio = Some(Audio::Pcm(chunk.to_vec().into()));
            session.ask(Ask::Audio(v1::AudioChunk {
                segment_id: 1,
                audio,
            }));
        }
        session.half_close();
        let answers = session.rest().await?;
        let (spoken, idle): (Vec<_>, Vec<_>) = frames(&answers)
            .into_iter()
            .partition(|f| f.segment_id == 1);
        assert_eq!(spoken.len(), 26);
        assert!(idle.iter().all(|f| f.audio.is_empty()));
        let frame_start = |n: u64| n * u64::from(sample_rate_hz) / 25;
        for (n, frame) in (0..25).zip(&spoken) {
            let n_expected = usize::try_from(frame_start(n + 1) - frame_start(n))?;
            assert_eq!(frame.audio.len(), n_expected * item_bytes, "frame {n}");
        }
        let back: Vec<u8> = spoken.iter().flat_map(|f| f.audio.to_vec()).collect();
        assert!(back == sent, "{sample_rate_hz} Hz");
    }
    Ok(())
}
