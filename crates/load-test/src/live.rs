//! Figures of live sessions: frame intervals, drift, and the answer to an interruption.

use std::{collections::VecDeque, time::Duration};

use hdrhistogram::Histogram;

use crate::stats::{add, histogram, micros};

/// A measurement from a live session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveEvent {
    /// From when the audio for an utterance's first frame was due to be sent, to that frame.
    FirstFrame(Duration),
    /// Between two successive frames.
    Interval(Duration),
    /// From an interruption to its confirmation.
    Cleared(Duration),
    /// A frame of silence or between utterances.
    IdleFrame,
    /// A frame of an utterance that shows the background only.
    SkippedFrame,
    /// A session went on over another connection.
    Resumed,
}

/// The counts of all live sessions of a run.
#[derive(Debug)]
pub struct LiveStats {
    /// Microseconds from the first frame's audio to the frame.
    pub first_frame: Histogram<u64>,
    /// Microseconds between neighbouring frames.
    pub interval: Histogram<u64>,
    /// Microseconds from an interruption to its confirmation.
    pub clear: Histogram<u64>,
    /// Frames without speech.
    pub n_idle: u64,
    /// Frames of utterances without the network.
    pub n_skipped: u64,
    /// Connections that were lost, and after which the session went on.
    pub n_resumed: u64,
    /// The drift of each session that was long enough.
    pub drifts: Vec<Drift>,
}

impl LiveStats {
    pub(crate) fn new() -> Self {
        Self {
            first_frame: histogram(),
            interval: histogram(),
            clear: histogram(),
            n_idle: 0,
            n_skipped: 0,
            n_resumed: 0,
            drifts: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        add(&mut self.first_frame, &other.first_frame);
        add(&mut self.interval, &other.interval);
        add(&mut self.clear, &other.clear);
        self.n_idle += other.n_idle;
        self.n_skipped += other.n_skipped;
        self.n_resumed += other.n_resumed;
        self.drifts.extend_from_slice(&other.drifts);
    }

    pub(crate) fn record(&mut self, event: LiveEvent) {
        match event {
            LiveEvent::FirstFrame(time) => self.first_frame.saturating_record(micros(time)),
            LiveEvent::Interval(time) => self.interval.saturating_record(micros(time)),
            LiveEvent::Cleared(time) => self.clear.saturating_record(micros(time)),
            LiveEvent::IdleFrame => self.n_idle += 1,
            LiveEvent::SkippedFrame => self.n_skipped += 1,
            LiveEvent::Resumed => self.n_resumed += 1,
        }
    }
}

/// How much further a session's frames lag behind their audio at its end than at its start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// ms; negative when they came earlier.
    pub ms: f64,
    /// The same in frames.
    pub frames: f64,
}

/// Watches how far the frames of one session lag behind their audio.
///
/// A frame's lag is the time from when its audio was spoken until the frame arrived. The median over a second of
/// frames tells drift from jitter.
#[derive(Debug)]
pub struct DriftMeter {
    fps: u32,
    /// Lags of the first second, in microseconds.
    first: Vec<i64>,
    /// Lags of the last second.
    last: VecDeque<i64>,
    n_frames: u64,
}

impl DriftMeter {
    /// A meter for `fps` frames a second.
    #[must_use]
    pub fn new(fps: u32) -> Self {
        Self {
            fps: fps.max(1),
            first: Vec::new(),
            last: VecDeque::new(),
            n_frames: 0,
        }
    }

    /// Notes a frame whose audio was spoken at `spoken`, and which arrived at `arrived`.
    pub fn note(&mut self, spoken: Duration, arrived: Duration) {
        let signed = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let lag = signed(arrived).saturating_sub(signed(spoken));
        let second = usize::try_from(self.fps).unwrap_or(usize::MAX);
        if self.first.len() < second {
            self.first.push(lag);
        }
        if self.last.len() == second {
            self.last.pop_front();
        }
        self.last.push_back(lag);
        self.n_frames += 1;
    }

    /// The drift; `None` before the session has two seconds of frames.
    #[must_use]
    pub fn drift(&self) -> Option<Drift> {
        if self.n_frames < 2 * u64::from(self.fps) {
            return None;
        }
        let mut last: Vec<i64> = self.last.iter().copied().collect();
        let us = median(&mut last) - median(&mut self.first.clone());
        let ms = us as f64 / 1e3;
        let frames = ms * f64::from(self.fps) / 1e3;
        Some(Drift { ms, frames })
    }
}

/// The median, the upper one of two middle values; 0 for an empty list.
fn median(numbers: &mut [i64]) -> i64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(n_frames: u64, lag_us: impl Fn(u64) -> u64) -> DriftMeter {
        let mut meter = DriftMeter::new(25);
        for n in 0..n_frames {
            let spoken = Duration::from_micros(n * 40_000);
            meter.note(spoken, spoken + Duration::from_micros(lag_us(n)));
        }
        meter
    }

    #[test]
    fn jitter_is_no_drift() {
        let meter = meter(1_000, |n| 500_000 + (n * 7_919) % 20_000);
        let drift = meter.drift().expect("40 s of frames");
        assert!(drift.ms.abs() < 5.0, "{drift:?}");
    }

    #[test]
    fn lost_time_is_drift() {
        // A clock that runs 1 ms a second too slow.
        let drift = meter(2_500, |n| 500_000 + n * 40).drift();
        let drift = drift.expect("100 s of frames");
        assert!((drift.ms - 99.0).abs() < 0.1, "{drift:?}");
        assert!((drift.frames - 2.475).abs() < 0.01, "{drift:?}");
        let early = meter(2_500, |n| 500_000 - n * 40).drift();
        assert!(early.expect("100 s").ms < -98.0);
    }

    #[test]
    fn a_short_session_tells_nothing() {
        assert_eq!(meter(49, |_| 0).drift(), None);
    }
}
