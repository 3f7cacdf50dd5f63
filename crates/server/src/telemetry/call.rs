//! The end of every call and session: counted once, whatever ends it, and told in one line of the log.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use lipsync::call_error::code_name;
use lipsync_core::{ModelId, TenantId, saturate::micros};
use lipsync_serving::{
    caller::Caller,
    telemetry::{Outcome, Tally},
};
use lipsync_telemetry::Rise;
use tonic::Code;

use super::{edge::EdgeFigures, grpc::MethodFigures};
use crate::{
    config::CallLines,
    traces::{Ending, Trace},
};

/// The target of the lines about finished calls and sessions.
pub(crate) const CALLS: &str = "lipsync_server::calls";

/// What a call is to the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// A unary call that makes frames.
    Request,
    /// A live session over gRPC.
    Session,
    /// A live session over a WebSocket.
    WebSession,
    /// Anything else: only its method and code count.
    Other,
}

/// Counts a call once, when its code is known. One that is dropped before was cancelled.
///
/// Told from where the answer is read, so whoever has an answer finds it counted.
#[derive(Debug)]
pub(crate) struct CallEnd {
    kind: CallKind,
    figures: Arc<EdgeFigures>,
    /// `None` where it did not come as a gRPC call.
    method: Option<Arc<MethodFigures>>,
    /// Its service and method; no service where it is a WebSocket.
    service: Box<str>,
    name: Box<str>,
    request_id: HeaderValue,
    tenant: TenantId,
    tally: Arc<Tally>,
    began: Instant,
    has_ended: bool,
    inflight: Option<Rise>,
    trace: Option<Arc<Trace>>,
    /// When its answer was ready.
    answered: Option<Instant>,
}

impl CallEnd {
    /// Of a gRPC call that has just come; `path` is that of a method that the contract knows.
    pub(crate) fn grpc(
        kind: CallKind,
        figures: &Arc<EdgeFigures>,
        path: Option<&str>,
        request_id: HeaderValue,
        caller: &Caller,
    ) -> Self {
        let method = figures.grpc.of(path);
        method.begin();
        let name = path.and_then(|path| path.trim_start_matches('/').rsplit_once('/'));
        let (service, name) = name.unwrap_or_default();
        let mut ending = Self::new(kind, figures, request_id, caller);
        (ending.service, ending.name) = (service.into(), name.into());
        ending.method = Some(method);
        ending
    }

    /// Of a session that has just come over a WebSocket.
    pub(crate) fn web_session(
        figures: &Arc<EdgeFigures>,
        request_id: HeaderValue,
        caller: &Caller,
    ) -> Self {
        Self::new(CallKind::WebSession, figures, request_id, caller)
    }

    /// Of a request that has just come in a stream of them, which counts as a call of its own.
    pub(crate) fn in_stream(
        figures: &Arc<EdgeFigures>,
        request_id: HeaderValue,
        caller: &Caller,
    ) -> Self {
        let mut ending = Self::new(CallKind::Request, figures, request_id, caller);
        ending.name = "ModelStreamInfer".into();
        ending
    }

    fn new(
        kind: CallKind,
        figures: &Arc<EdgeFigures>,
        request_id: HeaderValue,
        caller: &Caller,
    ) -> Self {
        let is_work = kind != CallKind::Other;
        Self {
            kind,
            figures: Arc::clone(figures),
            method: None,
            service: Box::default(),
            name: "WebSocket".into(),
            request_id,
            tenant: caller.tenant.clone(),
            tally: Arc::clone(&caller.tally),
            began: Instant::now(),
            has_ended: false,
            inflight: is_work.then(|| figures.book.begin(&caller.tenant)),
            trace: None,
            answered: None,
        }
    }

    /// Traces it from now on, if calls are traced and it is one of those. `headers` may say which trace it belongs to.
    pub(crate) fn traced(mut self, headers: &HeaderMap) -> Self {
        if self.kind == CallKind::Other {
            return self;
        }
        let name = match &*self.service {
            "" => self.name.to_string(),
            service => format!("{service}/{}", self.name),
        };
        let tracer = self.figures.tracer.as_ref();
        self.trace = tracer.and_then(|tracer| tracer.begin(&name, headers));
        if let Some(trace) = &self.trace {
            self.tally.watch(Arc::clone(trace) as _);
        }
        self
    }

    /// Its answer is ready, and has to be written.
    pub(crate) fn answered(&mut self) {
        // A session is answered as long as it lasts.
        if self.kind == CallKind::Request {
            self.answered = Some(Instant::now());
        }
    }

    /// It ends with this code, and is counted so. The first one counts.
    pub(crate) fn ends_with(&mut self, code: Code) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.inflight = None;
            self.count(code);
        }
    }

    fn count(&self, code: Code) {
        let time = self.began.elapsed();
        if let Some(method) = &self.method {
            method.end(code, time);
        }
        let outcome = self.outcome(code);
        let (book, tenant, tally) = (&self.figures.book, &self.tenant, &self.tally);
        match self.kind {
            CallKind::Request => book.end_request(tenant, tally, outcome, time),
            CallKind::Session | CallKind::WebSession => {
                book.end_session(tenant, tally, outcome, time);
            }
            CallKind::Other => return book.refuse(tally),
        }
        if let Some(trace) = &self.trace {
            self.end_trace(trace, code, outcome);
        }
        if self.has_line(outcome) {
            self.log(code, outcome, time);
        }
    }

    fn end_trace(&self, trace: &Trace, code: Code, outcome: Outcome) {
        let tally = &self.tally;
        let session = tally.session().unwrap_or_default();
        let has_session = self.kind != CallKind::Request;
        let code_number = u64::try_from(i32::from(code)).unwrap_or_default();
        let numbers = [
            ("rpc.grpc.status_code", code_number),
            ("lipsync.frames", tally.frames()),
            ("lipsync.late_frames", session.late_frames),
            ("lipsync.skipped_frames", session.skipped_frames),
        ];
        let system = if self.service.is_empty() { "" } else { "grpc" };
        trace.end(&Ending {
            words: &[
                ("rpc.system", system),
                ("rpc.service", &self.service),
                ("rpc.method", &self.name),
                ("lipsync.outcome", outcome.name()),
                ("lipsync.tenant", self.tenant.as_str()),
                ("lipsync.model", tally.model().map_or("", ModelId::as_str)),
                (
                    "lipsync.request_id",
                    self.request_id.to_str().unwrap_or_default(),
                ),
            ],
            numbers: if has_session { &numbers } else { &numbers[..2] },
            fault: (outcome == Outcome::Failed).then(|| code_name(code)),
            answered: self.answered,
        });
    }

    /// How it ended: as the error says that ended it, or else as its code does.
    fn outcome(&self, code: Code) -> Outcome {
        match code {
            Code::Ok => Outcome::Ok,
            _ => self.tally.failure().unwrap_or_else(|| of_code(code)),
        }
    }

    /// Refused calls can be many and are all alike: they are counted ([`super::RefusalLog`]).
    fn has_line(&self, outcome: Outcome) -> bool {
        match self.figures.lines() {
            _ if outcome == Outcome::Refused => false,
            CallLines::All => true,
            CallLines::Errors => outcome != Outcome::Ok,
            CallLines::None => false,
        }
    }

    fn log(&self, code: Code, outcome: Outcome, time: Duration) {
        let tally = &self.tally;
        let session = tally.session();
        tracing::info!(
            target: CALLS,
            // The span of the request would repeat half of it.
            parent: None,
            request_id = self.request_id.to_str().unwrap_or_default(),
            method = &*self.name,
            tenant = self.tenant.as_str(),
            model = tally.model().map(ModelId::as_str),
            code = code_name(code),
            outcome = outcome.name(),
            frames = tally.frames(),
            late_frames = session.map(|s| s.late_frames),
            skipped_frames = session.map(|s| s.skipped_frames),
            queue_ms = milliseconds(tally.queue_us()),
            total_ms = milliseconds(micros(time)),
            "finished"
        );
    }
}

/// In the log, a thousandth of a millisecond is the least.
fn milliseconds(us: u64) -> f64 {
    us as f64 / 1e3
}

impl Drop for CallEnd {
    fn drop(&mut self) {
        self.ends_with(Code::Cancelled);
    }
}

/// What a code means where no error of ours is behind it.
fn of_code(code: Code) -> Outcome {
    match code {
        Code::Ok => Outcome::Ok,
        Code::Cancelled => Outcome::Cancelled,
        Code::DeadlineExceeded => Outcome::TimedOut,
        Code::ResourceExhausted | Code::Unavailable => Outcome::Refused,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Outcome::Invalid,
        Code::Unknown
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss => Outcome::Failed,
    }
}
