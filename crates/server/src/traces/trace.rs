//! The trace of one call or session: pieces of its time become spans.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use lipsync::otlp::{
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, Status, span::SpanKind, status::StatusCode},
};
use lipsync_core::saturate::u64_of;
use lipsync_serving::telemetry::{Passage, Spent, Witness};

use super::{
    attributes::{attribute, number},
    outbox::Outbox,
    parent::Parent,
};

/// Spans of one trace; further ones are counted, and told in the first span.
const MAX_SPANS: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    name: Box<str>,
    trace_id: [u8; 16],
    /// Of the span that is the whole call.
    root: [u8; 8],
    parent: Option<Parent>,
    began: Instant,
    /// The same on the clock on the wall, nanoseconds since the Unix epoch.
    began_unix_ns: u64,
    n_spans: AtomicU64,
    outbox: Outbox,
}

/// What is known of a call at its end.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    /// Its words, by their names at the collector; those that are empty are left out.
    pub(crate) words: &'a [(&'static str, &'a str)],
    /// Its numbers.
    pub(crate) numbers: &'a [(&'static str, u64)],
    /// What went wrong, if that was the server's fault.
    pub(crate) fault: Option<&'a str>,
    /// When its answer was ready, if it was.
    pub(crate) answered: Option<Instant>,
}

impl Trace {
    /// Begins now. `random` gives it the ids that it needs.
    pub(super) fn new(
        name: &str,
        parent: Option<Parent>,
        random: &[u8; 24],
        outbox: Outbox,
    ) -> Self {
        let (own, root) = random.split_at(16);
        let own = own.first_chunk().copied().unwrap_or_default();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            name: name.into(),
            trace_id: parent.as_ref().map_or(own, |parent| parent.trace_id),
            // All zero is none.
            root: root.first_chunk().map_or([1; 8], |root| match root {
                [0, 0, 0, 0, 0, 0, 0, 0] => [1; 8],
                root => *root,
            }),
            parent,
            began: Instant::now(),
            began_unix_ns: u64_of(since.unwrap_or(Duration::ZERO).as_nanos()),
            n_spans: AtomicU64::new(0),
            outbox,
        }
    }

    /// The call is over: its own span, and that of writing its answer.
    pub(crate) fn end(&self, ending: &Ending<'_>) {
        let now = Instant::now();
        if let Some(answered) = ending.answered {
            self.put(self.child("write", (answered, now), Vec::new()));
        }
        let n_dropped = self
            .n_spans
            .load(Ordering::Relaxed)
            .saturating_sub(MAX_SPANS);
        let words = ending.words.iter().filter(|(_, word)| !word.is_empty());
        let words = words.map(|(key, word)| attribute(key, Value::StringValue((*word).to_owned())));
        let numbers = ending.numbers.iter().map(|(key, n)| number(key, *n));
        let dropped = (n_dropped > 0).then(|| number("lipsync.dropped_spans", n_dropped));
        let attributes = words.chain(numbers).chain(dropped).collect();
        let status = ending.fault.map(|message| Status {
            code: StatusCode::Error.into(),
            message: message.to_owned(),
        });
        let parent = self.parent.as_ref();
        self.outbox.put(Span {
            span_id: self.root.to_vec(),
            parent_span_id: parent.map_or_else(Vec::new, |parent| parent.span_id.to_vec()),
            name: self.name.to_string(),
            kind: SpanKind::Server.into(),
            status,
            ..self.span((self.began, now), attributes)
        });
    }

    /// A span of a part of it.
    fn child(&self, name: &str, time: (Instant, Instant), attributes: Vec<KeyValue>) -> Span {
        Span {
            parent_span_id: self.root.to_vec(),
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            ..self.span(time, attributes)
        }
    }

    fn span(&self, (began, ended): (Instant, Instant), attributes: Vec<KeyValue>) -> Span {
        let unix_ns = |at: Instant| {
            let since = at.saturating_duration_since(self.began);
            self.began_unix_ns.saturating_add(u64_of(since.as_nanos()))
        };
        Span {
            trace_id: self.trace_id.to_vec(),
            trace_state: self
                .parent
                .as_ref()
                .map_or_else(String::new, |p| p.state.clone()),
            start_time_unix_nano: unix_ns(began),
            end_time_unix_nano: unix_ns(ended),
            attributes,
            // Sampled.
            flags: 1,
            ..Span::default()
        }
    }

    /// Gives a part its id, and sends it on its way, unless there are too many.
    fn put(&self, span: Span) {
        let n = self.n_spans.fetch_add(1, Ordering::Relaxed);
        if n < MAX_SPANS {
            let span_id = mixed(u64::from_le_bytes(self.root).wrapping_add(n + 1));
            self.outbox.put(Span {
                span_id: span_id.to_le_bytes().to_vec(),
                ..span
            });
        }
    }
}

impl Witness for Trace {
    fn saw(&self, passage: Passage) {
        let mut attributes = Vec::new();
        if passage.n_frames > 0 {
            attributes.push(number("lipsync.frames", u64_of(passage.n_frames)));
        }
        if let Spent::Segment { id, first_frame } = passage.what {
            attributes.push(number("lipsync.segment_id", id));
            let first = first_frame.as_secs_f64() * 1e3;
            attributes.push(attribute(
                "lipsync.first_frame_ms",
                Value::DoubleValue(first),
            ));
        }
        let time = (passage.began, passage.ended);
        self.put(self.child(passage.what.name(), time, attributes));
    }
}

/// Another number for each number, spread over all of them (SplitMix64), and never 0.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (n ^ (n >> 31)).max(1)
}
