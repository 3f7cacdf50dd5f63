//! The queue between calls and the collector.

use std::sync::Arc;

use lipsync::otlp::trace::v1::Span;
use lipsync_telemetry::Counter;
use tokio::sync::{mpsc, oneshot};

/// Spans that may wait for the collector.
const QUEUE: usize = 4096;

/// Takes spans for the collector. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Item>,
    figures: Arc<SpanFigures>,
}

/// What goes through the queue.
#[derive(Debug)]
pub(super) enum Item {
    Span(Box<Span>),
    /// Whoever waits for all before it to be sent.
    Flush(oneshot::Sender<()>),
}

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct SpanFigures {
    /// The collector has taken them.
    pub(crate) exported: Counter,
    /// The queue was full.
    pub(crate) dropped: Counter,
    /// The collector did not answer, or refused them.
    pub(crate) failed: Counter,
}

impl Outbox {
    /// Empty, with its other end and what it counts.
    pub(super) fn new() -> (Self, mpsc::Receiver<Item>, Arc<SpanFigures>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let figures = Arc::<SpanFigures>::default();
        let outbox = Self {
            queue: sender,
            figures: Arc::clone(&figures),
        };
        (outbox, queue, figures)
    }

    /// Returns when all that waits was sent, or could not be.
    pub(super) async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).await.is_ok() {
            let _ = sent.await;
        }
    }

    /// What became of spans so far.
    pub(super) fn figures(&self) -> &SpanFigures {
        &self.figures
    }

    /// Queues a span, or drops it where the queue is full.
    pub(super) fn put(&self, span: Span) {
        if self.queue.try_send(Item::Span(Box::new(span))).is_err() {
            self.figures.dropped.inc();
        }
    }
}
