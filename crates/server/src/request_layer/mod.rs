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
mod not_grpc;
mod turns;
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
    time::{Instant, SystemTime},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use lipsync_core::TenantId;
use lipsync_serving::{
    ServeError,
    activity::Busy,
    admission::{Admission, Admitted, Work},
    caller::Caller,
    due::Due,
    gate::Ticket,
    peer::Peer,
};
use lipsync_telemetry::OTHER;
use tokio::time::timeout_at;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument as _;

use crate::{
    config::{Hot, Live, ServerLimits},
    core_state::Shared,
    telemetry::{CallEnd, CallKind, EdgeFigures},
    tenants::Shown,
    tls::ClientName,
    wire::{
        headers::{RequestHeaders, check_encoding},
        status::{self, to_status},
    },
};
pub(crate) use arrival::Arrival;
pub(crate) use elements::Shapes;
use inflow::Inflow;
pub(crate) use message::Fault;
use method::{Kind, Limits, Method};
use not_grpc::{is_grpc, not_post, unsupported};
pub(crate) use turns::Turns;
use unwritten::{GRPC_STATUS, Held, Unwritten, told_code};
pub(crate) use upload::{WINDOW, WINDOW_BYTES};

/// Names a request in the log; echoed.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ids are replaced by one of ours.
const MAX_ID_BYTES: usize = 128;

/// The code of an error that its answer tells in the message, as protocols of other servers do. An extension of
/// responses: to those protocols the call was good, to whoever counts calls it was not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InBand(pub(crate) Code);

/// Adds [`RequestService`].
#[derive(Debug, Clone)]
pub struct RequestLayer {
    admission: Arc<Admission>,
    server: Arc<ServerLimits>,
    live: Live<Hot>,
    shapes: Arc<Shapes>,
    figures: Arc<EdgeFigures>,
    /// `None` where one address stands for many clients.
    turns: Option<Arc<Turns>>,
}

impl RequestLayer {
    /// A layer for the services of one server.
    #[must_use]
    pub fn new(shared: &Shared) -> Self {
        Self {
            admission: Arc::clone(&shared.admission),
            server: Arc::new(shared.limits.clone()),
            live: shared.live.clone(),
            shapes: Shapes::of_contract(),
            figures: Arc::clone(&shared.figures),
            turns: shared.limits.tells_peers_apart().then(Arc::default),
        }
    }
}

impl RequestLayer {
    /// The status of a call by nobody who is known, which is counted, but for no tenant.
    fn unknown_caller(&self, path: Option<&str>, id: &HeaderValue, refusal: ServeError) -> Status {
        let nobody = Caller {
            tenant: TenantId::new(OTHER),
            ..Caller::default()
        };
        let mut ending = CallEnd::grpc(CallKind::Other, &self.figures, path, id.clone(), &nobody);
        nobody.tally.fail(&refusal);
        let status = to_status(refusal);
        ending.ends_with(status.code());
        status
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
            path = %lipsync_core::Foreign(request.uri().path()),
            tenant = tracing::field::Empty
        );
        let call = Call::new(&self.layer, &id, &request, &span);
        // The clone that is left behind is ready as this one is: routes always are.
        let inner = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, inner);
        let turns = self.layer.turns.clone();
        let answer = async move {
            let mut response = match call {
                _ if request.method() != http::Method::POST => not_post(),
                _ if !is_grpc(request.headers()) => unsupported(),
                Ok(call) => call.answer(inner, request).await?,
                Err(refusal) => {
                    let peer = peer(&request);
                    // What is not read any more must not lie here meanwhile.
                    drop(request);
                    if let Some(turns) = turns {
                        // It is refused either way.
                        drop(turns.wait(peer, false).await);
                    }
                    refusal.into_http()
                }
            };
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(response)
        };
        Box::pin(answer.instrument(span))
    }
}

/// A call on its way through the layer.
struct Call {
    admission: Arc<Admission>,
    shapes: Arc<Shapes>,
    turns: Option<Arc<Turns>>,
    method: Method,
    arrival: Arrival,
    /// The headers of the answer leave before.
    answer_by: Instant,
    /// Counts the call when it is over.
    ending: CallEnd,
}

/// What a call holds while it is answered, and after.
#[derive(Default)]
struct Inside {
    /// Given back when the answer is made.
    _control: Admitted,
    /// Kept until the answer is written.
    watch: Admitted,
    answer: Option<Ticket>,
    /// Of a call that lasts, in place of that.
    due: Option<Arc<Due>>,
    busy: Option<Busy>,
}

impl Call {
    /// Refuses whoever is not known, before anything else is looked at.
    fn new(
        layer: &RequestLayer,
        id: &HeaderValue,
        request: &Request<Body>,
        span: &tracing::Span,
    ) -> Result<Self, Status> {
        let now = Instant::now();
        let hot = layer.live.get();
        let limits = Limits::of(&layer.server, &hot);
        let path = request.uri().path();
        let method = Method::of(path, limits);
        let known_path = (method.kind != Kind::Unknown).then_some(path);
        let certificate = request.extensions().get().map(ClientName::as_str);
        let shown = Shown::in_headers(request.headers()).or_certificate(certificate);
        let identified = hot
            .tenants
            .identify(shown, method.is_open(), SystemTime::now());
        let tenant = identified.map_err(|refusal| layer.unknown_caller(known_path, id, refusal))?;
        if !hot.tenants.is_empty() {
            span.record("tenant", tenant.id.as_str());
        }
        let extensions = request.extensions();
        let mut headers = RequestHeaders::read(request.headers(), &tenant, peer(request), now);
        let ours = now + method.time_limit;
        let client = headers.caller.deadline;
        let answer_by = client.map_or(ours, |client| client.min(ours));
        // How long a session lasts is for its client and the session to say. In a stream of calls each has its time.
        if !matches!(method.kind, Kind::Session | Kind::Stream) {
            headers.caller.deadline = Some(answer_by);
        }
        let kind = method.kind.in_book();
        let ending = CallEnd::grpc(
            kind,
            &layer.figures,
            known_path,
            id.clone(),
            &headers.caller,
        )
        .traced(request.headers());
        Ok(Self {
            admission: Arc::clone(&layer.admission),
            shapes: Arc::clone(&layer.shapes),
            turns: layer.turns.clone(),
            method,
            ending,
            arrival: Arrival::new(headers, extensions.get().cloned()),
            answer_by,
        })
    }

    async fn answer<S>(
        mut self,
        mut inner: S,
        request: Request<Body>,
    ) -> Result<Response<Body>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let (request, inside) = match self.let_in(request).await {
            Ok(inside) => inside,
            Err(refusal) => {
                let status = self.refused(refusal);
                self.ending.ends_with(status.code());
                return Ok(status.into_http());
            }
        };
        let mut response = self.answered_by(inner.call(request)).await?;
        if let Some(code) = repaired(&response) {
            let headers = response.headers_mut();
            headers.insert(GRPC_STATUS, code_header(code));
        }
        let room = response.extensions().get::<Arc<Ticket>>().cloned();
        if let Some(room) = &room {
            room.set_waiting(Some(tokio::time::Instant::now()));
        }
        if let Some(code) = in_band(&response).or_else(|| told_code(response.headers())) {
            self.ending.ends_with(code);
        }
        self.ending.answered();
        let held = Held {
            _answer: inside.answer,
            _watch: inside.watch.place,
            _busy: inside.busy,
            _room: room,
        };
        let report = response.extensions_mut().remove();
        let unwritten = |body| {
            let body = Unwritten::new(body, held, self.ending);
            body.telling(report).owing(inside.due)
        };
        Ok(response.map(|body| Body::new(unwritten(body))))
    }

    /// Reads the message where there is one, and gives the call what it needs to be answered.
    async fn let_in(
        &mut self,
        request: Request<Body>,
    ) -> Result<(Request<Body>, Inside), ServeError> {
        check_encoding(request.headers())?;
        let Some(work) = self.method.kind.work() else {
            let request = request.map(|_unread| Body::empty());
            self.turn().await?;
            return Ok((request, Inside::default()));
        };
        let caller = &self.arrival.headers.caller;
        // A full server says so before it reads.
        self.admission.expect(caller, work)?;
        let upload = self.admission.admit_upload(caller)?;
        let (mut head, body) = request.into_parts();
        let path = head.uri.path();
        let limit = self.method.message_limit;
        let body = if matches!(
            self.method.kind,
            Kind::Session | Kind::Reflection | Kind::Stream
        ) {
            let rules = inflow::Rules {
                shapes: Arc::clone(&self.shapes),
                path: path.to_owned(),
                limit,
                fault: self.arrival.fault_cell(),
                // A session is the same over a WebSocket: it counts its messages itself.
                talk: (self.method.kind != Kind::Session)
                    .then(|| self.admission.talk(caller, self.turns.is_some())),
            };
            Body::new(Inflow::new(body, upload, rules))
        } else {
            let upload = Arc::new(upload);
            self.arrival.upload = Some(Arc::clone(&upload));
            let reading = upload::read(body, &upload, &self.shapes, path, limit);
            let body = Body::new(self.in_time(reading).await?);
            self.turn().await?;
            body
        };
        let inside = self.inside()?;
        let arrival = self.arrival.clone();
        head.extensions.insert(match &inside.due {
            Some(due) => arrival.owing(due),
            None => arrival,
        });
        Ok((Request::from_parts(head, body), inside))
    }

    /// Waits for the turn of its address at what is answered at once.
    async fn turn(&self) -> Result<(), ServeError> {
        let Some(turns) = self.turns.as_ref().filter(|_| self.method.takes_turns()) else {
            return Ok(());
        };
        let peer = self.arrival.headers.caller.peer;
        let waiting = turns.wait(peer, self.method.is_health());
        let turn = timeout_at(self.answer_by.into(), waiting).await;
        turn.map_err(|_elapsed| ServeError::DeadlineExceeded)?
            .inspect_err(|_| self.admission.count_refusal())
    }

    fn inside(&self) -> Result<Inside, ServeError> {
        let caller = &self.arrival.headers.caller;
        let mut inside = Inside::default();
        match self.method.kind.work() {
            Some(work @ Work::Control) => inside._control = self.admission.admit(caller, work)?,
            Some(work @ Work::Watch) => inside.watch = self.admission.admit(caller, work)?,
            // Those are let in by their handlers, when all that they wait for is there.
            Some(Work::Batch | Work::Session | Work::Load | Work::Speech) | None => {}
        }
        match self.method.kind {
            Kind::Session | Kind::Stream => {
                inside.due = Some(Arc::new(Due::new(self.admission.answer())));
            }
            Kind::Work => inside.answer = self.admission.answer(),
            _ => {}
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
        let reading = timeout_at(self.answer_by.into(), reading);
        let read = if self.method.is_work() {
            self.admission.unless_draining(reading).await?
        } else {
            reading.await
        };
        match read {
            Ok(Ok(whole)) => Ok(whole),
            Ok(Err(Fault::NoRoom { .. })) => Err(self.admission.refuse_upload()),
            Ok(Err(Fault::OverQuota(over))) => Err(self.admission.refuse_over_quota(over)),
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
            answer = timeout_at(self.answer_by.into(), answer) => answer,
            () = withdrawn => {
                return Ok(self.refused(self.admission.refuse_upload()).into_http());
            }
        };
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => {
                tracing::error!("a request handler panicked");
                Ok(status::panicked().into_http())
            }
            Err(_elapsed) => Ok(self.refused(ServeError::DeadlineExceeded).into_http()),
        }
    }

    /// The status of a call that ends with an error here.
    fn refused(&self, error: ServeError) -> Status {
        self.arrival.headers.caller.tally.fail(&error);
        to_status(error)
    }
}

/// Where a request came from.
fn peer(request: &Request<Body>) -> Peer {
    request.extensions().get().copied().unwrap_or_default()
}

/// The code that the contract asks for, where the stack refused a message with another one: `INTERNAL` is its word
/// for a message that cannot be decoded.
fn repaired(response: &Response<Body>) -> Option<Code> {
    let code = response.headers().get(&GRPC_STATUS)?;
    let is_ours = || response.extensions().get().is_some_and(status::is_ours);
    if code == code_header(Code::OutOfRange) {
        Some(Code::ResourceExhausted)
    } else if code == code_header(Code::Internal) && !is_ours() {
        Some(Code::InvalidArgument)
    } else {
        None
    }
}

/// The code of an error that the message tells.
fn in_band(response: &Response<Body>) -> Option<Code> {
    let told = response.extensions().get::<InBand>()?;
    Some(told.0)
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
