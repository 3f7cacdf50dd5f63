//! How sessions end, and that nothing is left of them.

use anyhow::{Context as _, Result, bail};
use lipsync::v1::{
    self, stream_composite_request::Message as Ask, stream_composite_response::Message as Answer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

use super::{Session, fake_server, pcm_session};
use crate::support::speech::babble;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_counted_and_given_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {max_sessions: 3}").await?;
    let mut sessions = Vec::new();
    for n in 1..=3 {
        let mut session = Session::open(&server, pcm_session("a")).await?;
        session.audio(1, &babble(1, 640 * 30));
        assert!(session.next().await?.is_some());
        sessions.push(session);
        assert_eq!(server.stats().await?.sessions, n);
    }
    let refused = match Session::open(&server, pcm_session("a")).await {
        Ok(_) => bail!("a fourth session was let in"),
        Err(error) => error.downcast::<Status>()?,
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(sessions);
    server
        .until("no session is left", |s| s.sessions == 0)
        .await?;
    let mut session = Session::open(&server, pcm_session("a")).await?;
    session.half_close();
    assert_eq!(session.rest().await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_a_session_sent_and_says_why_it_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut session = Session::open(&server, pcm_session("a")).await?;
    session.audio(1, &babble(1, 640 * 20));
    // One frame back: the audio has arrived.
    while !matches!(session.next().await?.context("more")?, Answer::Frame(_)) {}
    let draining = tokio::spawn(server.shut_down());
    let (mut n_frames, mut warned) = (1, false);
    let status = loop {
        match session.next().await {
            Ok(Some(Answer::Frame(_))) => n_frames += 1,
            Ok(Some(Answer::Warning(warning))) => warned |= warning.code == "draining",
            Ok(Some(_)) => {}
            Ok(None) => bail!("no reason given"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), n_frames), (Code::Unavailable, 20));
    assert!(warned);
    assert!(draining.await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_keeps_no_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // The client is told if it reads within twice the time.
    let (server, _gate) = fake_server(folder.path(), "session: {send_timeout_s: 5}").await?;
    let mut session = Session::open(&server, raw_session()).await?;
    session.audio(1, &babble(1, 640 * 500));
    server
        .until("no session is left", |s| s.sessions == 0)
        .await?;
    let status = session.failure().await?;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("read"), "{status}");
    Ok(())
}

/// Raw frames: those of 20 s are 9 MB, more than a connection buffers.
fn raw_session() -> v1::OpenSession {
    v1::OpenSession {
        output: Some(v1::OutputOptions {
            format: v1::OutputFormat::Rgb.into(),
            ..Default::default()
        }),
        ..pcm_session("a")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_is_taken_back_and_its_connection_lives_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {send_timeout_s: 1}").await?;
    let client = server.client().await?;
    let mut unread = Session::over(&client, raw_session()).await?;
    unread.audio(1, &babble(1, 640 * 500));
    server
        .until("nothing of the session is left", |s| {
            let sessions = s.session_stats.unwrap_or_default();
            sessions.opened == 1 && sessions.alive == 0
        })
        .await?;
    let mut other = Session::over(&client, pcm_session("a")).await?;
    other.half_close();
    assert_eq!(other.rest().await?.len(), 1);
    assert_eq!(unread.failure().await?.code(), Code::Cancelled);
    Ok(())
}

#[tokio::test]
async fn the_clients_deadline_ends_a_stream() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let (asks, requests) = mpsc::unbounded_channel();
    let mut request = tonic::Request::new(UnboundedReceiverStream::new(requests));
    request.metadata_mut().insert("grpc-timeout", "2S".parse()?);
    let mut lip_sync = server.client().await?.lip_sync();
    let answers = lip_sync.stream_composite(request).await?.into_inner();
    let asks = Some(asks);
    let mut session = Session { asks, answers };
    session.ask(Ask::Open(pcm_session("a")));
    assert_eq!(session.failure().await?.code(), Code::DeadlineExceeded);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_a_session_that_never_opened() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let (_asks, requests) = mpsc::unbounded_channel();
    let mut lip_sync = server.client().await?.lip_sync();
    let requests = UnboundedReceiverStream::<v1::StreamCompositeRequest>::new(requests);
    let mut answers = lip_sync.stream_composite(requests).await?.into_inner();
    assert!(server.shut_down().await, "nothing is left after the grace");
    let status = answers.message().await.expect_err("the end");
    assert_eq!(status.code(), Code::Unavailable);
    Ok(())
}

/// A session that would last for a minute: audio in real time, and idle frames after it.
async fn long_session(server: &crate::support::TestServer) -> Result<Session> {
    let mut open = pcm_session("a");
    open.pacing = v1::Pacing::Realtime.into();
    open.idle_frames = true;
    let mut session = Session::open(server, open).await?;
    session.audio(1, &babble(1, 16_000 * 55));
    while !matches!(session.next().await?.context("more")?, Answer::Frame(f) if f.segment_id == 1) {
    }
    Ok(session)
}

/// The codes of the warnings until the stream fails, and how it does. That frames are late, as on a busy
/// machine, is not among them.
async fn last_words(session: &mut Session) -> Result<(Vec<String>, Status)> {
    let mut warnings = Vec::new();
    loop {
        match session.next().await {
            Ok(Some(Answer::Warning(warning))) if warning.code != "late_frames" => {
                warnings.push(warning.code);
            }
            Ok(Some(_)) => {}
            Ok(None) => bail!("no reason given"),
            Err(status) => return Ok((warnings, status)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_outlasts_the_grace_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "server: {shutdown_grace_s: 4}").await?;
    let mut session = long_session(&server).await?;
    let draining = tokio::spawn(server.shut_down());
    let (warnings, status) = last_words(&mut session).await?;
    assert!(warnings.contains(&"draining".to_owned()), "{warnings:?}");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    drop(session);
    assert!(draining.await?, "nothing is left after the grace");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_is_heard_during_the_drain() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut session = long_session(&server).await?;
    let draining = tokio::spawn(server.shut_down());
    let draining_told = |answer| matches!(answer, Answer::Warning(w) if w.code == "draining");
    while !draining_told(session.next().await?.context("more")?) {}
    session.audio(2, &babble(2, 640));
    session.clear(None);
    let (warnings, status) = last_words(&mut session).await?;
    assert_eq!(warnings, ["audio_discarded"]);
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(draining.await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_its_life_is_over() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {max_session_s: 2}").await?;
    let mut session = Session::open(&server, pcm_session("a")).await?;
    session.audio(1, &babble(1, 640 * 20));
    let mut n_frames = 0;
    let (warning, status) = loop {
        match session.next().await {
            Ok(Some(Answer::Warning(warning))) => {
                break (warning, last_words(&mut session).await?.1);
            }
            Ok(Some(Answer::Frame(_))) => n_frames += 1,
            Ok(Some(_)) => {}
            other => bail!("{other:?}"),
        }
    };
    // 20 frames of audio; those that need the segment's end are made after the warning.
    assert!(n_frames >= 9, "{n_frames}");
    assert_eq!(warning.code, "session_limit");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("limit of 2 s"), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_frames_do_not_keep_a_session_alive() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {idle_timeout_s: 1}").await?;
    let mut open = pcm_session("a");
    open.pacing = v1::Pacing::Realtime.into();
    open.idle_frames = true;
    let mut session = Session::open(&server, open).await?;
    let status = session.failure().await?;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("idle for 1 s"), "{status}");
    Ok(())
}
