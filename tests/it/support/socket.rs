//! A session over the WebSocket of the operations port.

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use lipsync::v1::{
    self, audio_chunk::Audio, stream_composite_request::Message as Ask,
    stream_composite_response::Message as Answer,
};
use prost::Message as _;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::{PATIENCE, TestServer, speech::to_bytes};

/// A session over the WebSocket.
pub struct Socket(pub WebSocketStream<TcpStream>);

impl Socket {
    /// A WebSocket on which nothing was said.
    pub async fn connect(server: &TestServer) -> Result<Self> {
        let host = server.operations()?;
        let tcp = TcpStream::connect(&host).await?;
        let request = format!("ws://{host}/session").into_client_request()?;
        Ok(Self(client_async(request, tcp).await?.0))
    }

    /// The same, with subprotocols.
    pub async fn connect_as(server: &TestServer, protocols: &str) -> Result<Self> {
        let host = server.operations()?;
        let tcp = TcpStream::connect(&host).await?;
        let mut request = format!("ws://{host}/session").into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", protocols.parse()?);
        Ok(Self(client_async(request, tcp).await?.0))
    }

    /// The same, and its first message.
    pub async fn open(server: &TestServer, open: v1::OpenSession) -> Result<Self> {
        let mut socket = Self::connect(server).await?;
        socket.ask(Ask::Open(open)).await?;
        Ok(socket)
    }

    pub async fn ask(&mut self, message: Ask) -> Result<()> {
        let request = v1::StreamCompositeRequest {
            message: Some(message),
        };
        self.send(Message::Binary(request.encode_to_vec().into()))
            .await
    }

    pub async fn audio(&mut self, segment_id: u64, samples: &[i16]) -> Result<()> {
        let audio = Some(Audio::Pcm(to_bytes(samples)));
        self.ask(Ask::Audio(v1::AudioChunk { segment_id, audio }))
            .await
    }

    pub async fn half_close(&mut self) -> Result<()> {
        self.send(Message::Binary(Vec::new().into())).await
    }

    pub async fn send(&mut self, message: Message) -> Result<()> {
        Ok(timeout(PATIENCE, self.0.send(message)).await??)
    }

    /// Everything up to the close; its code and reason.
    pub async fn rest(&mut self) -> Result<(Vec<Answer>, u16, String)> {
        let mut answers = Vec::new();
        loop {
            let message = timeout(PATIENCE, self.0.next()).await?;
            match message.context("the end came without a close")?? {
                Message::Binary(data) => {
                    let response = v1::StreamCompositeResponse::decode(data)?;
                    answers.push(response.message.context("an empty response")?);
                }
                Message::Close(frame) => {
                    let frame = frame.context("a close without a reason")?;
                    return Ok((answers, frame.code.into(), frame.reason.to_string()));
                }
                other => bail!("unexpected: {other:?}"),
            }
        }
    }

    /// The first answer.
    pub async fn opened(&mut self) -> Result<()> {
        match timeout(PATIENCE, self.0.next())
            .await?
            .context("the end")??
        {
            Message::Binary(data) => {
                let response = v1::StreamCompositeResponse::decode(data)?;
                ensure!(matches!(response.message, Some(Answer::Opened(_))));
                Ok(())
            }
            other => bail!("unexpected: {other:?}"),
        }
    }
}
