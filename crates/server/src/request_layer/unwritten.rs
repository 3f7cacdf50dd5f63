//! Answers that are not written yet.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};
use lipsync_serving::{activity::Busy, due::Due, gate::Ticket};
use tonic::{Code, Status, body::Body};

use crate::{telemetry::CallEnd, wire::load_report::LoadReport};

/// The code of an answer, in its headers or its trailers.
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The code in the headers or trailers of an answer.
pub(super) fn told_code(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(&GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes()))
}

/// A body that holds something until its last byte has left the server: a large answer to a slow
/// reader waits in the connection for long after the handler has returned it.
pub(super) struct Unwritten {
    inner: Body,
    held: Arc<Held>,
    /// Counts the call once the stack has taken all of its answer, or has dropped it.
    ending: CallEnd,
    /// Goes with its trailers.
    report: Option<LoadReport>,
    /// What a call that lasts owes, and how many frames of it have gone into pieces.
    due: Option<Arc<Due>>,
    n_carried: u64,
}

/// What an answer holds until it is written.
pub(super) struct Held {
    /// The drain waits for it.
    pub(super) _answer: Option<Ticket>,
    /// Its place among the calls that last.
    pub(super) _watch: Option<Ticket>,
    /// Its connection is not idle.
    pub(super) _busy: Option<Busy>,
    /// Its bytes, where the handler has reserved some.
    pub(super) _room: Option<Arc<Ticket>>,
}

/// Bytes of a body, and what that holds.
struct Piece {
    bytes: Bytes,
    _held: Arc<Held>,
    /// Where there is a frame in it that the drain waits for.
    _frame: Option<Arc<Ticket>>,
}

impl Unwritten {
    pub(super) fn new(inner: Body, held: Held, ending: CallEnd) -> Self {
        let held = Arc::new(held);
        Self {
            inner,
            held,
            ending,
            report: None,
            due: None,
            n_carried: 0,
        }
    }

    /// With a report of how the server is.
    pub(super) fn telling(self, report: Option<LoadReport>) -> Self {
        Self { report, ..self }
    }

    /// The drain waits for what is owed.
    pub(super) fn owing(self, due: Option<Arc<Due>>) -> Self {
        Self { due, ..self }
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
        let mut frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(code) = frame.trailers_ref().and_then(told_code)
        {
            self.ending.ends_with(code);
        }
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
            && let Some(report) = self.report.take()
        {
            report.add_to(trailers);
        }
        let this = &mut *self;
        let hold = |bytes| {
            let due = this.due.as_ref();
            let piece = Piece {
                bytes,
                _held: Arc::clone(&this.held),
                _frame: due.and_then(|due| due.carried(&mut this.n_carried)),
            };
            Bytes::from_owner(piece)
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
