//! What every request passes through: its id, the gate, the deadline, the panic guard, and the repair
//! of the stack's status codes.
//!
//! A request is let in when its message is whole (`upload`, `inflow`): until then it costs bytes of a pool and
//! nobody's place. What a message may be, and how long it may take, `method` says.

mod arrival;
mod elements;
mod inflow;
mod message;
mod method;
mod unwritten;
mod upload;

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use tokio::time::timeout_at;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument as _;

use crate::{
    core_state::Shared,
    error::ServeError,
    gate::Ticket,
    wire::headers::{DEADLINE_MARGIN, check_encoding, parse_grpc_timeout},
    wire::status,
};
pub(crate) use arrival::{Activity, Arrival, Busy};
pub(crate) use elements::Shapes;
use inflow::Inflow;
pub(crate) use message::Fault;
use method::{Kind, Method};
use unwritten::{Held, Unwritten};
pub(crate) use upload::{WINDOW, WINDOW_BYTES};

/// Names a request in the log; echoed.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How the text of every `INTERNAL` of ours travels.
const OUR_INTERNAL: &str = "internal%20error";
/// Longer ids are replaced by one of ours.
const MAX_ID_BYTES: usize = 128;
/// No deadline.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// Adds [`RequestService`].
#[derive(Debug, Clone)]
pub struct RequestLayer {
    shared: Arc<Shared>,
    shapes: Arc<Shapes>,
}

impl RequestLayer {
    /// A layer for the services of one server.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let shapes = Shapes::of_contract();
        Self { shared, shapes }
    }
}

impl<S> Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestService {
            inner,
            layer: self.clone(),
        }
    }
}

/// Echoes `x-request-id` (or gives one), logs under it, turns a handler's panic into `INTERNAL`, and
/// the stack's codes for a broken message into those of the contract.
///
/// Keeps the deadline up to the response's headers, for every method: it covers the time in which
/// the request's message arrives, before any handler runs.
#[derive(Debug, Clone)]
pub struct RequestService<S> {
    inner: S,
    layer: RequestLayer,
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for RequestService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        let id = request_id(request.headers());
        let span = tracing::info_span!(
            "request",
            id = id.to_str().unwrap_or(""),
            path = %lipsync_core::Foreign(request.uri().path())
        );
        let call = Call::new(&self.layer, &request);
        // The clone that is left behind is ready as this one is: routes always are.
        let inner = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, inner);
        let answer = async move {
            let mut response = call.answer(inner, request).await?;
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(response)
        };
        Box::pin(answer.instrument(span))
    }
}

/// A call on its way through the layer.
struct Call {
    shared: Arc<Shared>,
    shapes: Arc<Shapes>,
    method: Method,
    arrival: Arrival,
    deadline: Instant,
}

/// What a call holds while it is answered, and after.
#[derive(Default)]
struct Inside {
    /// Given back when the answer is made.
    _control: Option<Ticket>,
    /// Kept until the answer is written.
    watch: Option<Ticket>,
    answer: Option<Ticket>,
    busy: Option<Busy>,
}

impl Call {
    fn new(layer: &RequestLayer, request: &Request<Body>) -> Self {
        let shared = Arc::clone(&layer.shared);
        let method = Method::of(request.uri().path(), &shared.limits, &shared.session);
        let deadline = deadline(request.headers(), &method);
        Self {
            shared,
            shapes: Arc::clone(&layer.shapes),
            method,
            arrival: Arrival::of(request.extensions()),
            deadline,
        }
    }

    async fn answer<S>(
        mut self,
        mut inner: S,
        request: Request<Body>,
    ) -> Result<Response<Body>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        if !is_grpc(request.headers()) {
            return Ok(unsupported());
        }
        let (request, inside) = match self.let_in(request).await {
            Ok(inside) => inside,
            Err(refusal) => return Ok(Status::from(refusal).into_http()),
        };
        let mut response = self.answered_by(inner.call(request)).await?;
        if let Some(code) = repaired(response.headers()) {
            let headers = response.headers_mut();
            headers.insert(GRPC_STATUS, code_header(code));
        }
        let room = response.extensions().get::<Arc<Ticket>>().cloned();
        if let Some(room) = &room {
            room.set_waiting(Some(tokio::time::Instant::now()));
        }
        let held = Held {
            _answer: inside.answer,
            _watch: inside.watch,
            _busy: inside.busy,
            _room: room,
        };
        Ok(response.map(|body| Body::new(Unwritten::new(body, held))))
    }

    /// Reads the message where there is one, and gives the call what it needs to be answered.
    async fn let_in(
        &mut self,
        request: Request<Body>,
    ) -> Result<(Request<Body>, Inside), ServeError> {
        check_encoding(request.headers())?;
        let admission = &self.shared.admission;
        let peer = self.arrival.peer;
        // A full server says so before it reads.
        match self.method.kind {
            Kind::Unknown => return Ok((request.map(|_unread| Body::empty()), Inside::default())),
            Kind::Work => admission.expect_request(peer)?,
            Kind::Session => admission.expect_session(peer)?,
            Kind::Load => admission.check_phase()?,
            Kind::Control | Kind::Watch | Kind::Reflection => {}
        }
        let upload = admission.admit_upload(peer)?;
        let (mut head, body) = request.into_parts();
        let path = head.uri.path();
        let limit = self.method.message_limit;
        let body = if matches!(self.method.kind, Kind::Session | Kind::Reflection) {
            let rules = inflow::Rules {
                shapes: Arc::clone(&self.shapes),
                path: path.to_owned(),
                limit,
                fault: self.arrival.fault_cell(),
            };
            Body::new(Inflow::new(body, upload, rules))
        } else {
            let upload = Arc::new(upload);
            self.arrival.upload = Some(Arc::clone(&upload));
            let reading = upload::read(body, &upload, &self.shapes, path, limit);
            Body::new(self.in_time(reading).await?)
        };
        let inside = self.inside()?;
        head.extensions.insert(self.arrival.clone());
        Ok((Request::from_parts(head, body), inside))
    }

    fn inside(&self) -> Result<Inside, ServeError> {
        let admission = &self.shared.admission;
        let peer = self.arrival.peer;
        let mut inside = Inside::default();
        match self.method.kind {
            Kind::Control => inside._control = Some(admission.admit_control(peer)?),
            Kind::Watch | Kind::Reflection => inside.watch = Some(admission.admit_watch(peer)?),
            Kind::Work | Kind::Session | Kind::Load | Kind::Unknown => {}
        }
        if self.method.is_work() {
            inside.answer = admission.answer();
        }
        // A session is busy when it is open.
        if self.method.kind != Kind::Session {
            inside.busy = self.arrival.busy();
        }
        Ok(inside)
    }

    /// The message, unless it comes too late. Nobody waits for work to arrive once the server drains.
    async fn in_time<T>(
        &self,
        reading: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, ServeError> {
        let admission = &self.shared.admission;
        let reading = timeout_at(self.deadline.into(), reading);
        let read = if self.method.is_work() {
            admission.unless_draining(reading).await?
        } else {
            reading.await
        };
        match read {
            Ok(Ok(whole)) => Ok(whole),
            Ok(Err(Fault::NoRoom { .. })) => Err(admission.refuse_upload()),
            Ok(Err(fault)) => Err(fault.into()),
            Err(_elapsed) => Err(ServeError::DeadlineExceeded),
        }
    }

    /// The handler's answer, or what became of it.
    async fn answered_by(
        &self,
        answer: impl Future<Output = Result<Response<Body>, Infallible>>,
    ) -> Result<Response<Body>, Infallible> {
        let answer = AssertUnwindSafe(answer).catch_unwind();
        let withdrawn = async {
            match &self.arrival.upload {
                Some(upload) => upload.withdrawn().await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            answer = timeout_at(self.deadline.into(), answer) => answer,
            () = withdrawn => {
                return Ok(Status::from(self.shared.admission.refuse_upload()).into_http());
            }
        };
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => {
                tracing::error!("a request handler panicked");
                Ok(status::panicked().into_http())
            }
            Err(_elapsed) => Ok(Status::from(ServeError::DeadlineExceeded).into_http()),
        }
    }
}

fn deadline(headers: &HeaderMap, method: &Method) -> Instant {
    let client = headers
        .get("grpc-timeout")
        .and_then(|value| parse_grpc_timeout(value.to_str().ok()?));
    let client = client.map_or(FAR, |client| client.saturating_sub(DEADLINE_MARGIN));
    Instant::now() + client.min(method.time_limit)
}

/// Whether a request says that it is gRPC, in whatever message format: `+proto` is the only one that decodes.
fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|value| value.strip_prefix(GRPC));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// As the protocol asks: who is answered with a gRPC status would have to be a gRPC client.
fn unsupported() -> Response<Body> {
    let text = "this port speaks gRPC: expected content-type application/grpc\n";
    let mut response = Response::new(text.to_owned()).map(Body::new);
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_grpc() {
        for (value, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.clone())]);
            assert_eq!(is_grpc(&headers), is, "{value:?}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
