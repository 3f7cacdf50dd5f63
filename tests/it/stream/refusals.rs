//! What a session is refused for.

use anyhow::Result;
use lipsync::v1::{
    self, audio_chunk::Audio, stream_composite_request::Message as Ask,
    stream_composite_response::Message as Answer,
};
use tonic::Code;

use super::{Session, fake_server, pcm_session};

#[tokio::test]
async fn bad_sessions_end_with_a_status() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let good = || pcm_session("a");
    let cases: [(Code, v1::OpenSession); 6] = [
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
            Code::InvalidArgument,
            v1::OpenSession {
                pacing: 77,
                ..good()
            },
        ),
        (
            Code::InvalidArgument,
            v1::OpenSession {
                audio_input: v1::AudioInput::Steps.into(),
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
        audio: Some(Audio::Steps(vec![0; 2048].into())),
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

#[tokio::test]
async fn segments_without_audio_are_no_fault() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut session = Session::open(&server, pcm_session("a")).await?;
    // Never begun; begun with nothing; and one that speaks.
    session.end(1);
    session.audio(2, &[]);
    session.end(2);
    session.audio(3, &[0; 640]);
    session.end(3);
    session.half_close();
    let ends = session.rest().await?;
    let ends = ends.iter().filter_map(|answer| match answer {
        Answer::SegmentEnd(end) => Some((end.segment_id, end.n_frames)),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [(1, 0), (2, 0), (3, 1)]);
    Ok(())
}
