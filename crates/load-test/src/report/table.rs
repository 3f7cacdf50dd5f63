//! A summary as a table for people.

use std::fmt::Write as _;

use super::summary::{Live, Quantiles, Summary, ratio};

impl Summary {
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

impl Live {
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
        if self.resumed > 0 {
            let _ = writeln!(text, "{:<20} {}", "resumed sessions", self.resumed);
        }
        let _ = writeln!(
            text,
            "{:<20} {} idle, {} skipped",
            "background only", self.idle_frames, self.skipped_frames
        );
        text
    }
}
