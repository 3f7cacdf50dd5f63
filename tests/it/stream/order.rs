//! Frames in order, on one clock, the same however the audio comes.

use anyhow::{Result, bail};
use lipsync::v1::stream_composite_response::Message as Answer;

use super::{Session, fake_server, frames, pcm_session};
use crate::support::{
    TestServer,
    speech::{babble, pcm_request},
};

#[tokio::test]
async fn a_stream_gives_the_frames_of_one_unary_call_however_the_audio_is_cut() -> Result<()> {
    let server = TestServer::mira().await?;
    let samples = babble(5, 640 * 30 + 77);
    let whole = server
        .client()
        .await?
        .infer_batch_composite(pcm_request("mira", &samples))
        .await?;
    for n_chunk in [160, 5000, samples.len()] {
        let mut session = Session::open(&server, pcm_session("mira")).await?;
        for chunk in samples.chunks(n_chunk) {
            session.audio(1, chunk);
        }
        session.half_close();
        let answers = session.rest().await?;
        let streamed = frames(&answers);
        assert_eq!(streamed.len(), whole.frames.len());
        for (n, (streamed, whole)) in streamed.iter().zip(&whole.frames).enumerate() {
            assert!(
                streamed.data == whole.data,
                "frame {n} in chunks of {n_chunk}"
            );
            assert_eq!(streamed.pts_us, whole.pts_us);
            assert_eq!(streamed.audio_time_us, whole.audio_time_us);
        }
        let Some(Answer::SegmentEnd(end)) = answers.last() else {
            bail!("{:?}", answers.last())
        };
        assert_eq!((end.segment_id, end.n_frames), (1, 31));
    }
    Ok(())
}

#[tokio::test]
async fn segments_play_in_order_on_one_clock() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut session = Session::open(&server, pcm_session("a")).await?;
    session.audio(3, &babble(1, 640 * 4));
    session.audio(7, &babble(2, 640 * 3));
    session.end(7);
    session.audio(8, &babble(3, 640 * 2));
    session.half_close();
    let answers = session.rest().await?;
    let Answer::Opened(opened) = &answers[0] else {
        bail!("opened comes first")
    };
    assert_eq!((opened.fps, opened.width, opened.height), (25, 96, 64));
    assert_eq!(opened.look_ahead_ms, 453);
    let seen: Vec<(u64, u64, u64, Option<u64>)> = frames(&answers)
        .iter()
        .map(|f| {
            (
                f.segment_id,
                f.frame_index,
                f.pts_us / 40_000,
                f.audio_time_us.map(|t| t / 40_000),
            )
        })
        .collect();
    let expected: Vec<_> = [
        (3, 0),
        (3, 1),
        (3, 2),
        (3, 3),
        (7, 0),
        (7, 1),
        (7, 2),
        (8, 0),
        (8, 1),
    ]
    .into_iter()
    .zip(0..)
    .map(|((segment, n), place)| (segment, place, place, Some(n)))
    .collect();
    assert_eq!(seen, expected);
    let ends: Vec<u64> = answers
        .iter()
        .filter_map(|a| {
            if let Answer::SegmentEnd(e) = a {
                Some(e.segment_id)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(ends, [3, 7, 8]);
    Ok(())
}

#[tokio::test]
async fn a_segment_of_which_nothing_can_be_made_ends_all_the_same() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut session = Session::open(&server, pcm_session("a")).await?;
    assert!(matches!(session.next().await?, Some(Answer::Opened(_))));
    for id in 1..5 {
        session.audio(id, &[]);
        session.end(id);
        // Answered at once, without anything more from the client.
        let Some(Answer::SegmentEnd(end)) = session.next().await? else {
            bail!("the end of segment {id}")
        };
        assert_eq!((end.segment_id, end.n_frames), (id, 0));
    }
    Ok(())
}
