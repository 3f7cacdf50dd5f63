//! `clear`.

use anyhow::{Context as _, Result, bail};
use lipsync::v1::stream_composite_response::Message as Answer;

use super::{Session, fake_server, frames, pcm_session};
use crate::support::{HeldGate, TestServer, speech::babble};

#[tokio::test(flavor = "multi_thread")]
async fn after_cleared_no_frame_of_the_segment_comes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = fake_server(folder.path(), "server: {worker_count: 1}").await?;
    for round in 0..20_u64 {
        let mut session = Session::open(&server, pcm_session("a")).await?;
        session.audio(1, &babble(1, 640 * 50));
        // Interrupt at different places: before, while and after frames are made.
        let n_before = round % 5;
        if n_before == 0 {
            gate.close();
        }
        let mut n_frames = 0;
        while n_frames < n_before {
            match session.next().await?.context("more")? {
                Answer::Frame(_) => n_frames += 1,
                Answer::Opened(_) => {}
                other => bail!("{other:?}"),
            }
        }
        session.clear(if round.is_multiple_of(2) {
            Some(1)
        } else {
            None
        });
        session.audio(1, &babble(1, 640 * 5));
        session.audio(2, &babble(2, 640 * 3));
        session.half_close();
        gate.open();
        let answers = session.rest().await?;
        let at = answers
            .iter()
            .position(|a| matches!(a, Answer::Cleared(_)))
            .context("cleared")?;
        let n_sent = n_frames + u64::try_from(frames(&answers[..at]).len())?;
        let Answer::Cleared(cleared) = &answers[at] else {
            bail!("cleared")
        };
        assert_eq!(
            cleared.last_pts_us,
            n_sent.checked_sub(1).map(|n| n * 40_000)
        );
        let later = frames(&answers[at..]);
        assert_eq!(later.len(), 3, "the next segment is whole");
        for (n, frame) in (n_sent..).zip(&later) {
            assert_eq!((frame.segment_id, frame.pts_us), (2, n * 40_000));
            assert_eq!(
                frame.frame_index, n,
                "the walk goes on where the viewer saw it"
            );
        }
        let warned = answers
            .iter()
            .any(|a| matches!(a, Answer::Warning(w) if w.code == "audio_discarded"));
        assert!(warned, "late audio of a cleared segment is reported");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_cancels_the_job_in_flight_and_is_answered_before_it_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = fake_server(folder.path(), "server: {worker_count: 1}").await?;
    let held = HeldGate::close(&gate);
    let mut session = Session::open(&server, pcm_session("a")).await?;
    session.audio(1, &babble(1, 640 * 50));
    server.until("a job is there", |s| s.submitted == 1).await?;
    session.clear(None);
    loop {
        match session.next().await?.context("more")? {
            Answer::Cleared(cleared) => break assert_eq!(cleared.last_pts_us, None),
            Answer::Opened(_) => {}
            other => bail!("{other:?}"),
        }
    }
    let stats = server
        .until("it is cancelled", |s| s.cancelled == 1)
        .await?;
    assert_eq!(stats.session_stats.unwrap_or_default().clears, 1);
    drop(held);
    session.half_close();
    assert_eq!(session.rest().await?.len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_cleared_segment_goes_on_where_the_viewer_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {max_unsent_ms: 400}").await?;
    // On a machine that stands still for a moment, all of the segment may have left: once more.
    for _ in 0..20 {
        if is_interrupted_in_its_midst(&server).await? {
            return Ok(());
        }
    }
    bail!("every segment was over before it was interrupted")
}

/// Interrupts a segment of 4 frames after the first and checks what follows; whether the others were still
/// there to be dropped.
async fn is_interrupted_in_its_midst(server: &TestServer) -> Result<bool> {
    let mut open = pcm_session("a");
    open.pacing = lipsync::v1::Pacing::Realtime.into();
    let mut session = Session::open(server, open).await?;
    session.audio(1, &babble(1, 640 * 4));
    session.audio(2, &babble(2, 640 * 5));
    session.end(2);
    // Both are made long before the first of them has left.
    while !matches!(session.next().await?.context("more")?, Answer::Frame(_)) {}
    session.clear(Some(1));
    session.half_close();
    let answers = session.rest().await?;
    let at = answers.iter().position(|a| matches!(a, Answer::Cleared(_)));
    let (before, after) = answers.split_at(at.context("cleared")?);
    let n_sent = 1 + u64::try_from(frames(before).len())?;
    if n_sent >= 4 {
        return Ok(false);
    }
    let after = frames(after);
    assert_eq!(after.len(), 5);
    for (n, frame) in (n_sent..).zip(after) {
        let found = (frame.segment_id, frame.frame_index, frame.pts_us);
        assert_eq!(found, (2, n, n * 40_000));
    }
    Ok(true)
}
