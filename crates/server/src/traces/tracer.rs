//! Which calls are traced.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::time::timeout;

use super::{
    exporter::Spans,
    outbox::{Outbox, SpanFigures},
    parent::Parent,
    trace::Trace,
};
use crate::config::Traces;

/// Begins traces. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Tracer {
    outbox: Outbox,
    /// Of 2^64 random numbers, this many are traced.
    threshold: u64,
}

impl Tracer {
    /// Under these settings, and what [`keep_exporting`](super::keep_exporting) empties.
    pub(crate) fn new(settings: Traces) -> (Self, Spans) {
        let (outbox, queue, figures) = Outbox::new();
        let tracer = Self {
            outbox,
            threshold: threshold(settings.sample_ratio),
        };
        (tracer, Spans::new(settings, queue, figures))
    }

    /// The trace of a call that has just come, `None` where it is not traced. A client that says whether its own trace is
    /// sampled decides; else chance does.
    pub(crate) fn begin(&self, name: &str, headers: &HeaderMap) -> Option<Arc<Trace>> {
        let parent = Parent::in_headers(headers);
        if parent.as_ref().is_some_and(|parent| !parent.is_sampled) {
            return None;
        }
        let mut random = [0; 32];
        getrandom::getrandom(&mut random).ok()?;
        let (ids, dice) = random.split_at(24);
        let dice = dice
            .first_chunk()
            .map_or(0, |dice| u64::from_le_bytes(*dice));
        if parent.is_none() && dice > self.threshold {
            return None;
        }
        let trace = Trace::new(name, parent, ids.first_chunk()?, self.outbox.clone());
        Some(Arc::new(trace))
    }

    /// Has everything sent that waits, as far as it goes within a time.
    pub(crate) async fn flush(&self, limit: Duration) {
        if timeout(limit, self.outbox.flush()).await.is_err() {
            tracing::warn!("the last spans could not be sent");
        }
    }

    /// What became of spans so far.
    pub(crate) fn figures(&self) -> &SpanFigures {
        self.outbox.figures()
    }
}

/// The largest random number that is traced, for a part of all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the part is from 0 to 1, and what is too large becomes the largest"
)]
fn threshold(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * u64::MAX as f64) as u64
}
