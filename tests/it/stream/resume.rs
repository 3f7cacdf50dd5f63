//! Sessions that go on where another one was cut, on the same server or on another.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use lipsync::v1::{self, stream_composite_response::Message as Answer};

use super::{
    Session, frames, pcm_session,
    silence::{gated_session, speech},
};
use crate::support::{FakeLoader, TestServer, avatar};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A server that shares a key file with others in the folder.
async fn replica(folder: &Path, session: &str) -> Result<TestServer> {
    // Files that change under a server make it refuse the model.
    for model in ["a", "b"].map(|model| folder.join(model)) {
        if !model.exists() {
            avatar::write_fake(&model, 4)?;
        }
    }
    std::fs::write(folder.join("resume.key"), KEY)?;
    let yaml = format!(
        "models: {{a: {{path: a, preload: true}}, b: {{path: b}}}}\nsession: {{{session}}}\n"
    );
    TestServer::start(&yaml, folder, std::sync::Arc::new(FakeLoader::default())).await
}

const SHARED: &str = "resume_key_file: resume.key, max_buffered_audio_s: 30";

/// Two sentences, the second of which is short.
struct Talk {
    rate_hz: u32,
    sentences: [Vec<i16>; 2],
}

impl Talk {
    fn new(rate_hz: u32) -> Self {
        let first = speech(rate_hz, [0.5, 3.7, 1.1, 2.9]);
        let second = speech(rate_hz, [0.0, 0.5, 0.3, 0.0]);
        Self {
            rate_hz,
            sentences: [first, second],
        }
    }

    fn open(&self, idle_frames: bool, token: &Bytes) -> v1::OpenSession {
        v1::OpenSession {
            idle_frames,
            audio_echo: true,
            resumable: true,
            resume_token: token.clone(),
            ..gated_session("a", self.rate_hz)
        }
    }

    /// Says everything from an item of a segment on.
    fn say(&self, session: &mut Session, resumed: v1::Resumed) -> Result<()> {
        for (id, sentence) in (1..).zip(&self.sentences) {
            let first = match id == resumed.segment_id {
                true => usize::try_from(resumed.first_item)?,
                false => 0,
            };
            if id >= resumed.segment_id {
                for chunk in sentence[first..].chunks(5_000) {
                    session.audio(id, chunk);
                }
                session.end(id);
            }
        }
        session.half_close();
        Ok(())
    }
}

fn opened(answer: Option<Answer>) -> Result<v1::Opened> {
    match answer {
        Some(Answer::Opened(opened)) => Ok(opened),
        other => bail!("{other:?}"),
    }
}

/// Without its token, which differs from second to second.
fn shown(answers: &[Answer]) -> Vec<v1::CompositedFrame> {
    let frames = frames(answers).into_iter().cloned();
    let bare = frames.map(|frame| v1::CompositedFrame {
        resume_token: Bytes::new(),
        ..frame
    });
    bare.collect()
}

fn ends(answers: &[Answer]) -> Vec<(u64, u64)> {
    let ends = answers.iter().filter_map(|answer| match answer {
        Answer::SegmentEnd(end) => Some((end.segment_id, end.n_frames)),
        _ => None,
    });
    ends.collect()
}

/// The session up to its `n`th frame; then its client is gone. Gives the token of the last frame, too.
async fn begun(
    server: &TestServer,
    talk: &Talk,
    idle: bool,
    n: usize,
) -> Result<(Vec<Answer>, Bytes)> {
    let mut session = Session::open(server, talk.open(idle, &Bytes::new())).await?;
    let first = opened(session.next().await?)?;
    ensure!(first.resumed.is_none(), "it begins");
    talk.say(&mut session, v1::Resumed::default())?;
    let mut answers = Vec::new();
    let mut token = first.resume_token;
    while frames(&answers).len() < n {
        let answer = session.next().await?.context("more frames")?;
        if let Answer::Frame(frame) = &answer {
            token = frame.resume_token.clone();
        }
        answers.push(answer);
    }
    ensure!((100..=140).contains(&token.len()), "{}", token.len());
    Ok((answers, token))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_goes_on_with_the_frames_of_an_unbroken_session() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, other) = (
        replica(folder.path(), SHARED).await?,
        replica(folder.path(), SHARED).await?,
    );
    for (rate_hz, idle) in [
        (16_000, false),
        (16_000, true),
        (44_100, true),
        (11_025, false),
    ] {
        let talk = Talk::new(rate_hz);
        let mut whole = Session::open(&one, talk.open(idle, &Bytes::new())).await?;
        talk.say(&mut whole, v1::Resumed::default())?;
        let whole = whole.rest().await?;
        let frames_of_whole = shown(&whole);
        // At once, in speech with all and with a part of the context, and in the second sentence.
        for n in [0, 1, 13, 31, 137, 163, 205, 207, 212] {
            let (mut seen, token) = begun(&one, &talk, idle, n).await?;
            let mut session = Session::open(&other, talk.open(idle, &token)).await?;
            let opened = opened(session.next().await?)?;
            let resumed = opened.resumed.context("it resumes")?;
            let next = &frames_of_whole[n];
            let place = (resumed.next_pts_us, resumed.next_frame_index);
            assert_eq!(place, (next.pts_us, next.frame_index));
            talk.say(&mut session, resumed)?;
            seen.extend(session.rest().await?);
            let label = format!("{rate_hz} Hz, idle {idle}, after {n} frames");
            assert_eq!(ends(&seen), ends(&whole), "{label}");
            assert!(shown(&seen) == frames_of_whole, "{label}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_client_is_told_how_much_it_has_to_keep() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = replica(folder.path(), SHARED).await?;
    for (form, rate_hz, idle, expected_ms) in [
        (v1::AudioInput::Pcm, 16_000, true, 4960),
        (v1::AudioInput::Pcm, 16_000, false, 560),
        (v1::AudioInput::Pcm, 44_099, false, 1360),
        (v1::AudioInput::Steps, 0, true, 360),
        (v1::AudioInput::Windows, 0, true, 0),
    ] {
        let mut open = pcm_session("a");
        open.set_audio_input(form);
        (open.sample_rate_hz, open.idle_frames) = (rate_hz, idle);
        let mut session = Session::open(&server, open).await?;
        let opened = opened(session.next().await?)?;
        assert_eq!(opened.resume_context_ms, expected_ms, "{form:?}");
        assert!(opened.resume_token.is_empty(), "it was not asked for");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_not_good_begins_a_session_and_says_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let shared = replica(folder.path(), SHARED).await?;
    let alone = replica(folder.path(), "").await?;
    let off = replica(
        folder.path(),
        "resume_window_s: 0, resume_key_file: resume.key",
    )
    .await?;
    let talk = Talk::new(16_000);
    let (_, token) = begun(&shared, &talk, true, 5).await?;
    let mut forged = token.to_vec();
    forged[60] ^= 1;
    let of = |model: &str, idle| v1::OpenSession {
        model_id: model.into(),
        ..talk.open(idle, &token)
    };
    for (server, open, reason) in [
        (&shared, of("b", true), "for another model"),
        (
            &shared,
            of("a", false),
            "another audio format, or another value of idle_frames",
        ),
        (
            &shared,
            talk.open(true, &forged.into()),
            "not made by this server",
        ),
        (
            &shared,
            talk.open(true, &Bytes::from_static(b"token")),
            "not made by this server",
        ),
        (&alone, of("a", true), "not made by this server"),
        (&off, of("a", true), "resuming is off"),
    ] {
        let open = v1::OpenSession {
            start_frame_index: 2,
            ..open
        };
        let mut session = Session::open(server, open).await?;
        let opened = opened(session.next().await?)?;
        assert!(opened.resumed.is_none(), "{reason}");
        talk.say(&mut session, v1::Resumed::default())?;
        let answers = session.rest().await?;
        let warning = answers.iter().find_map(|answer| match answer {
            Answer::Warning(warning) => Some((warning.code.as_str(), warning.text.as_str())),
            _ => None,
        });
        let (code, text) = warning.context("a warning")?;
        assert_eq!(code, "resume_refused");
        assert!(text.contains(reason), "{text}");
        assert_eq!(frames(&answers)[0].frame_index, 2, "{reason}");
    }
    Ok(())
}
