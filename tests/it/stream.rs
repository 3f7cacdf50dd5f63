//! `StreamComposite`: order, ends, interruption, limits.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use lipsync::v1::{
    self, audio_chunk::Audio, stream_composite_request::Message as Ask,
    stream_composite_response::Message as Answer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::support::{
    FakeLoader, Gate, TestServer, avatar,
    speech::{babble, pcm_request, to_bytes},
};

/// One session, driven by hand.
struct Session {
    asks: Option<mpsc::UnboundedSender<v1::StreamCompositeRequest>>,
    answers: Streaming<v1::StreamCompositeResponse>,
}

impl Session {
    async fn open(server: &TestServer, open: v1::OpenSession) -> Result<Self> {
        let (asks, requests) = mpsc::unbounded_channel();
        let answers = server
            .client()
            .await?
            .lip_sync()
            .stream_composite(UnboundedReceiverStream::new(requests))
            .await?
            .into_inner();
        let mut session = Self {
            asks: Some(asks),
            answers,
        };
        session.ask(Ask::Open(open));
        Ok(session)
    }

    fn ask(&mut self, message: Ask) {
        let request = v1::StreamCompositeRequest {
            message: Some(message),
        };
        // A send fails only after the server hung up, which the test sees in the answers.
        let _hung_up = self.asks.as_ref().map(|asks| asks.send(request));
    }

    fn audio(&mut self, segment_id: u64, samples: &[i16]) {
        let audio = Some(Audio::Pcm(to_bytes(samples)));
        self.ask(Ask::Audio(v1::AudioChunk { segment_id, audio }));
    }

    fn end(&mut self, segment_id: u64) {
        self.ask(Ask::EndSegment(v1::EndSegment { segment_id }));
    }

    fn clear(&mut self, segment_id: Option<u64>) {
        self.ask(Ask::Clear(v1::Clear { segment_id }));
    }

    fn half_close(&mut self) {
        self.asks = None;
    }

    async fn next(&mut self) -> Result<Option<Answer>, Status> {
        Ok(self
            .answers
            .message()
            .await?
            .map(|a| a.message.expect("every answer has a message")))
    }

    /// Everything until the stream ends well.
    async fn rest(&mut self) -> Result<Vec<Answer>> {
        let mut all = Vec::new();
        while let Some(answer) = self.next().await? {
            all.push(answer);
        }
        Ok(all)
    }

    async fn failure(&mut self) -> Result<Status> {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => bail!("the stream ended well"),
                Err(status) => return Ok(status),
            }
        }
    }
}

fn pcm_session(model: &str) -> v1::OpenSession {
    v1::OpenSession {
        model_id: model.into(),
        sample_rate_hz: 16_000,
        ..Default::default()
    }
}

fn frames(answers: &[Answer]) -> Vec<&v1::CompositedFrame> {
    let mut frames = Vec::new();
    for answer in answers {
        if let Answer::Frame(frame) = answer {
            frames.push(frame);
        }
    }
    frames
}

async fn fake_server(folder: &Path, yaml: &str) -> Result<(TestServer, Arc<Gate>)> {
    avatar::write_fake(&folder.join("a"), 4)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = format!("models: {{a: {{path: a, preload: true}}}}\n{yaml}");
    Ok((
        TestServer::start(&yaml, folder, Arc::new(loader)).await?,
        gate,
    ))
}

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

#[tokio::test]
async fn bad_sessions_end_with_a_status() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let good = || pcm_session("a");
    let cases: [(Code, v1::OpenSession); 7] = [
        (Code::NotFound, pcm_session("nobody")),
        (Code::InvalidArgument, pcm_session("../a")),
        (
            Code::InvalidArgument,
            v1::OpenSession {
                sample_rate_hz: 7,
                ..good()
            },
        ),
        (
            Code::InvalidArgument,
            v1::OpenSession {
                channels: 5,
                ..good()
            },
        ),
        (
            Code::Unimplemented,
            v1::OpenSession {
                pacing: v1::Pacing::Realtime.into(),
                ..good()
            },
        ),
        (
            Code::Unimplemented,
            v1::OpenSession {
                idle_frames: true,
                ..good()
            },
        ),
        (
            Code::Unimplemented,
            v1::OpenSession {
                audio_echo: true,
                ..good()
            },
        ),
    ];
    for (code, open) in cases {
        let mut session = Session::open(&server, open).await?;
        assert_eq!(session.failure().await?.code(), code);
    }
    Ok(())
}

#[tokio::test]
async fn bad_messages_end_a_session_with_a_status() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let limits = "session: {max_buffered_audio_s: 1}";
    let (server, gate) = fake_server(folder.path(), limits).await?;
    let good = || pcm_session("a");
    let mut session = Session::open(&server, good()).await?;
    session.ask(Ask::Open(good()));
    assert_eq!(session.failure().await?.code(), Code::InvalidArgument);
    let mut session = Session::open(&server, good()).await?;
    session.ask(Ask::Audio(v1::AudioChunk {
        segment_id: 1,
        audio: Some(Audio::Pcm(vec![0; 3].into())),
    }));
    assert_eq!(session.failure().await?.code(), Code::InvalidArgument);
    let mut session = Session::open(&server, good()).await?;
    session.audio(2, &[0; 100]);
    session.audio(1, &[0; 100]);
    assert_eq!(session.failure().await?.code(), Code::InvalidArgument);
    gate.close();
    let mut session = Session::open(&server, good()).await?;
    for _ in 0..40 {
        session.audio(1, &[100; 8000]);
    }
    assert_eq!(session.failure().await?.code(), Code::ResourceExhausted);
    gate.open();
    Ok(())
}

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
    let mut n_frames = 1;
    let status = loop {
        match session.next().await {
            Ok(Some(Answer::Frame(_))) => n_frames += 1,
            Ok(Some(_)) => {}
            Ok(None) => bail!("no reason given"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), n_frames), (Code::Unavailable, 20));
    assert!(draining.await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_keeps_no_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {idle_timeout_s: 1}").await?;
    let mut open = pcm_session("a");
    open.output = Some(v1::OutputOptions {
        format: v1::OutputFormat::Rgb.into(),
        ..Default::default()
    });
    let mut session = Session::open(&server, open).await?;
    // 9 MB of frames, more than the connection buffers.
    session.audio(1, &babble(1, 640 * 500));
    server
        .until("no session is left", |s| s.sessions == 0)
        .await?;
    assert_eq!(session.failure().await?.code(), Code::DeadlineExceeded);
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

#[tokio::test]
async fn half_a_window_is_refused_however_it_is_cut() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut open = pcm_session("a");
    open.audio_input = v1::AudioInput::Windows.into();
    let mut session = Session::open(&server, open).await?;
    for _ in 0..2 {
        let audio = Some(Audio::Windows(vec![0; 32 * 16 * 16 * 2].into()));
        let segment_id = 1;
        session.ask(Ask::Audio(v1::AudioChunk { segment_id, audio }));
    }
    let status = session.failure().await?;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("audio.windows"), "{status}");
    Ok(())
}
