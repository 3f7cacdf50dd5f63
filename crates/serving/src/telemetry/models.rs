//! What is counted for each model and tenant.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use lipsync_core::saturate::{micros, u64_of};
use lipsync_session::SessionCounters;
use lipsync_telemetry::{Buckets, Counter, Histogram, HistogramSnapshot};
use tokio::time::Instant;

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

/// Takes the times of one session's frames as its client sees them.
#[derive(Debug)]
pub struct SessionClock {
    figures: Arc<ModelFigures>,
    /// Frames follow each other without a break, across segments too.
    is_continuous: bool,
    /// The newest segment, and when its first audio came, until its first frame has left.
    heard: Option<(u64, Option<Instant>)>,
    /// The last frame: its segment, and when it left.
    sent: Option<(u64, Instant)>,
}

impl SessionClock {
    /// Of a session whose model and tenant these figures are.
    #[must_use]
    pub fn new(figures: Arc<ModelFigures>, is_continuous: bool) -> Self {
        Self {
            figures,
            is_continuous,
            heard: None,
            sent: None,
        }
    }

    /// Audio of a segment came.
    pub fn heard(&mut self, segment_id: u64, now: Instant) {
        if self.heard.is_none_or(|(newest, _)| newest < segment_id) {
            self.heard = Some((segment_id, Some(now)));
        }
    }

    /// A frame of a segment leaves; those between segments are of segment 0.
    pub fn sent(&mut self, segment_id: u64, now: Instant) {
        if let Some((newest, since)) = &mut self.heard
            && *newest == segment_id
            && let Some(since) = since.take()
        {
            let waited = now.saturating_duration_since(since);
            self.figures.first_frame.observe_time(waited);
        }
        if let Some((before, at)) = self.sent.replace((segment_id, now))
            && (self.is_continuous || before == segment_id)
        {
            let interval = now.saturating_duration_since(at);
            self.figures.interval.observe_time(interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_have_their_first_frames_and_intervals() {
        let figures = Arc::<ModelFigures>::default();
        let mut clock = SessionClock::new(Arc::clone(&figures), false);
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        clock.heard(1, at(0));
        clock.heard(1, at(20));
        clock.sent(1, at(100));
        clock.sent(1, at(140));
        clock.heard(2, at(200));
        clock.sent(1, at(240));
        clock.sent(2, at(500));
        let first = figures.first_frame();
        assert_eq!((first.count(), first.sum), (2, 400_000));
        let interval = figures.interval();
        assert_eq!(
            (interval.count(), interval.sum),
            (2, 140_000),
            "none across segments"
        );
    }

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
