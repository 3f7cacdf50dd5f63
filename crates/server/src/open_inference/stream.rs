//! One request after the other, in one call.
//!
//! Requests are answered in their order, the next one is read when the last response has been taken. So a stream
//! holds one message and one answer, however fast its client sends. A request that fails does not end the stream,
//! unless the client wants it to (`triton_grpc_error`). Those that fail have a rate: they cost a client nothing.

mod failures;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures_util::stream::unfold;
use http::HeaderValue;
use lipsync::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use lipsync_core::Foreign;
use lipsync_serving::{
    ServeError,
    admission::Upload,
    ahead::{Ahead, MAX_AHEAD_FRAMES},
    caller::Caller,
    clip::window_floats,
    due::Due,
    gate::Ticket,
    models::Used,
    order::{BatchOrder, Clip},
};
use prost::Message as _;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status};

use failures::Failures;

use super::{
    order::{Call, model_name, told_id},
    outputs::Envelope,
    version::Version,
};
use crate::{
    core_state::Shared,
    request_layer::Arrival,
    telemetry::CallEnd,
    wire::{
        answer::checked_bytes,
        status::{incoming_fault, to_status},
    },
};

/// Frames of one response of a decoupled model, so that the first is there soon.
const PIECE_FRAMES: usize = 8;

/// A longer id of a request is not logged.
const MAX_LOGGED_ID_BYTES: usize = 128;

type Answer = Result<ModelStreamInferResponse, Status>;

/// The responses to a stream of requests.
pub(super) fn serve<R>(
    shared: Arc<Shared>,
    arrival: Arrival,
    requests: R,
    wants_status: bool,
) -> impl Stream<Item = Answer> + Send + use<R>
where
    R: Stream<Item = Result<ModelInferRequest, Status>> + Send + Unpin + 'static,
{
    let mut arrival = arrival;
    let due = arrival.take_due();
    let owes = Arc::<AtomicBool>::default();
    let seen = Arc::downgrade(&owes);
    // What was answered may be on its way when the stream is over.
    let owes_frames = move || {
        seen.upgrade()
            .is_some_and(|owes| owes.load(Ordering::Relaxed))
    };
    due.let_go(shared.phase.clone(), owes_frames, || {});
    let calls = Calls {
        due,
        owes,
        shared,
        arrival,
        requests,
        wants_status,
        running: None,
        room: None,
        failures: Failures::default(),
        is_over: false,
    };
    unfold(calls, |mut calls| async move {
        let answer = calls.next().await?;
        Some((answer, calls))
    })
}

/// See the module.
struct Calls<R> {
    shared: Arc<Shared>,
    arrival: Arrival,
    requests: R,
    wants_status: bool,
    running: Option<Running>,
    /// Of the last response, until the client takes the next one.
    room: Option<Ticket>,
    failures: Failures,
    is_over: bool,
    /// What the drain waits for: a request that was read is answered.
    due: Arc<Due>,
    owes: Arc<AtomicBool>,
}

/// A request counts as a call of its own, and a stream of them as none: it may last for a day.
struct Counted {
    /// With what the request comes to.
    caller: Caller,
    ending: CallEnd,
}

impl Counted {
    fn new(shared: &Shared, arrival: &Arrival, id: &str) -> Self {
        let caller = Caller {
            tally: Arc::default(),
            ..arrival.headers.caller.clone()
        };
        let short = Some(id).filter(|id| id.len() <= MAX_LOGGED_ID_BYTES);
        let id = short.and_then(|id| HeaderValue::from_str(id).ok());
        let id = id.unwrap_or(HeaderValue::from_static(""));
        let ending = CallEnd::in_stream(&shared.figures, id, &caller);
        Self { caller, ending }
    }
}

/// A request that is being answered.
struct Running {
    call: Call,
    used: Used,
    counted: Counted,
    n_done: usize,
    ahead: Ahead,
    stage: Stage,
    message: Upload,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Frames are still to be made.
    Frames,
    /// All frames are sent; a response without frames is to say so.
    Goodbye,
    /// It is answered.
    Over,
}

impl<R> Calls<R>
where
    R: Stream<Item = Result<ModelInferRequest, Status>> + Send + Unpin,
{
    async fn next(&mut self) -> Option<Answer> {
        let answer = self.answer().await;
        self.owes.store(self.running.is_some(), Ordering::Relaxed);
        answer
    }

    async fn answer(&mut self) -> Option<Answer> {
        self.room = None;
        if self.is_over {
            return None;
        }
        if self.running.is_none() {
            sleep(self.failures.pause()).await;
            let request = match self.request().await {
                Ok(request) => request?,
                Err(error) => return Some(self.end(error)),
            };
            self.owes.store(true, Ordering::Relaxed);
            let model_name = Foreign(&request.model_name).to_string();
            let names = (model_name, told_id(&request.id));
            let counted = Counted::new(&self.shared, &self.arrival, &names.1);
            match self.read(request, &counted.caller).await {
                Ok((found, n_bytes)) => {
                    let running = Running::new(found, counted);
                    if !running.holds(n_bytes) {
                        let error = self.shared.admission.refuse_upload();
                        return Some(self.failed(names, error, running.counted));
                    }
                    self.running = Some(running);
                }
                Err(error) => return Some(self.failed(names, error, counted)),
            }
        }
        let mut running = self.running.take()?;
        match self.piece(&mut running).await {
            Ok(response) => {
                if running.stage == Stage::Over {
                    running.counted.ending.ends_with(Code::Ok);
                } else {
                    self.running = Some(running);
                }
                Some(Ok(ModelStreamInferResponse {
                    infer_response: Some(response),
                    ..ModelStreamInferResponse::default()
                }))
            }
            Err(error) => {
                let names = (running.used.lease.model.id().to_string(), running.call.id);
                Some(self.failed(names, error, running.counted))
            }
        }
    }

    /// The next request; `None` where the client sends no more.
    async fn request(&mut self) -> Result<Option<ModelInferRequest>, ServeError> {
        let shared = &self.shared;
        let limit = shared.hot().session.idle_timeout;
        let next = timeout(limit, self.requests.next());
        let next = shared.admission.unless_draining(next).await?;
        match next {
            Ok(Some(Ok(request))) => Ok(Some(request)),
            Ok(None) => Ok(None),
            Ok(Some(Err(status))) => match self.arrival.fault() {
                Some(fault) => Err(fault.into()),
                None => {
                    let limit = shared.limits.max_message_bytes;
                    incoming_fault(&status, limit).map_or(Ok(None), Err)
                }
            },
            Err(_elapsed) => Err(ServeError::SessionIdle { limit }),
        }
    }

    /// A request and what it needs, and the bytes of its message.
    async fn read(
        &mut self,
        request: ModelInferRequest,
        caller: &Caller,
    ) -> Result<((Call, Used, Upload), usize), ServeError> {
        let headers = &self.arrival.headers;
        let shared = &self.shared;
        let hot = shared.hot();
        let batches = shared.batches(&hot);
        let model_id = model_name(&request.model_name)?;
        headers.check_model_id(&model_id)?;
        let message = shared.admission.admit_upload(caller)?;
        let n_bytes = request.encoded_len();
        if !message.holds(n_bytes) {
            return Err(shared.admission.refuse_upload());
        }
        let loading = batches.model(caller, &model_id, None);
        let used = timeout_at(self.answer_by().into(), loading).await;
        let used = used.map_err(|_elapsed| ServeError::DeadlineExceeded)??;
        let call = Call::read(request, &used.lease.model, headers, &hot.output)?;
        Ok(((call, used, message), n_bytes))
    }

    /// When the running request must be answered, or its next piece.
    fn answer_by(&self) -> Instant {
        let ours = Instant::now() + self.shared.hot().requests.request_timeout;
        let client = self.arrival.headers.caller.deadline;
        client.map_or(ours, |client| client.min(ours))
    }

    async fn piece(&mut self, running: &mut Running) -> Result<ModelInferResponse, ServeError> {
        if running.stage == Stage::Goodbye {
            running.stage = Stage::Over;
            return Ok(running.envelope(true).empty());
        }
        let order = running.next_order();
        let shared = &self.shared;
        let batches = shared.batches(&shared.hot());
        let answer_by = self.answer_by();
        let caller = running
            .call
            .caller(&running.counted.caller, Some(answer_by));
        let n_left = running.n_heard().map(|n_all| n_all - running.n_done);
        let serving = async {
            match n_left {
                Some(n) => {
                    let ahead = &mut running.ahead;
                    batches.serve_piece(&caller, order, ahead, n).await
                }
                None => batches.serve(&caller, None, order).await,
            }
        };
        let served = timeout_at(answer_by.into(), serving).await;
        let served = served.map_err(|_elapsed| ServeError::DeadlineExceeded)??;
        running.n_done += served.answer.frames.len();
        running.stage = running.next_stage();
        let is_final = running.stage == Stage::Over;
        let response = running
            .envelope(is_final)
            .response(served.answer, &running.call.outputs);
        let n_bytes = checked_bytes(&response, batches.answers)?;
        batches.admission.resize(&caller, &served.room, n_bytes)?;
        self.room = Some(served.room);
        self.due.frame_leaves();
        Ok(response)
    }

    /// Tells of a request that failed; its names are short.
    fn failed(
        &mut self,
        (model_name, id): (String, String),
        error: ServeError,
        mut counted: Counted,
    ) -> Answer {
        counted.caller.tally.fail(&error);
        let ends = self.wants_status || matches!(error, ServeError::Draining);
        let status = to_status(error);
        counted.ending.ends_with(status.code());
        if ends {
            self.is_over = true;
            return Err(status);
        }
        self.failures.count();
        let envelope = Envelope {
            model_name: &model_name,
            version: Version::default(),
            id: &id,
            is_final: Some(true),
        };
        Ok(ModelStreamInferResponse {
            error_message: status.message().to_owned(),
            infer_response: Some(envelope.empty()),
        })
    }

    fn end(&mut self, error: ServeError) -> Answer {
        self.is_over = true;
        self.arrival.headers.caller.tally.fail(&error);
        Err(to_status(error))
    }
}

impl Running {
    fn new((call, used, message): (Call, Used, Upload), counted: Counted) -> Self {
        Self {
            call,
            used,
            counted,
            n_done: 0,
            ahead: Ahead::default(),
            stage: Stage::Frames,
            message,
        }
    }

    /// Whether there is room for its message of this many bytes, and for what is made ahead.
    fn holds(&self, n_bytes: usize) -> bool {
        let n_bytes = n_bytes.saturating_add(self.bytes_ahead());
        self.message.holds(n_bytes)
    }

    /// Frames of all responses together, where the request is answered by several.
    fn n_split(&self) -> Option<usize> {
        let call = &self.call;
        let n_frames = call.n_covered?;
        let is_split = call.version == Version::Decoupled;
        match call.order.n_frames {
            // More than there are: refused as a whole.
            Some(wanted) if wanted > n_frames => None,
            Some(wanted) => is_split.then_some(wanted),
            None => is_split.then_some(n_frames),
        }
    }

    /// What windows take that are made ahead of their piece.
    fn bytes_ahead(&self) -> usize {
        let n_frames = self.n_heard().unwrap_or(0).min(MAX_AHEAD_FRAMES);
        n_frames * self.window_bytes()
    }

    /// As [`n_split`](Self::n_split), where windows have to be made of what is heard.
    fn n_heard(&self) -> Option<usize> {
        let is_made = matches!(self.call.order.clip, Clip::Windows { .. });
        self.n_split().filter(|_| !is_made)
    }

    fn window_bytes(&self) -> usize {
        size_of::<f32>() * window_floats(&self.used.lease.model)
    }

    fn next_order(&self) -> BatchOrder {
        let order = &self.call.order;
        let (clip, n_frames) = match self.n_split() {
            None => (order.clip.clone(), order.n_frames),
            Some(n_all) => {
                let n = (n_all - self.n_done.min(n_all)).min(PIECE_FRAMES);
                (self.part(n), Some(n).filter(|&n| n > 0))
            }
        };
        BatchOrder {
            model_id: order.model_id.clone(),
            clip,
            n_frames,
            start_frame_index: order.start_frame_index.saturating_add(self.n_done as u64),
            output: order.output,
            priority: order.priority,
            allow_partial: false,
            visuals: None,
        }
    }

    /// The speech of the next `n` frames.
    fn part(&self, n: usize) -> Clip {
        let mut clip = self.call.order.clip.clone();
        match &mut clip {
            Clip::Windows { data } => {
                let window_bytes = self.window_bytes();
                let from = self.n_done * window_bytes;
                *data = data.slice(from..from + n * window_bytes);
            }
            // The same for each frame.
            Clip::OneWindow { .. } => {}
            Clip::Steps { cut, .. } | Clip::Pcm { cut, .. } => cut.first_frame += self.n_done,
        }
        clip
    }

    fn next_stage(&self) -> Stage {
        let call = &self.call;
        if self.n_split().is_some_and(|n_all| self.n_done < n_all) {
            Stage::Frames
        } else if call.wants_empty_final && call.version == Version::Decoupled {
            Stage::Goodbye
        } else {
            Stage::Over
        }
    }

    fn envelope(&self, is_final: bool) -> Envelope<'_> {
        Envelope {
            model_name: self.used.lease.model.id().as_str(),
            version: self.call.version,
            id: &self.call.id,
            is_final: Some(is_final),
        }
    }
}
