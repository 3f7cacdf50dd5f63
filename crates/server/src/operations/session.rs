//! `/session`: a `StreamComposite` over a WebSocket, for browsers.
//!
//! Each binary message is one `StreamCompositeRequest` (up) or `StreamCompositeResponse` (down). A
//! WebSocket cannot be closed in one direction only: an empty message up stands for the half-close.
//! A session that ends well is closed with 1000; one that fails with 4000 + its gRPC status code and
//! `NAME: message` as the reason. It is the same session as over gRPC: the same code behind the same
//! gate, under the same limits, in the same drain.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use axum::{
    Extension,
    body::Bytes,
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::{HeaderMap, header};
use lipsync::{call_error::code_name, v1};
use prost::Message as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite;
use tonic::{Status, metadata::MetadataMap};
use tracing::Instrument as _;

use super::{Context, closed, connections::Place, origin};
use crate::{error::ServeError, metadata::RequestHeaders, request_layer, stream};

/// For the client to answer a close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Close codes from here on mean 4000 + a gRPC status code.
const STATUS_CODES: u16 = 4000;
/// A control message of the protocol has at most 125 bytes, two of them are the code.
const MAX_REASON_BYTES: usize = 123;

/// How a session ended for the transport.
enum End {
    /// All is said.
    Done,
    /// It failed.
    Failed(Status),
    /// There is nobody to be told.
    Gone,
}

impl From<ServeError> for End {
    fn from(error: ServeError) -> Self {
        Self::Failed(error.into())
    }
}

/// Opens a session. What is wrong with it is told by the close, since pages cannot see the status of
/// a refused upgrade; only foreign pages get none.
pub(super) async fn open(
    State(context): State<Context>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Err(reason) = origin::check(&headers) {
        return (StatusCode::FORBIDDEN, reason).into_response();
    }
    let limit = context.shared.limits.max_message_bytes;
    let id = request_layer::request_id(&headers);
    let span = tracing::info_span!("session", id = id.to_str().unwrap_or(""));
    let serving = async move |socket| {
        serve(context, headers, socket).await;
        drop(place);
    };
    let mut response = upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(|socket| serving(socket).instrument(span));
    response.headers_mut().insert(request_layer::REQUEST_ID, id);
    response
}

async fn serve(context: Context, headers: HeaderMap, socket: WebSocket) {
    // The drain waits until the close is written.
    let _answer = context.shared.admission.answer();
    let (mut sink, mut source) = socket.split();
    let mut closing = context.closing.clone();
    let end = tokio::select! {
        end = converse(&context, headers, &mut sink, &mut source) => end,
        () = closed(&mut closing) => ServeError::Draining.into(),
    };
    let frame = match end {
        End::Done => Some(CloseFrame {
            code: close_code::NORMAL,
            reason: "".into(),
        }),
        End::Failed(status) => Some(close_frame(&status)),
        End::Gone => None,
    };
    let closing = async {
        let sent = match frame {
            Some(frame) => sink.send(Message::Close(Some(frame))).await,
            // Writes the answer to the client's own close, if that came.
            None => sink.flush().await,
        };
        if sent.is_ok() {
            // A socket closed with something unread in it would take the close frame with it.
            while let Some(Ok(_unread)) = source.next().await {}
        }
    };
    // A client that does not answer is dropped.
    let _ = timeout(CLOSE_LIMIT, closing).await;
}

async fn converse(
    context: &Context,
    mut headers: HeaderMap,
    sink: &mut (impl Sink<Message> + Unpin),
    source: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
) -> End {
    let shared = &context.shared;
    // A proxy's own; this port has no keys.
    headers.remove(header::AUTHORIZATION);
    let headers = RequestHeaders::parse(&MetadataMap::from_headers(headers), Instant::now());
    let headers = match headers {
        Ok(headers) => headers,
        Err(error) => return error.into(),
    };
    let ticket = match shared.admission.admit_session() {
        Ok(ticket) => ticket,
        Err(refusal) => return refusal.into(),
    };
    // The session takes every message at once; one place is enough.
    let (requests, incoming) = mpsc::channel(1);
    let incoming = ReceiverStream::new(incoming);
    let responses = stream::begin(context.shared.clone(), headers, ticket, incoming);
    tokio::select! {
        end = read(source, requests, shared.limits.max_message_bytes) => end,
        end = write(sink, responses, shared.session.send_timeout) => end,
    }
}

/// Gives what the client sends to the session; returns when it has left or is at fault.
async fn read(
    source: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
    requests: mpsc::Sender<Result<v1::StreamCompositeRequest, Status>>,
    limit: usize,
) -> End {
    let mut requests = Some(requests);
    while let Some(message) = source.next().await {
        let data = match message {
            Ok(Message::Binary(data)) => data,
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) => return End::Gone,
            Ok(Message::Text(_)) => {
                return ServeError::invalid("message", "expected binary messages").into();
            }
            Err(error) => return fault(error, limit),
        };
        let Some(open) = &requests else {
            let text = "nothing may follow the empty message that ended the input";
            return ServeError::invalid("message", text).into();
        };
        if data.is_empty() {
            requests = None;
            continue;
        }
        match v1::StreamCompositeRequest::decode(data) {
            // The session has ended; its last words are on their way.
            Ok(request) => drop(open.send(Ok(request)).await),
            Err(_) => return ServeError::undecodable().into(),
        }
    }
    End::Gone
}

/// Sends what the session says until it ends; a client that takes no message within `limit` is dropped.
async fn write(
    sink: &mut (impl Sink<Message> + Unpin),
    responses: impl Stream<Item = Result<v1::StreamCompositeResponse, Status>>,
    limit: Duration,
) -> End {
    let mut responses = pin!(responses);
    while let Some(response) = responses.next().await {
        let message = match response {
            Ok(response) => Message::Binary(Bytes::from(response.encode_to_vec())),
            Err(status) => return End::Failed(status),
        };
        match timeout(limit, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_broken)) => return End::Gone,
            Err(_elapsed) => {
                tracing::info!("a client does not read; its session is dropped");
                return End::Gone;
            }
        }
    }
    End::Done
}

/// What a failed read means.
fn fault(error: axum::Error, limit: usize) -> End {
    use tungstenite::Error;
    match error.into_inner().downcast_ref() {
        Some(Error::Capacity(_)) => ServeError::MessageTooLarge { limit }.into(),
        Some(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
            End::Gone
        }
        Some(Error::Protocol(_) | Error::Utf8(_)) => {
            ServeError::invalid("message", "not a message of the WebSocket protocol").into()
        }
        _ => End::Gone,
    }
}

fn close_frame(status: &Status) -> CloseFrame {
    let code = u16::try_from(i32::from(status.code())).unwrap_or_default();
    let mut reason = format!("{}: {}", code_name(status.code()), status.message());
    while reason.len() > MAX_REASON_BYTES {
        reason.pop();
    }
    CloseFrame {
        code: STATUS_CODES + code,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_the_frame_whatever_the_text() {
        for text in ["", "short", &"é".repeat(200), &"x".repeat(200)] {
            let frame = close_frame(&Status::not_found(text));
            assert_eq!(frame.code, 4005);
            assert!(frame.reason.len() <= MAX_REASON_BYTES);
            assert!(frame.reason.starts_with("NOT_FOUND: "));
        }
    }
}
