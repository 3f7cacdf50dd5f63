//! The end of the server beside clients that do not read what it says.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lipsync::{
    inference,
    v1::{
        self, audio_chunk::Audio, stream_composite_request::Message as Ask,
        stream_composite_response::Message as Answer,
    },
};
use prost::Message as _;
use tokio::time::timeout;
use tonic::Code;

use super::{Attacker, Begun, fake_server, framed};
use crate::support::{
    PATIENCE, Socket, TestServer,
    raw::status_code,
    speech::{babble, to_bytes},
};

const STREAM: &str = "/lipsync.v1.LipSync/StreamComposite";
const INFER_STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// A drain that waits for anybody fails its test.
const ENDLESS: &str = "server: {shutdown_grace_s: 3600}\nsession: {send_timeout_s: 600}";

fn ask(message: Ask) -> Vec<u8> {
    let request = v1::StreamCompositeRequest {
        message: Some(message),
    };
    framed(&request.encode_to_vec())
}

/// Of frames that take much room on their way.
fn open() -> v1::OpenSession {
    v1::OpenSession {
        model_id: "a".into(),
        sample_rate_hz: 16_000,
        output: Some(v1::OutputOptions {
            format: v1::OutputFormat::Rgb.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn speech(n_frames: usize) -> Ask {
    Ask::Audio(v1::AudioChunk {
        segment_id: 1,
        audio: Some(Audio::Pcm(to_bytes(&babble(1, 640 * n_frames)))),
    })
}

/// A session that is interrupted `n` times.
async fn interrupted(attacker: &mut Attacker, n: usize) -> Result<Begun> {
    let mut call = attacker.begin(STREAM, &[]).await?;
    call.send(&ask(Ask::Open(open())), false).await?;
    let clears = ask(Ask::Clear(v1::Clear::default())).repeat(n);
    call.send(&clears, false).await?;
    Ok(call)
}

/// Waits until sessions were interrupted `n` times, all together.
async fn until_interrupted(server: &TestServer, n: u64) -> Result<()> {
    let came = |s: &v1::GetServerStatsResponse| s.session_stats.is_some_and(|s| s.clears == n);
    server.until("all interruptions came", came).await?;
    Ok(())
}

async fn drains_soon(server: TestServer) -> Result<()> {
    let drained = timeout(PATIENCE, server.shut_down()).await;
    ensure!(drained.context("it waits")?, "nobody was owed anything");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_that_nobody_reads_hold_no_drain() -> Result<()> {
    // Nothing of the answer is taken, or its first byte.
    for window in [0, 1] {
        let folder = tempfile::tempdir()?;
        let server = fake_server(folder.path(), ENDLESS).await?;
        let mut attacker = Attacker::with_window(&server, window).await?;
        let _open = interrupted(&mut attacker, 3).await?;
        // The whole session is over but for its reader.
        let mut attacker = Attacker::with_window(&server, window).await?;
        let mut closed = interrupted(&mut attacker, 3).await?;
        closed.send(&[], true).await?;
        until_interrupted(&server, 6).await?;
        drains_soon(server).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_failed_and_is_not_read_holds_no_drain() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), ENDLESS).await?;
    let mut attacker = Attacker::with_window(&server, 0).await?;
    // More than may wait for their reader.
    let _failed = interrupted(&mut attacker, 1100).await?;
    let opened = |s: &v1::GetServerStatsResponse| s.session_stats.is_some_and(|s| s.opened == 1);
    server.until("it is open", opened).await?;
    server.until("it has failed", |s| s.sessions == 0).await?;
    drains_soon(server).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_stream_that_failed_unread_hold_no_drain() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), ENDLESS).await?;
    let request = inference::ModelInferRequest {
        model_name: "none".into(),
        ..Default::default()
    };
    let mut held = Vec::new();
    for window in [0, 1] {
        let mut attacker = Attacker::with_window(&server, window).await?;
        let mut call = attacker.begin(INFER_STREAM, &[]).await?;
        let several = framed(&request.encode_to_vec()).repeat(20);
        call.send(&several, false).await?;
        let answer = timeout(PATIENCE, call.response).await??;
        assert_eq!(status_code(answer.headers()), None);
        let mut answer = answer.into_body();
        if window > 0 {
            let first = timeout(PATIENCE, answer.data())
                .await?
                .context("a byte")??;
            assert_eq!(first.len(), 1);
        }
        held.push((call.body, answer));
    }
    drains_soon(server).await
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_on_their_way_to_a_slow_reader_are_waited_for() -> Result<()> {
    // All but a part of the last go into the reader's window.
    const N_FRAMES: usize = 6;
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), ENDLESS).await?;
    let mut reader = Attacker::connect(&server).await?;
    let mut call = reader.begin(STREAM, &[]).await?;
    call.send(&ask(Ask::Open(open())), false).await?;
    call.send(&ask(speech(N_FRAMES)), false).await?;
    call.send(&[], true).await?;
    // Nothing is left of them in the session: the rest waits in its connection.
    let left = |s: &v1::GetServerStatsResponse| {
        let stats = s.session_stats.unwrap_or_default();
        stats.frames == N_FRAMES as u64
    };
    server.until("all frames have left", left).await?;
    let mut draining = tokio::spawn(server.shut_down());
    let hasty = timeout(Duration::from_millis(2500), &mut draining).await;
    assert!(hasty.is_err(), "the drain ended before they were read");
    let mut body = timeout(PATIENCE, call.response).await??.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = timeout(PATIENCE, body.data()).await? {
        let data = data?;
        bytes.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    assert_eq!(n_frames(&bytes)?, N_FRAMES);
    assert!(timeout(PATIENCE, draining).await??);
    Ok(())
}

/// Frames among the messages of an answer.
fn n_frames(mut bytes: &[u8]) -> Result<usize> {
    let mut n_frames = 0;
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let [_flag, length @ ..] = *head;
        let n_bytes = u32::from_be_bytes(length) as usize;
        let (message, rest) = rest
            .split_at_checked(n_bytes)
            .context("the whole message")?;
        let response = v1::StreamCompositeResponse::decode(message)?;
        n_frames += usize::from(matches!(response.message, Some(Answer::Frame(_))));
        bytes = rest;
    }
    Ok(n_frames)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_never_reads_its_frames_cannot_outlast_the_grace() -> Result<()> {
    const GRACE: Duration = Duration::from_secs(6);
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "server: {shutdown_grace_s: 6}").await?;
    let mut attacker = Attacker::with_window(&server, 0).await?;
    let mut call = attacker.begin(STREAM, &[]).await?;
    call.send(&ask(Ask::Open(open())), false).await?;
    call.send(&ask(speech(500)), false).await?;
    // More than sockets hold.
    let mut socket = Socket::open(&server, open()).await?;
    socket.ask(speech(1000)).await?;
    let unread = |s: &v1::GetServerStatsResponse| s.sessions == 2;
    server.until("both are open", unread).await?;
    let began = Instant::now();
    let all_done = server.shut_down().await;
    let took = began.elapsed();
    assert!(took < GRACE, "{took:?}");
    assert!(!all_done && took > GRACE / 2, "frames are owed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_over_a_websocket_that_is_read_has_its_end_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), ENDLESS).await?;
    let mut socket = Socket::open(&server, open()).await?;
    socket.opened().await?;
    for _ in 0..3 {
        socket.ask(Ask::Clear(v1::Clear::default())).await?;
    }
    until_interrupted(&server, 3).await?;
    let drained = tokio::spawn(server.shut_down());
    let (answers, code, _reason) = socket.rest().await?;
    let acknowledged = answers.iter().filter(|a| matches!(a, Answer::Cleared(_)));
    assert_eq!(acknowledged.count(), 3);
    assert_eq!(code, 4000 + Code::Unavailable as u16);
    assert!(timeout(PATIENCE, drained).await??);
    Ok(())
}
