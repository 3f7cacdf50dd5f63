//! Calls on a bare HTTP/2 connection, whose windows and timers are the test's own.

use anyhow::Result;
use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use prost::Message;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};

use super::TestServer;

/// A connection.
pub struct RawClient {
    sender: SendRequest<Bytes>,
    address: String,
}

impl RawClient {
    /// A connection that speaks as `protocol` says.
    pub async fn connect(server: &TestServer, protocol: &h2::client::Builder) -> Result<Self> {
        let address = server.address();
        let socket = tokio::net::TcpStream::connect(&address).await?;
        let (sender, connection) = protocol.handshake(socket).await?;
        tokio::spawn(connection);
        Ok(Self { sender, address })
    }

    /// Calls a method of `LipSync`; gives its response when the headers have come.
    pub async fn call(
        &mut self,
        method: &str,
        message: &impl Message,
        headers: &[(&'static str, &str)],
    ) -> Result<Response<RecvStream>> {
        let path = format!("http://{}/lipsync.v1.LipSync/{method}", self.address);
        let mut request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value)?;
            request.headers_mut().insert(*name, value);
        }
        let (response, mut body) = self.sender.send_request(request, false)?;
        let message = message.encode_to_vec();
        // What is said to be compressed is marked so.
        let is_compressed = headers
            .iter()
            .any(|(name, value)| *name == "grpc-encoding" && *value != "identity");
        let mut framed = vec![u8::from(is_compressed)];
        framed.extend(u32::try_from(message.len())?.to_be_bytes());
        framed.extend(message);
        body.send_data(framed.into(), true)?;
        Ok(response.await?)
    }
}

/// The status that a call ended with instead of an answer.
pub fn status_code(headers: &HeaderMap) -> Option<tonic::Code> {
    let status = headers.get("grpc-status")?;
    Some(tonic::Code::from_bytes(status.as_bytes()))
}
