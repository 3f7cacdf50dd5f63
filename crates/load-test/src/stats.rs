//! Counts the outcome and time of each request.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use lipsync::call_error::code_name;
use tokio::time::Instant;
use tonic::Code;

use crate::{
    check::Fault,
    live::{LiveEvent, LiveStats},
};

/// Longest latency that the histograms resolve, microseconds: one hour.
const LONGEST_US: u64 = 3_600_000_000;

/// The time of a run: warm-up, then the measured window.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The moment that all times are counted from.
    pub start: Instant,
    /// Start of the measured window.
    pub warm_up: Duration,
    /// Its end. Nothing is sent after it.
    pub end: Duration,
}

impl Clock {
    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits until `at`; returns at once if that is past.
    pub async fn sleep_until(&self, at: Duration) {
        tokio::time::sleep_until(self.start + at).await;
    }

    fn measures(&self, at: Duration) -> bool {
        (self.warm_up..self.end).contains(&at)
    }
}

/// The outcome of a request or, in sessions, of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The requested frames.
    Frames,
    /// A wrong answer.
    Invalid(Fault),
    /// A status other than OK.
    Status(Code),
    /// The run ended before it could be sent, or before it was answered.
    Unfinished,
}

impl Outcome {
    /// Its name in counts: that of the gRPC status code, if there is one.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Frames => "OK".to_owned(),
            Self::Invalid(fault) => format!("invalid {}", fault.name()),
            Self::Status(code) => code_name(code).to_owned(),
            Self::Unfinished => "unfinished".to_owned(),
        }
    }
}

/// One request or, in streams, one frame. Times are counted from the start of the run.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was due to be sent; in streams, when the frame's last audio was.
    pub intended: Duration,
    /// When it was sent. Absent in sessions, where several chunks of audio make one frame.
    pub sent: Option<Duration>,
    /// When the answer was complete.
    pub done: Duration,
    /// When the answer was due.
    pub due: Duration,
    /// Requested frames.
    pub n_frames: u64,
    /// Size of the request message.
    pub bytes_up: u64,
    /// Size of the answer message.
    pub bytes_down: u64,
    /// Its outcome.
    pub outcome: Outcome,
}

/// The counts of one run.
///
/// Latency, outcomes and missed frames belong to what was *due to be sent* in the measured window;
/// throughput to what *arrived* in it.
#[derive(Debug)]
pub struct Stats {
    clock: Clock,
    /// Requests that were due (streams: frames).
    pub requests: u64,
    /// Those among them with a good answer.
    pub ok: u64,
    /// Frames that they requested.
    pub frames_wanted: u64,
    /// Frames that came late or not at all.
    pub frames_missed: u64,
    /// Frames in good answers.
    pub frames_ok: u64,
    /// Bytes of their requests.
    pub bytes_up: u64,
    /// Bytes of their answers.
    pub bytes_down: u64,
    /// Failures by kind.
    pub outcomes: BTreeMap<String, u64>,
    /// Good answers that arrived in the window, and their frames.
    pub arrived: u64,
    /// Frames that arrived in the window.
    pub frames_arrived: u64,
    /// Microseconds from the intended send time to a good answer.
    pub latency: Histogram<u64>,
    /// Microseconds from the actual send time to a good answer; unary only.
    pub service: Histogram<u64>,
    /// Microseconds from the start of an utterance's audio to its first frame; streams only.
    pub first_frame: Histogram<u64>,
    /// Figures of live sessions.
    pub live: LiveStats,
    last_failure: Option<String>,
}

impl Stats {
    /// Empty counts.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            requests: 0,
            ok: 0,
            frames_wanted: 0,
            frames_missed: 0,
            frames_ok: 0,
            bytes_up: 0,
            bytes_down: 0,
            outcomes: BTreeMap::new(),
            arrived: 0,
            frames_arrived: 0,
            latency: histogram(),
            service: histogram(),
            first_frame: histogram(),
            live: LiveStats::new(),
            last_failure: None,
        }
    }

    /// Counts one sample.
    pub fn record(&mut self, sample: &Sample) {
        let ok = sample.outcome == Outcome::Frames;
        if ok && self.clock.measures(sample.done) {
            self.arrived += 1;
            self.frames_arrived += sample.n_frames;
        }
        if !self.clock.measures(sample.intended) {
            return;
        }
        self.requests += 1;
        self.frames_wanted += sample.n_frames;
        *self.outcomes.entry(sample.outcome.name()).or_default() += 1;
        if !ok || sample.done > sample.due {
            self.frames_missed += sample.n_frames;
        }
        if ok {
            self.ok += 1;
            self.frames_ok += sample.n_frames;
            self.bytes_up += sample.bytes_up;
            self.bytes_down += sample.bytes_down;
            let waited = |since: Duration| micros(sample.done.saturating_sub(since));
            self.latency.saturating_record(waited(sample.intended));
            if let Some(sent) = sample.sent {
                self.service.saturating_record(waited(sent));
            }
        }
    }

    /// Counts audio sent in a session, where it belongs to no single frame.
    pub fn record_upload(&mut self, intended: Duration, bytes: u64) {
        if self.clock.measures(intended) {
            self.bytes_up += bytes;
        }
    }

    /// Counts the wait for the first frame of an utterance that started at `start`.
    pub fn record_first_frame(&mut self, start: Duration, arrived: Duration) {
        if self.clock.measures(start) {
            let waited = micros(arrived.saturating_sub(start));
            self.first_frame.saturating_record(waited);
        }
    }

    /// Counts a time of a live session that belongs to the moment `at`.
    pub fn record_live(&mut self, at: Duration, event: LiveEvent) {
        if self.clock.measures(at) {
            self.live.record(event);
        }
    }

    /// Adds the counts of others in the same run.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.ok += other.ok;
        self.frames_wanted += other.frames_wanted;
        self.frames_missed += other.frames_missed;
        self.frames_ok += other.frames_ok;
        self.bytes_up += other.bytes_up;
        self.bytes_down += other.bytes_down;
        for (name, count) in &other.outcomes {
            *self.outcomes.entry(name.clone()).or_default() += count;
        }
        self.arrived += other.arrived;
        self.frames_arrived += other.frames_arrived;
        add(&mut self.latency, &other.latency);
        add(&mut self.service, &other.service);
        add(&mut self.first_frame, &other.first_frame);
        self.live.add(&other.live);
        if other.last_failure.is_some() {
            self.last_failure.clone_from(&other.last_failure);
        }
    }

    /// Keeps a failure to show as an example.
    pub fn keep_failure(&mut self, code: Code, message: &str) {
        self.last_failure = Some(format!("{}: {message}", code_name(code)));
    }

    /// The last failure's message, if there was a failure.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.last_failure.clone()
    }

    /// Measured seconds up to `now`.
    #[must_use]
    pub fn measured_s(&self, now: Duration) -> f64 {
        let until = now.min(self.clock.end);
        until.saturating_sub(self.clock.warm_up).as_secs_f64()
    }
}

/// Counts that all users share.
#[derive(Debug, Clone)]
pub struct SharedStats(Arc<Mutex<Stats>>);

impl SharedStats {
    /// Shares empty counts.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Mutex::new(Stats::new(clock))))
    }

    /// Locks the counts briefly. Never hold this across an await.
    ///
    /// A panic elsewhere leaves the counts consistent, because recording does not panic half-way.
    pub fn lock(&self) -> MutexGuard<'_, Stats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Adds a distribution to another of the same bounds.
pub(crate) fn add(to: &mut Histogram<u64>, other: &Histogram<u64>) {
    to.add(other).expect("all histograms have the same bounds");
}

/// An empty distribution of microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3)
        .expect("1 us to 1 h with 3 digits is a valid range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn stats() -> Stats {
        Stats::new(Clock {
            start: Instant::now(),
            warm_up: ms(1000),
            end: ms(2000),
        })
    }

    fn sample(intended: u64, done: u64, outcome: Outcome) -> Sample {
        Sample {
            intended: ms(intended),
            sent: Some(ms(intended + 10)),
            done: ms(done),
            due: ms(intended + 320),
            n_frames: 8,
            bytes_up: 80,
            bytes_down: 800,
            outcome,
        }
    }

    #[test]
    fn warm_up_is_not_counted() {
        let mut stats = stats();
        stats.record(&sample(999, 999, Outcome::Frames));
        assert_eq!((stats.requests, stats.arrived), (0, 0));
        // Sent before, arrived within: throughput only.
        stats.record(&sample(900, 1100, Outcome::Frames));
        assert_eq!((stats.requests, stats.frames_arrived), (0, 8));
        // Sent within, arrived after: latency only.
        stats.record(&sample(1900, 2100, Outcome::Frames));
        assert_eq!((stats.requests, stats.arrived), (1, 1));
        assert_eq!(stats.measured_s(ms(5000)), 1.0);
    }

    #[test]
    fn counts_of_several_add_up() {
        let (mut all, mut one, mut other) = (stats(), stats(), stats());
        one.record(&sample(1000, 1200, Outcome::Frames));
        other.record(&sample(1000, 1400, Outcome::Frames));
        other.record(&sample(1000, 1001, Outcome::Status(Code::Internal)));
        all.add(&one);
        all.add(&other);
        assert_eq!((all.requests, all.ok, all.latency.len()), (3, 2, 2));
        assert_eq!((all.outcomes["OK"], all.outcomes["INTERNAL"]), (2, 1));
        assert_eq!(all.frames_missed, 16);
    }

    #[test]
    fn latency_counts_from_the_intended_time() {
        let mut stats = stats();
        stats.record(&sample(1000, 1200, Outcome::Frames));
        assert!(stats.latency.max().abs_diff(200_000) < 300);
        assert!(stats.service.max().abs_diff(190_000) < 300);
    }

    #[test]
    fn late_and_failed_frames_are_missed() {
        let mut stats = stats();
        stats.record(&sample(1000, 1320, Outcome::Frames));
        assert_eq!(stats.frames_missed, 0);
        stats.record(&sample(1000, 1321, Outcome::Frames));
        assert_eq!(stats.frames_missed, 8);
        stats.record(&sample(
            1000,
            1001,
            Outcome::Status(Code::ResourceExhausted),
        ));
        stats.record(&sample(1000, 1001, Outcome::Invalid(Fault::Count)));
        assert_eq!((stats.frames_missed, stats.ok, stats.requests), (24, 2, 4));
        let outcomes: Vec<_> = stats.outcomes.keys().map(String::as_str).collect();
        assert_eq!(outcomes, ["OK", "RESOURCE_EXHAUSTED", "invalid count"]);
    }
}
