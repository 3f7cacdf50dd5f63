//! What is counted for each model and tenant.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use lipsync_core::saturate::{micros, u64_of};
use lipsync_session::SessionCounters;
use lipsync_telemetry::{Buckets, Counter, Histogram, HistogramSnapshot};

use super::outcome::Outcome;

/// Figures of what one tenant does with one model.
#[derive(Debug)]
pub struct ModelFigures {
    requests: Times,
    lives: Times,
    first_frame: Histogram,
    interval: Histogram,
    /// Frames of unary calls.
    pub frames: Counter,
    /// Where the time of answered unary calls went.
    pub answered: AnsweredCalls,
    /// Its sessions.
    pub sessions: Arc<SessionCounters>,
}

/// Sums over unary calls that were answered with frames; times in microseconds.
#[derive(Debug, Default)]
pub struct AnsweredCalls {
    /// How many.
    pub calls: Counter,
    /// Their frames.
    pub frames: Counter,
    /// Until a worker took the first chunk.
    pub queue_us: Counter,
    /// Audio and background frames.
    pub prepare_us: Counter,
    /// The network.
    pub infer_us: Counter,
    /// Pasting faces and coding pictures.
    pub composite_us: Counter,
    /// All of it.
    pub total_us: Counter,
}

impl AnsweredCalls {
    /// One more.
    pub(crate) fn add(&self, n_frames: usize, times: CallTimes) {
        self.calls.inc();
        self.frames.add(u64_of(n_frames));
        self.queue_us.add(micros(times.queue));
        self.prepare_us.add(micros(times.prepare));
        self.infer_us.add(micros(times.infer));
        self.composite_us.add(micros(times.composite));
        self.total_us.add(micros(times.total));
    }
}

/// Where the time of one call went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallTimes {
    pub(crate) queue: Duration,
    pub(crate) prepare: Duration,
    pub(crate) infer: Duration,
    pub(crate) composite: Duration,
    pub(crate) total: Duration,
}

/// Times by outcome. An outcome that never comes takes no memory.
#[derive(Debug)]
struct Times {
    buckets: &'static Buckets,
    by_outcome: [OnceLock<Histogram>; Outcome::ALL.len()],
}

impl Times {
    fn new(buckets: &'static Buckets) -> Self {
        Self {
            buckets,
            by_outcome: Outcome::ALL.map(|_| OnceLock::new()),
        }
    }

    fn observe(&self, outcome: Outcome, time: Duration) {
        let times = &self.by_outcome[outcome as usize];
        times
            .get_or_init(|| Histogram::new(self.buckets))
            .observe_time(time);
    }

    fn snapshot(&self) -> Vec<(Outcome, HistogramSnapshot)> {
        let times = Outcome::ALL.into_iter().zip(&self.by_outcome);
        times
            .filter_map(|(outcome, times)| Some((outcome, times.get()?.snapshot())))
            .collect()
    }
}

impl Default for ModelFigures {
    fn default() -> Self {
        Self {
            requests: Times::new(&Buckets::LATENCY),
            lives: Times::new(&Buckets::LIFE),
            first_frame: Histogram::new(&Buckets::LATENCY),
            interval: Histogram::new(&Buckets::LATENCY),
            frames: Counter::default(),
            answered: AnsweredCalls::default(),
            sessions: Arc::default(),
        }
    }
}

impl ModelFigures {
    /// A unary call has ended.
    pub(super) fn request(&self, outcome: Outcome, time: Duration) {
        self.requests.observe(outcome, time);
    }

    /// A session has ended.
    pub(super) fn session(&self, outcome: Outcome, life: Duration) {
        self.lives.observe(outcome, life);
    }

    /// Times of unary calls, by outcome; only outcomes that there were.
    #[must_use]
    pub fn requests(&self) -> Vec<(Outcome, HistogramSnapshot)> {
        self.requests.snapshot()
    }

    /// Lives of sessions that have ended, by outcome; only outcomes that there were.
    #[must_use]
    pub fn lives(&self) -> Vec<(Outcome, HistogramSnapshot)> {
        self.lives.snapshot()
    }

    /// The first frame of a segment left, this long after the first audio.
    pub(super) fn first_frame_after(&self, time: Duration) {
        self.first_frame.observe_time(time);
    }

    /// A frame left, this long after the one before.
    pub(super) fn followed_after(&self, time: Duration) {
        self.interval.observe_time(time);
    }

    /// From the first audio of a segment to its first frame.
    #[must_use]
    pub fn first_frame(&self) -> HistogramSnapshot {
        self.first_frame.snapshot()
    }

    /// Between frames that a viewer sees one after the other.
    #[must_use]
    pub fn interval(&self) -> HistogramSnapshot {
        self.interval.snapshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_kept_apart() {
        let figures = ModelFigures::default();
        figures.request(Outcome::Ok, Duration::from_millis(3));
        figures.request(Outcome::Failed, Duration::from_millis(5));
        figures.session(Outcome::Cancelled, Duration::from_secs(5));
        let sums: Vec<_> = figures
            .requests()
            .into_iter()
            .map(|(outcome, times)| (outcome.name(), times.sum))
            .collect();
        assert_eq!(sums, [("ok", 3_000), ("failed", 5_000)]);
        assert_eq!(figures.lives().len(), 1);
    }
}
