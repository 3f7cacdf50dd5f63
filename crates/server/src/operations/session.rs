//! `/session`: a `StreamComposite` over a WebSocket, for browsers.
//!
//! Each binary message is one `StreamCompositeRequest` (up) or `StreamCompositeResponse` (down). A
//! WebSocket cannot be closed in one direction only: an empty message up stands for the half-close.
//! A session that ends well is closed with 1000; one that fails with 4000 + its gRPC status code and
//! `NAME: message` as the reason. Where there are tenants, the key comes in a subprotocol (see [`Shown`]) or, from
//! clients that are no browsers, in `authorization`, or the connection has a certificate; it is never part of the address. It is the same session as over gRPC: the same code behind the same
//! gate, under the same limits, in the same drain.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
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
use http::{HeaderMap, HeaderValue, header};
use lipsync::{call_error::code_name, v1};
use lipsync_core::saturate::u32_of;
use lipsync_serving::{
    ServeError,
    admission::Work,
    due::Due,
    starts::{StartRate, Starts},
};
use prost::Message as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite;
use tonic::{Code, Status};
use tracing::Instrument as _;

use super::{
    context::Context,
    inflow::{Inflow, TooSoon},
    origin,
};
use crate::{
    core_state::Shared,
    request_layer::{self, Arrival, Fault, Shapes, WINDOW, WINDOW_BYTES},
    telemetry::CallEnd,
    tenants::{SUBPROTOCOL, Shown, wants_subprotocol},
    tls::ClientName,
    transport::{Seat, closed},
    wire::{self, headers::RequestHeaders, status::to_status},
};

/// The method that a session is.
const STREAM_COMPOSITE: &str = "/lipsync.v1.LipSync/StreamComposite";
/// For the client to answer a close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// The most that answers to pings may take while they are not read.
const PONGS_BYTES: usize = 256 << 10;
/// Sessions that one address may begin at once, where fewer than this may be open. A tenth may begin in each second.
const MIN_BURST: u32 = 100;
/// Close codes from here on mean 4000 + a gRPC status code.
const STATUS_CODES: u16 = 4000;
/// A control message of the protocol has at most 125 bytes, two of them are the code.
const MAX_REASON_BYTES: usize = 123;

/// Who is at the other end.
struct Client {
    headers: HeaderMap,
    id: HeaderValue,
    seat: Seat,
    inflow: Inflow,
}

/// How a session ended for the transport.
enum End {
    /// Everything has been sent.
    Done,
    /// It failed.
    Failed(Status),
    /// The client is gone.
    Gone,
}

impl End {
    /// The status of the session, as gRPC would tell it.
    fn code(&self) -> Code {
        match self {
            Self::Done => Code::Ok,
            Self::Failed(status) => status.code(),
            Self::Gone => Code::Cancelled,
        }
    }
}

impl From<ServeError> for End {
    fn from(error: ServeError) -> Self {
        Self::Failed(to_status(error))
    }
}

/// Opens a session. Errors are told by the close, because pages cannot see the status of
/// a refused upgrade; only foreign pages get none.
pub(super) async fn open(
    State(context): State<Context>,
    Extension(seat): Extension<Seat>,
    Extension(inflow): Extension<Inflow>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Some(refusal) = foreign(&context, &headers) {
        return refusal;
    }
    let starts = context.web_sessions.as_ref();
    // One that is begun and ended at once costs much more than it costs to be told so.
    let has_turn = |starts: &Starts| {
        let wait = starts.wait(&seat.peer, start_rate(&context), Duration::ZERO);
        wait.is_some()
    };
    if starts.is_some_and(|starts| !has_turn(starts)) {
        return too_many();
    }
    let limit = message_limit(&context.shared);
    if inflow.upgrade(limit) == Err(TooSoon) {
        let text = "nothing may follow the request before it is answered\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    // One message is written at a time; besides it there are answers to pings.
    let largest_answer = context.shared.limits.max_message_bytes + PONGS_BYTES;
    let id = request_layer::request_id(&headers);
    let span = tracing::info_span!(
        "session",
        id = id.to_str().unwrap_or(""),
        tenant = tracing::field::Empty
    );
    // A browser takes no connection that does not name one of its subprotocols.
    let protocol = wants_subprotocol(&headers).then_some(SUBPROTOCOL);
    let client = Client {
        headers,
        id: id.clone(),
        seat,
        inflow,
    };
    let serving = async move |socket| serve(context, client, socket).await;
    let mut response = upgrade
        .protocols(protocol)
        .max_message_size(limit)
        .max_frame_size(limit)
        .max_write_buffer_size(largest_answer)
        .on_upgrade(|socket| serving(socket).instrument(span));
    response.headers_mut().insert(request_layer::REQUEST_ID, id);
    response
}

/// Answers a plain request in place of a WebSocket. A page whose WebSocket was refused asks so, since browsers do not tell
/// it why, and learns whether it was the server that refused it.
pub(super) async fn explain(
    State(context): State<Context>,
    Extension(seat): Extension<Seat>,
    headers: HeaderMap,
) -> Response {
    let rate = start_rate(&context);
    let starts = context.web_sessions.as_ref();
    if starts.is_some_and(|starts| !starts.has_turn(&seat.peer, rate)) {
        return too_many();
    }
    foreign(&context, &headers).unwrap_or_else(|| {
        let upgrade = [(header::UPGRADE, "websocket")];
        (
            StatusCode::UPGRADE_REQUIRED,
            upgrade,
            "sessions are WebSockets\n",
        )
            .into_response()
    })
}

/// The answer to a page that may not open sessions.
fn foreign(context: &Context, headers: &HeaderMap) -> Option<Response> {
    let refusal = origin::check(headers, &context.allowed_origins).err()?;
    Some((StatusCode::FORBIDDEN, refusal).into_response())
}

/// Sessions that an address may begin.
fn start_rate(context: &Context) -> StartRate {
    let max_sessions = context.shared.hot().session.max_sessions;
    let burst = u32_of(max_sessions).max(MIN_BURST);
    StartRate {
        burst,
        per_second: burst / 10,
    }
}

/// The answer to an address that begins more.
fn too_many() -> Response {
    let later = [(header::RETRY_AFTER, "1")];
    let text = "too many sessions were begun from this address\n";
    (StatusCode::TOO_MANY_REQUESTS, later, text).into_response()
}

async fn serve(context: Context, client: Client, socket: WebSocket) {
    // The drain waits until the close is written, unless its client reads nothing.
    let due = Arc::new(Due::new(context.shared.admission.answer()));
    let (mut sink, mut source) = socket.split();
    let mut closing = context.closing.clone();
    let end = tokio::select! {
        end = converse((&context, &client), &due, &mut sink, &mut source) => end,
        // It has not begun, and others need its place.
        () = client.seat.place.withdrawn() => End::Gone,
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
            let mut control = Control::begin();
            while let Some(Ok(unread)) = source.next().await {
                let is_control = matches!(unread, Message::Ping(_) | Message::Pong(_));
                if is_control && control.count().is_err() {
                    break;
                }
            }
        }
    };
    // A client that does not answer is dropped.
    let _ = timeout(CLOSE_LIMIT, closing).await;
}

async fn converse(
    (context, client): (&Context, &Client),
    due: &Arc<Due>,
    sink: &mut (impl Sink<Message> + Unpin),
    source: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
) -> End {
    let shared = &context.shared;
    let certificate = client.seat.client.as_ref().map(ClientName::as_str);
    let shown = Shown::in_upgrade(&client.headers).or_certificate(certificate);
    let tenants = shared.hot().tenants.clone();
    let tenant = match tenants.identify(shown, false, SystemTime::now()) {
        Ok(tenant) => tenant,
        Err(refusal) => return refusal.into(),
    };
    if !tenants.is_empty() {
        tracing::Span::current().record("tenant", tenant.id.as_str());
    }
    let mut headers = client.headers.clone();
    // A proxy's own, or the key, which has been looked at.
    headers.remove(header::AUTHORIZATION);
    let headers = RequestHeaders::read(&headers, &tenant, client.seat.peer, Instant::now());
    let arrival = Arrival::new(headers, Some(client.seat.activity.clone())).owing(due);
    let expected = arrival
        .headers
        .checked()
        .and_then(|headers| shared.admission.expect(&headers.caller, Work::Session));
    let caller = &arrival.headers.caller;
    client.inflow.belongs_to(caller);
    let mut ending =
        CallEnd::web_session(&shared.figures, client.id.clone(), caller).traced(&client.headers);
    if let Err(refusal) = expected {
        caller.tally.fail(&refusal);
        let end = End::from(refusal);
        ending.ends_with(end.code());
        return end;
    }
    // The session takes every message at once; one place is enough.
    let (requests, incoming) = mpsc::channel(1);
    let incoming = ReceiverStream::new(incoming);
    let responses = wire::session::serve(shared, arrival, incoming);
    let send_timeout = shared.hot().session.send_timeout;
    let reading = Reading {
        requests: Some(requests),
        limit: message_limit(shared),
        shapes: &context.shapes,
        control: Control::begin(),
    };
    let end = tokio::select! {
        end = reading.read(source, &client.inflow) => end,
        end = write(sink, responses, due, send_timeout) => end,
    };
    ending.ends_with(end.code());
    end
}

/// The largest message that a client may send.
fn message_limit(shared: &Shared) -> usize {
    let session = shared.hot().session.max_message_bytes;
    session.min(shared.limits.max_message_bytes)
}

/// What the client sends.
struct Reading<'a> {
    /// `None` when it has said all.
    requests: Option<mpsc::Sender<Result<v1::StreamCompositeRequest, Status>>>,
    limit: usize,
    shapes: &'a Shapes,
    control: Control,
}

impl Reading<'_> {
    /// Gives it to the session; returns when the client has left or is at fault.
    async fn read(
        mut self,
        source: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
        inflow: &Inflow,
    ) -> End {
        loop {
            let message = match whole(source, inflow).await {
                Ok(Some(message)) => message,
                Ok(None) => return End::Gone,
                Err(slow) => return slow.into(),
            };
            inflow.whole();
            if let Err(end) = self.take(message).await {
                return end;
            }
        }
    }

    async fn take(&mut self, message: Result<Message, axum::Error>) -> Result<(), End> {
        let data = match message {
            Ok(Message::Binary(data)) => data,
            Ok(Message::Ping(_) | Message::Pong(_)) => return self.control.count(),
            Ok(Message::Close(_)) => return Err(End::Gone),
            Ok(Message::Text(_)) => {
                return Err(ServeError::invalid("message", "expected binary messages").into());
            }
            Err(error) => return Err(fault(error, self.limit)),
        };
        let Some(open) = &self.requests else {
            let text = "nothing may follow the empty message that ended the input";
            return Err(ServeError::invalid("message", text).into());
        };
        if data.is_empty() {
            self.requests = None;
            return Ok(());
        }
        if self.shapes.check(STREAM_COMPOSITE, &*data).is_err() {
            return Err(ServeError::from(Fault::TooManyElements).into());
        }
        match v1::StreamCompositeRequest::decode(data) {
            // The session has ended; its last words are on their way.
            Ok(request) => drop(open.send(Ok(request)).await),
            Err(_) => return Err(ServeError::undecodable().into()),
        }
        Ok(())
    }
}

/// The next message, unless it is begun and does not come.
async fn whole(
    source: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
    inflow: &Inflow,
) -> Result<Option<Result<Message, axum::Error>>, ServeError> {
    let mut n_before = 0_usize;
    loop {
        match timeout(WINDOW, source.next()).await {
            Ok(message) => return Ok(message),
            Err(_elapsed) => {
                let n_bytes = inflow.n_bytes();
                // What begins in a window has all of the next one.
                if n_before > 0 && n_bytes < n_before.saturating_add(WINDOW_BYTES) {
                    return Err(ServeError::UploadTooSlow);
                }
                n_before = n_bytes;
            }
        }
    }
}

/// PINGs and PONGs of a client. Each PING is answered, and what is not read waits in a buffer.
struct Control {
    n: u32,
    since: Instant,
}

impl Control {
    /// In this time ...
    const WINDOW: Duration = Duration::from_secs(10);
    /// ... this many are enough for every honest client.
    const MAX: u32 = 100;

    fn begin() -> Self {
        Self {
            n: 0,
            since: Instant::now(),
        }
    }

    fn count(&mut self) -> Result<(), End> {
        if self.since.elapsed() > Self::WINDOW {
            *self = Self::begin();
        }
        self.n += 1;
        if self.n > Self::MAX {
            tracing::debug!("a client sends pings without end; its session is dropped");
            return Err(End::Gone);
        }
        Ok(())
    }
}

/// Sends what the session says until it ends; a client that takes no message within `limit` is dropped.
async fn write(
    sink: &mut (impl Sink<Message> + Unpin),
    responses: impl Stream<Item = Result<v1::StreamCompositeResponse, Status>>,
    due: &Due,
    limit: Duration,
) -> End {
    let mut responses = pin!(responses);
    let mut n_carried = 0;
    while let Some(response) = responses.next().await {
        let message = match response {
            Ok(response) => Message::Binary(Bytes::from(response.encode_to_vec())),
            Err(status) => return End::Failed(status),
        };
        let _until_sent = due.carried(&mut n_carried);
        match timeout(limit, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_broken)) => return End::Gone,
            Err(_elapsed) => {
                tracing::info!("a client stopped reading; its session is dropped");
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
