//! The report of a run: figures, a table for people, a document for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use hdrhistogram::Histogram;
use lipsync::v1::GetServerStatsResponse;
use serde::Serialize;

use crate::{
    args::{Args, Pace},
    equality::Equality,
    live::LiveStats,
    machine::Machine,
    model::Model,
    run::{Capacity, Plan},
    stats::Stats,
};

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
        };
        let is_live = live.first_frame_ms.is_some() || live.interval_ms.is_some();
        (is_live || live.clears + live.idle_frames > 0).then_some(live)
    }

    fn lines(&self) -> String {
        let mut text = String::from("\n");
        if let (Some(ms), Some(frames)) = (self.drift_ms, self.drift_frames) {
            let _ = writeln!(
                text,
                "{:<20} {ms:.1} ms, {frames:.2} frames (worst of {} sessions)",
                "drift", self.drift_sessions
            );
        }
        let _ = writeln!(text, "{:<20} {}", "interruptions", self.clears);
        let _ = writeln!(
            text,
            "{:<20} {} idle, {} skipped",
            "background only", self.idle_frames, self.skipped_frames
        );
        text
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

    /// A line of a search's log.
    #[must_use]
    pub fn one_line(&self, passed: bool) -> String {
        let p95 = self.latency_ms.map_or_else(
            || "-".to_owned(),
            |latency| format!("{:.0} ms", latency.p95),
        );
        format!(
            "{:>6} users: p95 {p95}, errors {:.1} %, {:.0} frames/s: {}",
            self.users,
            self.error_rate * 100.0,
            self.frames_per_second,
            if passed { "passed" } else { "failed" }
        )
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self, unit: &str) -> String {
        let mut rows: Vec<(String, String)> = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        row("users", self.users.to_string());
        row("measured", format!("{:.1} s", self.measured_s));
        row(
            &format!("{unit}s"),
            format!("{} ({:.1}/s)", self.requests, self.requests_per_second),
        );
        row("frames/s", format!("{:.1}", self.frames_per_second));
        row(
            "missed frames",
            format!(
                "{} of {} ({:.2} %)",
                self.frames_missed,
                self.frames_wanted,
                100.0 * ratio(self.frames_missed, self.frames_wanted as f64)
            ),
        );
        row("errors", format!("{:.2} %", self.error_rate * 100.0));
        for (name, count) in &self.outcomes {
            row(&format!("  {name}"), count.to_string());
        }
        if let Some(example) = &self.example_failure {
            row("last failure", example.clone());
        }
        row(
            "bytes/frame",
            format!(
                "{:.0} up, {:.0} down",
                self.bytes_up_per_frame, self.bytes_down_per_frame
            ),
        );
        let mut text = String::new();
        for (name, value) in rows {
            let _ = writeln!(text, "{name:<20} {value}");
        }
        text.push_str(&self.latency_table());
        text.push_str(&self.tenants_table(unit));
        text
    }

    /// A line for each tenant.
    fn tenants_table(&self, unit: &str) -> String {
        if self.tenants.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "\n{:<20} {:>6} {:>9} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8}\n",
            "tenant",
            "users",
            format!("{unit}s"),
            "errors",
            "missed",
            "frames/s",
            "p50 ms",
            "p95 ms",
            "p99 ms"
        );
        for of in &self.tenants {
            let figures = &of.figures;
            let at = |quantile: fn(Quantiles) -> f64| {
                let latency = figures.latency_ms.map(quantile);
                latency.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"))
            };
            let missed = ratio(figures.frames_missed, figures.frames_wanted as f64);
            let _ = writeln!(
                text,
                "{:<20} {:>6} {:>9} {:>6.2} % {:>7.2} % {:>9.1} {:>8} {:>8} {:>8}",
                of.tenant,
                figures.users,
                figures.requests,
                100.0 * figures.error_rate,
                100.0 * missed,
                figures.frames_per_second,
                at(|q| q.p50),
                at(|q| q.p95),
                at(|q| q.p99),
            );
            let refused = figures.outcomes.iter().filter(|(name, _)| *name != "OK");
            for (name, count) in refused {
                let _ = writeln!(text, "  {name}: {count}");
            }
        }
        text
    }

    fn latency_table(&self) -> String {
        let mut text = format!(
            "\n{:<20} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
            "ms", "mean", "p50", "p95", "p99", "p99.9", "max"
        );
        let live = self.live.as_ref();
        let lines = [
            ("latency (from due)", self.latency_ms),
            ("from actual send", self.service_ms),
            ("first frame", self.first_frame_ms),
            ("  after its audio", live.and_then(|l| l.first_frame_ms)),
            ("frame interval", live.and_then(|l| l.interval_ms)),
            ("clear to cleared", live.and_then(|l| l.clear_ms)),
        ];
        for (name, quantiles) in lines {
            let Some(q) = quantiles else { continue };
            let _ = writeln!(
                text,
                "{name:<20} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
                q.mean, q.p50, q.p95, q.p99, q.p999, q.max
            );
        }
        if let Some(live) = live {
            text.push_str(&live.lines());
        }
        text
    }
}

fn ratio(part: u64, whole: f64) -> f64 {
    if whole > 0.0 {
        part as f64 / whole
    } else {
        0.0
    }
}

/// The kind of measurement.
#[derive(Debug)]
pub enum Outcome {
    /// One run.
    Run(Box<Summary>),
    /// A search.
    Search(Capacity),
    /// A comparison.
    Equality(Equality),
}

/// The whole report, for `--json`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    machine: &'a Machine,
    server: Option<Server>,
    settings: &'a Args,
    /// The profile in words.
    load: &'static str,
    models: Vec<&'a Model>,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_users: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<&'a [Summary]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    equality: Option<&'a Equality>,
}

/// The server's description of itself.
#[derive(Debug, Serialize)]
struct Server {
    version: String,
    device: String,
    workers: u32,
}

impl From<&GetServerStatsResponse> for Server {
    fn from(stats: &GetServerStatsResponse) -> Self {
        Self {
            version: stats.version.clone(),
            device: stats.device.clone(),
            workers: stats.worker_count,
        }
    }
}

impl Outcome {
    /// Whether the run kept within the error budget; for a search, whether at least one user could be served; for a
    /// comparison, whether there were frames and all were equal.
    #[must_use]
    pub fn passed(&self, args: &Args) -> bool {
        match self {
            Self::Run(summary) => summary.within_budget(args.max_error_rate),
            Self::Search(capacity) => capacity.max_users > 0,
            Self::Equality(found) => found.frames > 0 && found.different == 0,
        }
    }

    /// Everything about the run, for programs.
    #[must_use]
    pub fn document<'a>(
        &'a self,
        args: &'a Args,
        plan: &'a Plan,
        machine: &'a Machine,
    ) -> Document<'a> {
        let mut document = Document {
            machine,
            server: plan.server().map(Server::from),
            settings: args,
            load: args.profile.describe(),
            models: plan.models().collect(),
            passed: self.passed(args),
            run: None,
            max_users: None,
            probes: None,
            equality: None,
        };
        match self {
            Self::Run(summary) => document.run = Some(summary),
            Self::Search(found) => {
                document.max_users = Some(found.max_users);
                document.probes = Some(&found.probes);
            }
            Self::Equality(found) => document.equality = Some(found),
        }
        document
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self, args: &Args, plan: &Plan, machine: &Machine) -> String {
        let mut text = heading(args, plan, machine);
        let unit = if args.stream { "frame" } else { "request" };
        match self {
            Self::Run(summary) => text.push_str(&summary.table(unit)),
            Self::Search(capacity) => {
                let _ = writeln!(
                    text,
                    "most users            {} (p95 <= {} ms, errors <= {} %)\n",
                    capacity.max_users,
                    args.slo_p95_ms,
                    args.max_error_rate * 100.0
                );
                let best = capacity.probes.iter().rev();
                if let Some(best) = best.into_iter().find(|p| p.users == capacity.max_users) {
                    text.push_str(&best.table(unit));
                }
            }
            Self::Equality(found) => text.push_str(&found.to_string()),
        }
        if !self.passed(args) {
            text.push_str("\nFAILED: ");
            text.push_str(match self {
                Self::Equality(Equality { frames: 0, .. }) => "no frames to compare\n",
                Self::Equality(_) => "frames differ\n",
                _ => "the error budget is exceeded, or nothing could be measured\n",
            });
        }
        text
    }
}

fn heading(args: &Args, plan: &Plan, machine: &Machine) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} on {} ({} cores), {}",
        args.addr, machine.cpu, machine.cores, machine.date
    );
    if let Some(server) = plan.server() {
        let _ = writeln!(
            text,
            "server {}, {}, {} workers",
            server.version, server.device, server.worker_count
        );
    }
    let models: Vec<&str> = plan.models().map(|model| model.id.as_str()).collect();
    let kind = match (args.stream, args.pacing) {
        (false, _) => "unary",
        (true, Pace::Asap) => "streams, as fast as possible",
        (true, Pace::Realtime) => "streams, in real time",
    };
    let _ = writeln!(
        text,
        "{kind}, {}, models {}, batch {}\n",
        args.profile.describe(),
        models.join(" "),
        args.batch
    );
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::stats::{Clock, Outcome, Sample};

    fn summary(outcomes: &[Outcome]) -> Summary {
        let mut stats = Stats::new(Clock {
            start: Instant::now(),
            warm_up: Duration::ZERO,
            end: Duration::from_secs(2),
        });
        for outcome in outcomes {
            stats.record(&Sample {
                intended: Duration::ZERO,
                sent: Some(Duration::ZERO),
                done: Duration::from_millis(100),
                due: Duration::from_millis(320),
                n_frames: 8,
                bytes_up: 80,
                bytes_down: 8_000,
                outcome: *outcome,
            });
        }
        Summary::new(1, &stats, Duration::from_secs(9))
    }

    #[test]
    fn rates_and_budget() {
        let unavailable = Outcome::Status(tonic::Code::Unavailable);
        let summary = summary(&[
            Outcome::Frames,
            Outcome::Frames,
            Outcome::Frames,
            unavailable,
        ]);
        assert_eq!(summary.frames_per_second, 12.0);
        assert_eq!(summary.bytes_down_per_frame, 1_000.0);
        assert_eq!(summary.error_rate, 0.25);
        assert!(summary.within_budget(0.25) && !summary.within_budget(0.24));
        let table = summary.table("request");
        assert!(table.contains("UNAVAILABLE"), "{table}");
        assert!(table.contains("8 of 32 (25.00 %)"), "{table}");
    }

    #[test]
    fn an_empty_run_passes_no_budget() {
        let summary = summary(&[]);
        assert!(!summary.within_budget(1.0));
        assert_eq!(summary.latency_ms, None);
        assert!(summary.table("request").contains("0 of 0 (0.00 %)"));
    }
}
