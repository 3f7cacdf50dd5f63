//! Peers that mean harm, or are broken: what they do costs nobody else anything.
//!
//! `tools/attack` does the same to a running server and measures a normal client beside it; here each of the rules
//! that it relies on is pinned.

mod browsers;
mod calls;
mod drains;
mod frames;
mod places;

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture, client::SendRequest};
use tonic::{Code, codegen::http::Request};

use crate::support::{TestServer, avatar, raw::status_code};

/// A connection on which calls are begun and not finished.
struct Attacker {
    sender: SendRequest<Bytes>,
    address: String,
}

/// A call of which the headers were sent.
struct Begun {
    response: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Attacker {
    async fn connect(server: &TestServer) -> Result<Self> {
        Self::with_window(server, 65_535).await
    }

    /// One that takes so many bytes of each answer, and more as it reads.
    async fn with_window(server: &TestServer, n_bytes: u32) -> Result<Self> {
        let address = server.address();
        let socket = tokio::net::TcpStream::connect(&address).await?;
        let mut protocol = h2::client::Builder::new();
        protocol.initial_connection_window_size(1 << 20);
        protocol.initial_window_size(n_bytes);
        let (sender, connection) = protocol.handshake(socket).await?;
        tokio::spawn(connection);
        Ok(Self { sender, address })
    }

    /// Sends headers.
    async fn begin(&mut self, path: &str, headers: &[(&'static str, &str)]) -> Result<Begun> {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender = self.sender.clone().ready().await?;
        let (response, body) = self.sender.send_request(request.body(())?, false)?;
        Ok(Begun { response, body })
    }
}

impl Begun {
    /// Sends bytes, as far as the window lets them through at all; `false` where the stream has ended before.
    async fn send(&mut self, data: &[u8], is_all: bool) -> Result<bool> {
        for part in data.chunks(16_384) {
            self.body.reserve_capacity(part.len());
            while self.body.capacity() < part.len() {
                match std::future::poll_fn(|context| self.body.poll_capacity(context)).await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Ok(false),
                }
            }
            if self
                .body
                .send_data(Bytes::copy_from_slice(part), false)
                .is_err()
            {
                return Ok(false);
            }
        }
        if is_all {
            return Ok(self.body.send_data(Bytes::new(), true).is_ok());
        }
        Ok(true)
    }

    /// The status, from the headers or the trailers, and its text.
    async fn status(self) -> Result<(Code, String)> {
        let response = self.response.await?;
        let text = |headers: &tonic::codegen::http::HeaderMap| {
            let text = headers
                .get("grpc-message")
                .map(|text| text.as_bytes().to_vec());
            String::from_utf8(text.unwrap_or_default()).unwrap_or_default()
        };
        if let Some(code) = status_code(response.headers()) {
            return Ok((code, text(response.headers())));
        }
        let mut body: RecvStream = response.into_body();
        while let Some(data) = body.data().await {
            let n_bytes = data?.len();
            body.flow_control().release_capacity(n_bytes)?;
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        Ok((status_code(&trailers).unwrap_or(Code::Ok), text(&trailers)))
    }

    /// Ends it.
    fn reset(mut self) {
        self.body.send_reset(Reason::CANCEL);
    }
}

/// The five bytes before a message of so many.
fn prefix(n_bytes: usize) -> Vec<u8> {
    let length = u32::try_from(n_bytes).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..]].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [prefix(message.len()), message.to_vec()].concat()
}

async fn fake_server(folder: &Path, yaml: &str) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), 3)?;
    let yaml = format!("models: {{a: {{path: a, preload: true}}}}\n{yaml}");
    let loader = crate::support::FakeLoader::default();
    TestServer::start(&yaml, folder, std::sync::Arc::new(loader)).await
}
