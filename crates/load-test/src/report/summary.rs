//! The figures of a run.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{live::LiveStats, stats::Stats};

/// A distribution of times, ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95 % are at most this.
    pub p95: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Quantiles {
    /// Reads a histogram of microseconds; `None` when it is empty.
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

/// Figures of live sessions.
#[derive(Debug, Clone, Serialize)]
pub struct Live {
    /// From when the audio for an utterance's first frame was due to be sent, to that frame.
    pub first_frame_ms: Option<Quantiles>,
    /// Between successive frames.
    pub interval_ms: Option<Quantiles>,
    /// From an interruption to its confirmation.
    pub clear_ms: Option<Quantiles>,
    /// Confirmed interruptions.
    pub clears: u64,
    /// Sessions long enough for a drift: two seconds of frames.
    pub drift_sessions: usize,
    /// The drift of the worst of them, ms; negative when frames came earlier at the end.
    pub drift_ms: Option<f64>,
    /// The same in frames.
    pub drift_frames: Option<f64>,
    /// Frames in silence and between utterances.
    pub idle_frames: u64,
    /// Frames of utterances that show the background only.
    pub skipped_frames: u64,
    /// Connections that were lost, and after which the session went on without a jump.
    pub resumed: u64,
}

impl Live {
    /// Sums up; `None` for runs without live sessions.
    fn of(stats: &LiveStats) -> Option<Self> {
        let worst = stats
            .drifts
            .iter()
            .max_by(|a, b| a.ms.abs().total_cmp(&b.ms.abs()));
        let live = Self {
            first_frame_ms: Quantiles::of(&stats.first_frame),
            interval_ms: Quantiles::of(&stats.interval),
            clear_ms: Quantiles::of(&stats.clear),
            clears: stats.clear.len(),
            drift_sessions: stats.drifts.len(),
            drift_ms: worst.map(|drift| drift.ms),
            drift_frames: worst.map(|drift| drift.frames),
            idle_frames: stats.n_idle,
            skipped_frames: stats.n_skipped,
            resumed: stats.n_resumed,
        };
        let is_live = live.first_frame_ms.is_some() || live.interval_ms.is_some();
        (is_live || live.clears + live.idle_frames > 0).then_some(live)
    }
}

/// The numbers of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Simulated users.
    pub users: u64,
    /// Length of the measured window, seconds; shorter than requested if it was interrupted.
    pub measured_s: f64,
    /// Requests that were due in the window; with streams, frames.
    pub requests: u64,
    /// Those among them with a good answer.
    pub ok: u64,
    /// The share of the others, 0..1.
    pub error_rate: f64,
    /// Failures by kind: status codes, `invalid ...`, `unfinished`.
    pub outcomes: BTreeMap<String, u64>,
    /// The last failure, as an example.
    pub example_failure: Option<String>,
    /// Good answers that arrived in the window, per second.
    pub requests_per_second: f64,
    /// Frames in them, per second.
    pub frames_per_second: f64,
    /// Requested frames.
    pub frames_wanted: u64,
    /// Frames that came late or not at all.
    pub frames_missed: u64,
    /// From the intended send time.
    pub latency_ms: Option<Quantiles>,
    /// From the actual send time; unary only.
    pub service_ms: Option<Quantiles>,
    /// Streams: from the start of an utterance to its first frame.
    pub first_frame_ms: Option<Quantiles>,
    /// Figures of live sessions.
    pub live: Option<Live>,
    /// Message bytes sent per good frame, without HTTP/2 framing; streams: of audio.
    pub bytes_up_per_frame: f64,
    /// Message bytes received per good frame.
    pub bytes_down_per_frame: f64,
    /// The figures of each tenant, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<OfTenant>,
}

/// The numbers of one tenant in a run.
#[derive(Debug, Clone, Serialize)]
pub struct OfTenant {
    /// Its name.
    pub tenant: String,
    /// Its numbers.
    #[serde(flatten)]
    pub figures: Summary,
}

impl Summary {
    /// Sums up the counts at time `now` of the run.
    #[must_use]
    pub fn new(users: u64, stats: &Stats, now: std::time::Duration) -> Self {
        let measured_s = stats.measured_s(now);
        Self {
            users,
            measured_s,
            requests: stats.requests,
            ok: stats.ok,
            error_rate: ratio(stats.requests - stats.ok, stats.requests as f64),
            outcomes: stats.outcomes.clone(),
            example_failure: stats.last_failure(),
            requests_per_second: ratio(stats.arrived, measured_s),
            frames_per_second: ratio(stats.frames_arrived, measured_s),
            frames_wanted: stats.frames_wanted,
            frames_missed: stats.frames_missed,
            latency_ms: Quantiles::of(&stats.latency),
            service_ms: Quantiles::of(&stats.service),
            first_frame_ms: Quantiles::of(&stats.first_frame),
            live: Live::of(&stats.live),
            bytes_up_per_frame: ratio(stats.bytes_up, stats.frames_ok as f64),
            bytes_down_per_frame: ratio(stats.bytes_down, stats.frames_ok as f64),
            tenants: Vec::new(),
        }
    }

    /// Whether there is a measurement, within the error budget.
    #[must_use]
    pub fn within_budget(&self, max_error_rate: f64) -> bool {
        self.requests > 0 && self.error_rate <= max_error_rate
    }
}

/// A part of a whole; 0 of nothing.
pub(super) fn ratio(part: u64, whole: f64) -> f64 {
    if whole > 0.0 {
        part as f64 / whole
    } else {
        0.0
    }
}
