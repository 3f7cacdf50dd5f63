//! `PACING_REALTIME` and idle frames over the wire: what comes, in which order. When it comes is tested in
//! virtual time, beside the session's state machine.

use anyhow::{Context as _, Result};
use lipsync::v1::{self, stream_composite_response::Message as Answer};

use super::{Session, fake_server, frames, pcm_session};
use crate::support::{
    TestServer,
    speech::{babble, windows_request},
};

pub(super) fn realtime_session(model: &str) -> v1::OpenSession {
    v1::OpenSession {
        pacing: v1::Pacing::Realtime.into(),
        ..pcm_session(model)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paced_frames_are_those_of_the_same_session_in_a_hurry() -> Result<()> {
    let server = TestServer::mira().await?;
    let samples = babble(3, 640 * 20 + 99);
    let mut all = Vec::new();
    for pacing in [v1::Pacing::Asap, v1::Pacing::Realtime] {
        let mut open = pcm_session("mira");
        open.pacing = pacing.into();
        let mut session = Session::open(&server, open).await?;
        session.audio(1, &samples);
        session.half_close();
        all.push(session.rest().await?);
    }
    let (hurried, paced) = (frames(&all[0]), frames(&all[1]));
    assert_eq!((hurried.len(), paced.len()), (21, 21));
    for (hurried, paced) in hurried.iter().zip(paced) {
        // A machine too slow for real time leaves out the network, and says so.
        assert!(!paced.generated || hurried.data == paced.data);
        assert_eq!(hurried.pts_us, paced.pts_us);
        assert_eq!(hurried.audio_time_us, paced.audio_time_us);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paced_session_goes_on_where_batch_work_is_kept_from_the_cpu_pool() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let cpu = &server.running().shared().pipeline.cpu;
    let held = cpu.hold_batch().await?;
    let client = server.client().await?;
    let batch = tokio::spawn(async move {
        let request = windows_request("a", &[7.0]);
        client.infer_batch_composite(request).await
    });
    let mut session = Session::open(&server, realtime_session("a")).await?;
    session.audio(1, &babble(1, 640 * 20));
    session.half_close();
    assert_eq!(frames(&session.rest().await?).len(), 20);
    assert!(!batch.is_finished());
    drop(held);
    assert_eq!(batch.await??.frames.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_face_rests_before_between_and_after_segments() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut open = realtime_session("a");
    open.idle_frames = true;
    open.start_frame_index = 77;
    let mut session = Session::open(&server, open).await?;
    let mut answers = Vec::new();
    let mut n_idle = 0;
    let mut n_ended = 0;
    while n_ended < 2 || n_idle < 8 {
        let answer = session.next().await?.context("more")?;
        match &answer {
            Answer::Frame(frame) if frame.audio_time_us.is_none() => {
                n_idle += 1;
                if n_idle == 3 && n_ended < 2 {
                    session.audio(1 + n_ended, &babble(1, 640 * 8));
                    session.end(1 + n_ended);
                }
            }
            Answer::SegmentEnd(_) => (n_ended, n_idle) = (n_ended + 1, 0),
            _ => {}
        }
        answers.push(answer);
        if n_ended == 2 && n_idle == 8 {
            session.half_close();
        }
    }
    answers.extend(session.rest().await?);
    let frames = frames(&answers);
    for (n, frame) in (0..).zip(&frames) {
        assert_eq!((frame.frame_index, frame.pts_us), (77 + n, n * 40_000));
        assert_eq!(frame.audio_time_us.is_none(), frame.segment_id == 0);
    }
    for id in 1..=2 {
        let segment = frames.iter().filter(|f| f.segment_id == id);
        let times: Vec<u64> = segment.filter_map(|f| f.audio_time_us).collect();
        assert_eq!(times, (0..8).map(|n| n * 40_000).collect::<Vec<_>>());
    }
    // Rest, speech, the mouth closing, rest.
    assert!(!frames[0].generated);
    let last = frames
        .iter()
        .rposition(|f| f.segment_id == 2)
        .context("spoken")?;
    let generated: Vec<bool> = frames[last + 1..].iter().map(|f| f.generated).collect();
    assert_eq!(generated[..5], [true, true, true, false, false]);
    let stats = server.stats().await?.session_stats.context("stats")?;
    assert_eq!(stats.frames, u64::try_from(frames.len())?);
    assert_eq!(stats.idle_frames, stats.frames - 16);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_waited_for_and_counts_as_no_refusal() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) =
        fake_server(folder.path(), "server: {queue_size: 1, worker_count: 1}").await?;
    let mut sessions = Vec::new();
    for n in 0..8 {
        let mut session = Session::open(&server, pcm_session("a")).await?;
        session.audio(1, &babble(n, 640 * 60));
        session.half_close();
        sessions.push(session);
    }
    for session in &mut sessions {
        assert_eq!(frames(&session.rest().await?).len(), 60);
    }
    assert_eq!(server.stats().await?.rejected, 0);
    Ok(())
}
