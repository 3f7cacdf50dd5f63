//! Calls by method and code, under the names that dashboards for gRPC servers know.

use std::{sync::Arc, time::Duration};

use lipsync_telemetry::{Buckets, Counter, Histogram, HistogramSnapshot, OTHER, Table};
use tonic::Code;

/// Methods of all services; there are about fifty.
const MAX_METHODS: usize = 64;
/// Status codes of gRPC.
const CODES: usize = 17;

/// Figures of all methods.
#[derive(Debug)]
pub(crate) struct GrpcFigures(Table<MethodFigures, 2>);

/// Figures of one method.
#[derive(Debug)]
pub(crate) struct MethodFigures {
    started: Counter,
    handled: [Counter; CODES],
    time: Histogram,
}

/// The same at one moment.
pub(crate) struct MethodSnapshot {
    pub(crate) service: Box<str>,
    pub(crate) method: Box<str>,
    pub(crate) started: u64,
    /// Ends by code; only codes that there were.
    pub(crate) handled: Vec<(Code, u64)>,
    pub(crate) time: HistogramSnapshot,
}

impl Default for GrpcFigures {
    fn default() -> Self {
        Self(Table::new(MAX_METHODS, MethodFigures::default))
    }
}

impl Default for MethodFigures {
    fn default() -> Self {
        Self {
            started: Counter::default(),
            handled: [(); CODES].map(|()| Counter::default()),
            time: Histogram::new(&Buckets::LATENCY),
        }
    }
}

impl GrpcFigures {
    /// Of the method at this path, if the contract knows it: paths that clients make up must not become labels.
    pub(crate) fn of(&self, path: Option<&str>) -> Arc<MethodFigures> {
        let parts = path.and_then(|path| path.strip_prefix('/')?.split_once('/'));
        let (service, method) = parts.unwrap_or((OTHER, OTHER));
        self.0.row([service, method])
    }

    /// All of them now.
    pub(crate) fn snapshot(&self) -> Vec<MethodSnapshot> {
        let rows = self.0.rows().into_iter();
        rows.map(|([service, method], figures)| MethodSnapshot {
            service,
            method,
            // Ends first, so that no more calls end than have begun.
            handled: figures.handled(),
            started: figures.started.get(),
            time: figures.time.snapshot(),
        })
        .collect()
    }
}

impl MethodFigures {
    /// A call has come.
    pub(crate) fn begin(&self) {
        self.started.inc();
    }

    /// A call has ended.
    pub(crate) fn end(&self, code: Code, time: Duration) {
        self.handled[code as usize].inc();
        self.time.observe_time(time);
    }

    fn handled(&self) -> Vec<(Code, u64)> {
        let counts = (0..).zip(&self.handled);
        let counts = counts.map(|(code, count)| (Code::from_i32(code), count.get()));
        counts.filter(|(_, n)| *n > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_own_counters() {
        let figures = GrpcFigures::default();
        for (path, code) in [
            (Some("/a.B/C"), Code::Unauthenticated),
            (Some("/a.B/C"), Code::Ok),
            (None, Code::Unimplemented),
        ] {
            let method = figures.of(path);
            method.begin();
            method.end(code, Duration::from_millis(1));
        }
        let methods = figures.snapshot();
        let seen: Vec<_> = methods
            .iter()
            .map(|m| (&*m.service, &*m.method, m.started, m.handled.as_slice()))
            .collect();
        let c: &[_] = &[(Code::Ok, 1), (Code::Unauthenticated, 1)];
        let other: &[_] = &[(Code::Unimplemented, 1)];
        assert_eq!(seen, [(OTHER, OTHER, 1, other), ("a.B", "C", 2, c)]);
    }
}
