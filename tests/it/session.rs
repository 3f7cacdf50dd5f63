//! The client's `Session` against a real server.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use lipsync::{
    client::Client,
    session::{AudioFormat, Event, Session, SessionBuilder, SessionError, SessionReceiver},
    v1,
};
use tonic::Code;

use crate::support::{
    FakeLoader, HeldGate, PATIENCE, TestServer, avatar,
    link::Link,
    speech::{babble, pcm_request, to_bytes},
};

/// Samples of a frame at 16 kHz and 25 fps.
const FRAME: usize = 640;

async fn fake_server(folder: &Path, yaml: &str) -> Result<(TestServer, Arc<crate::support::Gate>)> {
    // Files that change under a server make it refuse the model.
    if !folder.join("a").exists() {
        avatar::write_fake(&folder.join("a"), 4)?;
    }
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = format!("models: {{a: {{path: a, preload: true}}}}\n{yaml}");
    let server = TestServer::start(&yaml, folder, Arc::new(loader)).await?;
    Ok((server, gate))
}

async fn builder(server: &TestServer) -> Result<SessionBuilder> {
    Ok(server.client().await?.session("a"))
}

async fn open(server: &TestServer) -> Result<Session> {
    Ok(builder(server).await?.open().await?)
}

/// Everything until the session ends well.
async fn rest(receiver: &mut SessionReceiver) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    while let Some(event) = receiver.next().await? {
        events.push(event);
    }
    Ok(events)
}

fn frames(events: &[Event]) -> Vec<&v1::CompositedFrame> {
    let frames = events.iter().filter_map(|event| match event {
        Event::Frame(frame) => Some(frame),
        _ => None,
    });
    frames.collect()
}

fn code(error: &SessionError) -> Option<Code> {
    match error {
        SessionError::Server(error) => Some(error.code),
        _ => None,
    }
}

#[tokio::test]
async fn segments_number_themselves_and_hold_the_frames_of_unary_calls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut session = open(&server).await?;
    let sentences = [babble(1, FRAME * 7 + 5), babble(2, FRAME * 3)];
    for (sentence, id) in sentences.iter().zip(1..) {
        for chunk in sentence.chunks(1_000) {
            assert_eq!(session.push_samples(chunk).await?, id);
        }
        assert_eq!(session.end_segment().await?, Some(id));
        assert_eq!(session.end_segment().await?, None);
    }
    session.finish();
    let mut ends = Vec::new();
    let mut data = Vec::new();
    while let Some(event) = session.next().await? {
        match event {
            Event::Frame(frame) => data.push(frame.data),
            Event::SegmentEnd(end) => ends.push((end.segment_id, end.n_frames)),
            other => bail!("{other:?}"),
        }
    }
    assert_eq!(ends, [(1, 8), (2, 3)]);
    let client = server.client().await?;
    let mut expected = Vec::new();
    for sentence in &sentences {
        let request = v1::InferBatchCompositeRequest {
            start_frame_index: u64::try_from(expected.len())?,
            ..pcm_request("a", sentence)
        };
        let answer = client.infer_batch_composite(request).await?;
        expected.extend(answer.frames.into_iter().map(|frame| frame.data));
    }
    assert!(data == expected, "the frames of the unary calls");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_clear_nothing_of_before_is_given() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = fake_server(folder.path(), "").await?;
    for n_seen in 0..4 {
        let mut session = open(&server).await?;
        session.push_samples(&babble(1, FRAME * 60)).await?;
        let mut last_pts_us = None;
        for _ in 0..n_seen {
            let Some(Event::Frame(frame)) = session.next().await? else {
                bail!("a frame comes first")
            };
            last_pts_us = Some(frame.pts_us);
        }
        let held = HeldGate::close(&gate);
        session.clear().await?;
        assert_eq!(session.push_samples(&babble(2, FRAME * 2)).await?, 2);
        session.finish();
        drop(held);
        let Some(Event::Cleared(cleared)) = session.next().await? else {
            bail!("frames under way are dropped here")
        };
        assert!(cleared.last_pts_us >= last_pts_us, "{cleared:?}");
        let (_, mut receiver) = session.split();
        let after = rest(&mut receiver).await?;
        let ids: Vec<u64> = frames(&after).iter().map(|f| f.segment_id).collect();
        assert_eq!(ids, [2, 2]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_waits_for_room_and_a_whole_session_says_that_there_is_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let limits = "session: {max_buffered_audio_s: 1}";
    let (server, _gate) = fake_server(folder.path(), limits).await?;
    let speech = to_bytes(&babble(1, FRAME * 25 * 8));
    let mut session = open(&server).await?;
    let refused = session.push_audio(speech.clone()).await;
    assert!(matches!(refused, Err(SessionError::WindowFull { .. })));
    // Nothing of it was sent, and the session goes on.
    let (mut sender, mut receiver) = session.split();
    let speaking = tokio::spawn(async move {
        sender.push_audio(speech).await?;
        sender.end_segment().await
    });
    let events = rest(&mut receiver).await?;
    assert_eq!(frames(&events).len(), 25 * 8);
    assert_eq!(speaking.await??, Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_sender_learns_that_nobody_listens() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let limits = "session: {max_buffered_audio_s: 1}";
    let (server, gate) = fake_server(folder.path(), limits).await?;
    let held = HeldGate::close(&gate);
    let (mut sender, receiver) = open(&server).await?.split();
    let speech = to_bytes(&babble(1, FRAME * 50));
    let speaking = tokio::spawn(async move { sender.push_audio(speech).await });
    drop(receiver);
    assert_eq!(speaking.await?, Err(SessionError::Closed));
    drop(held);
    server
        .until("no session is left", |s| s.sessions == 0)
        .await?;
    Ok(())
}

#[tokio::test]
async fn refusals_are_typed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let limits = "session: {max_sessions: 1}";
    let (server, _gate) = fake_server(folder.path(), limits).await?;
    let wrong = builder(&server).await?.audio(AudioFormat::mono_s16(7));
    let Err(SessionError::Server(error)) = wrong.open().await else {
        bail!("7 Hz was accepted")
    };
    assert_eq!(error.code, Code::InvalidArgument);
    assert_eq!(error.violations[0].field, "open.sample_rate_hz");
    assert!(error.request_id.is_some(), "{error:?}");
    server.until("it is gone", |s| s.sessions == 0).await?;
    let nobody = server.client().await?.session("nobody").open().await;
    let error = nobody.err().context("a model that does not exist")?;
    assert_eq!(code(&error), Some(Code::NotFound));
    server.until("it is gone", |s| s.sessions == 0).await?;
    let kept = open(&server).await?;
    let Err(SessionError::Server(error)) = builder(&server).await?.open().await else {
        bail!("a second session was let in")
    };
    assert_eq!(error.code, Code::ResourceExhausted);
    assert!(error.retry_after.is_some(), "{error:?}");
    drop(kept);
    Ok(())
}

#[tokio::test]
async fn audio_of_another_form_is_refused_and_loses_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut session = open(&server).await?;
    let refused = session.push_floats(&[0.0]).await;
    assert!(matches!(refused, Err(SessionError::WrongAudio { .. })));
    let telephony = AudioFormat::PcmMulaw {
        rate_hz: 8_000,
        n_channels: 1,
    };
    let mut codes = builder(&server).await?.audio(telephony).open().await?;
    let refused = codes.push_samples(&[0]).await;
    assert!(matches!(refused, Err(SessionError::WrongAudio { .. })));
    let windows = AudioFormat::Windows { n_floats: 8_192 };
    let mut whole = builder(&server).await?.audio(windows).open().await?;
    let refused = whole.push_audio(vec![0_u8; 3]).await;
    assert!(matches!(refused, Err(SessionError::WrongAudio { .. })));
    session.push_samples(&babble(1, FRAME)).await?;
    session.finish();
    let closed = session.push_samples(&[0]).await;
    assert_eq!(closed, Err(SessionError::Closed));
    let (_, mut receiver) = session.split();
    assert_eq!(frames(&rest(&mut receiver).await?).len(), 1);
    assert_eq!(receiver.next().await?, None, "the end stays the end");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_may_be_cut_anywhere() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let samples = babble(1, FRAME * 4);
    let sound = to_bytes(&samples);
    let expected = server.client().await?;
    let expected = expected
        .infer_batch_composite(pcm_request("a", &samples))
        .await?;
    let expected: Vec<_> = expected.frames.iter().map(|frame| &frame.data).collect();
    for n in [1, 3, 641] {
        let mut session = open(&server).await?;
        for piece in sound.chunks(n) {
            assert_eq!(
                session.push_audio(piece.to_vec()).await?,
                1,
                "pieces of {n}"
            );
        }
        session.finish();
        let (_, mut receiver) = session.split();
        let events = rest(&mut receiver).await?;
        let found: Vec<_> = frames(&events).iter().map(|frame| &frame.data).collect();
        assert!(found == expected, "pieces of {n}");
    }
    // The beginning of a sample is told and dropped at the end, and dropped by an interruption.
    let mut session = open(&server).await?;
    assert_eq!(session.push_audio(vec![7]).await?, 1);
    assert_eq!(session.end_segment().await?, None, "nothing was sent");
    assert_eq!(session.push_audio(sound.slice(..FRAME * 2 + 1)).await?, 1);
    assert_eq!(session.end_segment().await?, Some(1));
    assert_eq!(session.push_audio(vec![7]).await?, 2);
    session.clear().await?;
    assert_eq!(session.push_audio(sound.slice(..FRAME * 2)).await?, 2);
    session.finish();
    let (_, mut receiver) = session.split();
    let events = rest(&mut receiver).await?;
    let is_truncated = |e: &&Event| matches!(e, Event::Warning(w) if w.code == "audio_truncated");
    assert_eq!(events.iter().filter(is_truncated).count(), 1);
    let last = frames(&events)
        .last()
        .map(|f| (f.segment_id, f.audio_time_us));
    assert_eq!(last, Some((2, Some(0))));
    Ok(())
}

#[tokio::test]
async fn feature_windows_are_pushed_as_floats() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let n_floats = 32 * 16 * 16;
    let format = AudioFormat::Windows { n_floats };
    let mut session = builder(&server).await?.audio(format).open().await?;
    session.push_floats(&vec![7.0; 3 * n_floats]).await?;
    session.finish();
    let (_, mut receiver) = session.split();
    assert_eq!(frames(&rest(&mut receiver).await?).len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_tells_the_session_why_it_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut session = open(&server).await?;
    session.push_samples(&babble(1, FRAME * 20)).await?;
    assert!(matches!(session.next().await?, Some(Event::Frame(_))));
    let draining = tokio::spawn(server.shut_down());
    let (_sender, mut receiver) = session.split();
    let error = loop {
        match receiver.next().await {
            Ok(Some(_)) => {}
            Ok(None) => bail!("no reason given"),
            Err(error) => break error,
        }
    };
    assert_eq!(code(&error), Some(Code::Unavailable));
    assert!(draining.await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_goes_on_elsewhere_by_itself() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("resume.key"), "k".repeat(40))?;
    let yaml = "session: {resume_key_file: resume.key, max_buffered_audio_s: 10}";
    let (one, _gate) = fake_server(folder.path(), yaml).await?;
    let (other, _gate) = fake_server(folder.path(), yaml).await?;
    let sentences = [babble(1, FRAME * 90 + 5), babble(2, FRAME * 3)];
    let mut whole = open(&one).await?;
    for sentence in &sentences {
        whole.push_samples(sentence).await?;
        whole.end_segment().await?;
    }
    whole.finish();
    let (_, mut receiver) = whole.split();
    let expected = rest(&mut receiver).await?;

    let link = Link::to(one.address()).await?;
    let client = Client::connect(&link.address()).await?;
    let session = client.session("a").resume_within(PATIENCE).open().await?;
    let (mut sender, mut receiver) = session.split();
    let speaking = tokio::spawn(async move {
        for sentence in &sentences {
            for chunk in sentence.chunks(1_000) {
                sender.push_samples(chunk).await?;
            }
            sender.end_segment().await?;
        }
        sender.finish();
        anyhow::Ok(())
    });
    let mut seen = Vec::new();
    let mut n_resumed = 0;
    while let Some(event) = receiver.next().await? {
        match event {
            Event::Resumed(opened) => {
                n_resumed += 1;
                assert!(opened.resumed.is_some());
            }
            event => seen.push(event),
        }
        match seen.len() {
            20 if n_resumed == 0 => link.cut_to(other.address()),
            70 if n_resumed == 1 => link.cut_to(one.address()),
            _ => {}
        }
    }
    speaking.await??;
    assert!(
        pictures(&seen) == pictures(&expected),
        "nothing is missing, nothing comes twice"
    );
    assert!(n_resumed > 0, "a cut behind the last frame costs nothing");
    Ok(())
}

/// Segment, time, place and picture of each frame.
fn pictures(events: &[Event]) -> Vec<(u64, u64, u64, bytes::Bytes)> {
    let frames = frames(events).into_iter();
    let frames = frames.map(|f| (f.segment_id, f.pts_us, f.frame_index, f.data.clone()));
    frames.collect()
}

#[tokio::test]
async fn a_session_that_cannot_go_on_ends_with_the_reason() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, _gate) = fake_server(folder.path(), "").await?;
    let (other, _gate) = fake_server(folder.path(), "").await?;
    let link = Link::to(one.address()).await?;
    let client = Client::connect(&link.address()).await?;
    let mut session = client.session("a").resume_within(PATIENCE).open().await?;
    session.push_samples(&babble(1, FRAME * 20)).await?;
    session.next().await?;
    link.cut_to(other.address());
    let error = loop {
        match session.next().await {
            Ok(Some(_)) => {}
            Ok(None) => bail!("it ended well"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SessionError::Server(_)), "{error}");
    let closed = session.push_samples(&[0; 10]).await;
    assert_eq!(closed, Err(SessionError::Closed));
    Ok(())
}
