//! Sessions over a WebSocket.

use anyhow::{Context as _, Result};
use lipsync::v1::{
    self, audio_chunk::Audio, stream_composite_request::Message as Ask,
    stream_composite_response::Message as Answer,
};
use prost::Message as _;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::{fake_server, pcm_session};
use crate::support::{
    Socket, TestServer,
    speech::{babble, to_bytes},
};

#[tokio::test]
async fn a_session_gives_the_frames_of_grpc_byte_for_byte() -> Result<()> {
    let server = TestServer::mira().await?;
    let samples = babble(5, 640 * 20 + 77);
    let asks = |open| {
        let audio = |chunk: &[i16]| {
            let audio = Some(Audio::Pcm(to_bytes(chunk)));
            Ask::Audio(v1::AudioChunk {
                segment_id: 1,
                audio,
            })
        };
        let chunks = samples.chunks(1000).map(audio);
        std::iter::once(Ask::Open(open))
            .chain(chunks)
            .collect::<Vec<_>>()
    };
    let requests = asks(pcm_session("mira"));
    let requests = requests
        .into_iter()
        .map(|m| v1::StreamCompositeRequest { message: Some(m) });
    let mut stream = server
        .client()
        .await?
        .lip_sync()
        .stream_composite(tokio_stream::iter(requests.collect::<Vec<_>>()))
        .await?
        .into_inner();
    let mut by_grpc = Vec::new();
    while let Some(response) = stream.message().await? {
        by_grpc.extend(response.message);
    }
    let mut socket = Socket::connect(&server).await?;
    for ask in asks(pcm_session("mira")) {
        socket.ask(ask).await?;
    }
    socket.half_close().await?;
    let (by_socket, code, reason) = socket.rest().await?;
    assert_eq!((code, reason.as_str()), (1000, ""));
    assert!(
        by_grpc
            .iter()
            .filter(|a| matches!(a, Answer::Frame(_)))
            .count()
            >= 20
    );
    assert!(by_socket == by_grpc, "the same answers, frames bit for bit");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_told_by_the_close() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "server: {max_message_size_mb: 1}").await?;
    let encoded = |message| v1::StreamCompositeRequest { message }.encode_to_vec();
    let binary = |data: Vec<u8>| vec![Message::Binary(data.into())];
    let open = |model| encoded(Some(Ask::Open(pcm_session(model))));
    let clear = || encoded(Some(Ask::Clear(v1::Clear { segment_id: None })));
    let after_the_end = [open("a"), Vec::new(), clear()];
    for (messages, code, words) in [
        (
            vec![Message::text("hello")],
            4003,
            "INVALID_ARGUMENT: message: expected binary",
        ),
        (
            binary(vec![0xff; 9]),
            4003,
            "INVALID_ARGUMENT: message: the message cannot be decoded",
        ),
        (
            binary(clear()),
            4003,
            "INVALID_ARGUMENT: message: the first message must be open",
        ),
        (binary(open("nobody")), 4005, "NOT_FOUND: "),
        (
            binary(vec![0; (1 << 20) + 1]),
            4008,
            "RESOURCE_EXHAUSTED: a message is larger than",
        ),
        (
            binary(Vec::new()),
            4003,
            "INVALID_ARGUMENT: message: the first message must be open",
        ),
        (
            after_the_end.map(|m| Message::Binary(m.into())).into(),
            4003,
            "INVALID_ARGUMENT: message: nothing may follow",
        ),
    ] {
        let mut socket = Socket::connect(&server).await?;
        for message in messages {
            // The server may have closed already.
            let _closed = socket.send(message).await;
        }
        let (_, seen, reason) = socket.rest().await?;
        assert_eq!((seen, reason.starts_with(words)), (code, true), "{reason}");
    }
    server
        .until("no session is left", |s| s.sessions == 0)
        .await?;
    Ok(())
}

#[tokio::test]
async fn sessions_of_both_kinds_take_the_same_places() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {max_sessions: 1}").await?;
    let mut first = Socket::open(&server, pcm_session("a")).await?;
    first.opened().await?;
    let (_, code, reason) = Socket::connect(&server).await?.rest().await?;
    assert_eq!(code, 4008);
    assert!(
        reason.starts_with("RESOURCE_EXHAUSTED: too many sessions (limit 1)"),
        "{reason}"
    );
    let refused = server
        .client()
        .await?
        .lip_sync()
        .stream_composite(tokio_stream::pending::<v1::StreamCompositeRequest>())
        .await;
    assert_eq!(
        refused.err().context("no room")?.code(),
        tonic::Code::ResourceExhausted
    );
    // A polite end, and a client that is just gone.
    first.0.close(None).await?;
    server.until("it has left", |s| s.sessions == 0).await?;
    let mut second = Socket::open(&server, pcm_session("a")).await?;
    second.opened().await?;
    drop(second);
    server.until("it is gone", |s| s.sessions == 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_drain_closes_idle_sessions() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut socket = Socket::open(&server, pcm_session("a")).await?;
    socket.opened().await?;
    let draining = tokio::spawn(server.shut_down());
    let (_, code, _) = socket.rest().await?;
    assert_eq!(CloseCode::from(code), CloseCode::from(4014));
    assert!(draining.await?);
    Ok(())
}
