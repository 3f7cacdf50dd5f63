//! What every request passes through: its id, the gate, the deadline, the panic guard, and the repair
//! of the stack's status codes.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::timeout_at;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument as _;

use crate::{
    admission::Ticket,
    core_state::Shared,
    error::ServeError,
    metadata::{DEADLINE_MARGIN, check_encoding, parse_grpc_timeout},
    status,
};

/// Names a request in the log; echoed.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How the text of every `INTERNAL` of ours travels.
const OUR_INTERNAL: &str = "internal%20error";
/// Longer ids are replaced by one of ours.
const MAX_ID_BYTES: usize = 128;
/// Methods that `server.request_timeout_ms` is about begin with this.
const LIP_SYNC: &str = "/lipsync.v1.LipSync/";
/// The methods whose requests are admitted here.
const UNARY_WORK: [&str; 2] = [
    "/lipsync.v1.LipSync/InferBatchComposite",
    "/lipsync.v1.LipSync/GetBackground",
];
/// No deadline.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// Adds [`RequestService`].
#[derive(Debug, Clone)]
pub struct RequestLayer {
    shared: Arc<Shared>,
}

impl RequestLayer {
    /// A layer that gives a call of `LipSync` so long to be read and answered.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<S> Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let shared = Arc::clone(&self.shared);
        RequestService { inner, shared }
    }
}

/// Echoes `x-request-id` (or gives one), logs under it, turns a handler's panic into `INTERNAL`, and
/// the stack's codes for an oversize or a broken message into those of the contract.
///
/// Keeps the deadline up to the response's headers, for every method: it covers the time in which
/// the request's message arrives, before any handler runs.
#[derive(Debug, Clone)]
pub struct RequestService<S> {
    inner: S,
    shared: Arc<Shared>,
}

type ResponseFuture<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S, B> Service<Request<B>> for RequestService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let id = request_id(request.headers());
        let deadline = self.deadline(&request);
        let ticket =
            check_encoding(request.headers()).and_then(|()| self.admit(request.uri().path()));
        let is_work = request.uri().path().starts_with(LIP_SYNC);
        let shared = Arc::clone(&self.shared);
        let span = tracing::info_span!(
            "request",
            id = id.to_str().unwrap_or(""),
            path = request.uri().path()
        );
        // Called only when it was let in: a call reads the request's message.
        let answer = ticket.map(|ticket| {
            let _entered = span.enter();
            (ticket, self.inner.call(request))
        });
        let answer = async move {
            let mut response = match answer {
                Ok((_ticket, answer)) => answered_by(deadline, answer).await?,
                Err(refusal) => Status::from(refusal).into_http(),
            };
            if let Some(code) = repaired(response.headers()) {
                response
                    .headers_mut()
                    .insert(GRPC_STATUS, code_header(code));
            }
            response.headers_mut().insert(REQUEST_ID, id);
            if !is_work {
                return Ok(response);
            }
            let held = Held {
                _ticket: shared.admission.answer(),
                _room: response.extensions_mut().remove(),
            };
            Ok(response.map(|body| Body::new(Unwritten::new(body, held))))
        };
        Box::pin(answer.instrument(span))
    }
}

/// The handler's answer, or what became of it.
async fn answered_by<E>(
    deadline: Instant,
    answer: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    let answer = AssertUnwindSafe(answer).catch_unwind();
    match timeout_at(deadline.into(), answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panic)) => {
            tracing::error!("a request handler panicked");
            Ok(status::panicked().into_http())
        }
        Err(_elapsed) => Ok(Status::from(ServeError::DeadlineExceeded).into_http()),
    }
}

/// A body that holds something until its last byte has left the server: a large answer to a slow
/// reader waits in the connection for long after the handler has returned it.
struct Unwritten {
    inner: Body,
    held: Arc<Held>,
}

/// What an answer holds until it is written.
struct Held {
    _ticket: Option<Ticket>,
    /// Its bytes, where the handler has reserved some.
    _room: Option<Arc<Ticket>>,
}

/// Bytes of a body, and what that holds.
struct Piece {
    bytes: Bytes,
    _held: Arc<Held>,
}

impl Unwritten {
    fn new(inner: Body, held: Held) -> Self {
        let held = Arc::new(held);
        Self { inner, held }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for Unwritten {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let held = &self.held;
        let hold = |bytes| {
            let _held = Arc::clone(held);
            Bytes::from_owner(Piece { bytes, _held })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<S> RequestService<S> {
    /// Lets a unary batch in before its message is read: what uploads hold in memory is bounded by
    /// the same gate as what they become. Sessions take a place of their own.
    fn admit(&self, path: &str) -> Result<Option<Ticket>, ServeError> {
        if UNARY_WORK.contains(&path) {
            return self.shared.admission.admit_request().map(Some);
        }
        Ok(None)
    }

    fn deadline<B>(&self, request: &Request<B>) -> Instant {
        let client = request
            .headers()
            .get("grpc-timeout")
            .and_then(|value| parse_grpc_timeout(value.to_str().ok()?));
        let server = if request.uri().path().starts_with(LIP_SYNC) {
            self.shared.limits.request_timeout
        } else {
            // A load takes as long as it takes.
            FAR
        };
        let client = client.map_or(FAR, |client| client.saturating_sub(DEADLINE_MARGIN));
        Instant::now() + client.min(server)
    }
}

/// The code that the contract asks for, where the stack refused a message with another one.
///
/// `INTERNAL` is the stack's word for a message that cannot be decoded. Our own says nothing but
/// "internal error", so that it can be told apart.
fn repaired(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(&GRPC_STATUS)?;
    let text = headers.get(&GRPC_MESSAGE);
    if code == code_header(Code::OutOfRange) {
        Some(Code::ResourceExhausted)
    } else if code == code_header(Code::Internal) && text.is_some_and(|text| text != OUR_INTERNAL) {
        Some(Code::InvalidArgument)
    } else {
        None
    }
}

fn code_header(code: Code) -> HeaderValue {
    HeaderValue::from(i32::from(code))
}

/// The client's id for its request, or one of ours.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    headers
        .get(&REQUEST_ID)
        .filter(|id| id.len() <= MAX_ID_BYTES && id.to_str().is_ok())
        .cloned()
        .unwrap_or_else(|| HeaderValue::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}
