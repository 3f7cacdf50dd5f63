//! The alarms of a running server: which are raised, since when, and what the log says of them.

use lipsync_telemetry::{Alarm, Severity};

use crate::config::{Alert, Alerts};

/// All alarms, and where they stand.
#[derive(Debug)]
pub(crate) struct Alarms(Vec<State>);

#[derive(Debug)]
struct State {
    alert: Alert,
    alarm: Alarm,
    latest: f64,
    /// When the severity changed last, seconds since the Unix epoch.
    since_s: u64,
}

/// One alert as people see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AlarmStatus {
    pub(crate) name: &'static str,
    pub(crate) figure: &'static str,
    /// `None`: all is well.
    pub(crate) severity: Option<Severity>,
    /// The figure when it was last known.
    pub(crate) value: f64,
    pub(crate) since_s: u64,
}

/// An alarm that was raised, has got worse or better, or is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    pub(crate) status: AlarmStatus,
    pub(crate) before: Option<Severity>,
}

impl Alarms {
    /// Alarms by these limits, none raised.
    pub(crate) fn new(alerts: &Alerts) -> Self {
        let states = alerts.rules.iter().map(|alert| State {
            alert: *alert,
            alarm: Alarm::default(),
            latest: f64::NAN,
            since_s: 0,
        });
        Self(states.collect())
    }

    /// Takes other limits, of the same figures.
    pub(crate) fn follow(&mut self, alerts: &Alerts) {
        for (state, alert) in self.0.iter_mut().zip(&alerts.rules) {
            state.alert = *alert;
        }
    }

    /// Looks at all figures at `now_s`; gives what has changed.
    pub(crate) fn look(&mut self, figure: impl Fn(&str) -> f64, now_s: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for state in &mut self.0 {
            let value = figure(state.alert.figure);
            if value.is_finite() {
                state.latest = value;
            }
            if let Some((before, _)) = state.alarm.look(&state.alert.rule, value, now_s) {
                state.since_s = now_s;
                changes.push(Change {
                    status: state.status(),
                    before,
                });
            }
        }
        changes
    }

    /// All of them now.
    pub(crate) fn statuses(&self) -> Vec<AlarmStatus> {
        self.0.iter().map(State::status).collect()
    }
}

impl State {
    fn status(&self) -> AlarmStatus {
        AlarmStatus {
            name: self.alert.name,
            figure: self.alert.figure,
            severity: self.alarm.severity(),
            value: self.latest,
            since_s: self.since_s,
        }
    }
}

impl Change {
    /// Writes it to the log.
    pub(crate) fn log(&self) {
        let AlarmStatus {
            name,
            figure,
            severity,
            value,
            ..
        } = self.status;
        // Each alert is a line of its own to the limit of the log.
        match severity {
            Some(Severity::Critical) => {
                tracing::error!(what = name, figure, value, "alert: critical");
            }
            Some(Severity::Warning) => tracing::warn!(what = name, figure, value, "alert: warning"),
            None => tracing::info!(what = name, figure, value, "alert: over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Config;

    /// The configured alarms over an hour in which one figure is bad for a while.
    fn changes(yaml: &str, bad: &str, value: f64) -> Vec<(u64, &'static str, Option<Severity>)> {
        let config = Config::parse(yaml, Path::new("c"), []).unwrap();
        let mut alarms = Alarms::new(&config.alerts);
        let mut seen = Vec::new();
        for now in 0..3600 {
            let is_bad = (600..1200).contains(&now);
            // A good certificate has a year left.
            let good = |name: &str| {
                if name == "certificate_days_left" {
                    365.0
                } else {
                    0.0
                }
            };
            let figure = |name: &str| {
                if is_bad && name == bad {
                    value
                } else {
                    good(name)
                }
            };
            let changes = alarms.look(figure, now);
            seen.extend(
                changes
                    .iter()
                    .map(|c| (now, c.status.name, c.status.severity)),
            );
        }
        assert!(
            alarms
                .statuses()
                .iter()
                .all(|status| status.severity.is_none())
        );
        seen
    }

    #[test]
    fn every_default_has_its_cause() {
        for (name, figure, warning, critical) in [
            ("queue_wait", "queue_wait_p95_s", 1.0, 3.0),
            ("errors", "error_ratio", 0.02, 0.5),
            ("late_frames", "late_ratio", 0.05, 0.5),
            ("memory", "memory_ratio", 0.9, 0.99),
            ("gpu_memory", "gpu_memory_ratio", 0.9, 0.99),
            ("gpu_temperature", "gpu_temperature_celsius", 88.0, 95.0),
        ] {
            let raised = |severity| [(630, name, Some(severity)), (1230, name, None)];
            assert_eq!(changes("", figure, warning), raised(Severity::Warning));
            assert_eq!(changes("", figure, critical), raised(Severity::Critical));
        }
        // A GPU that is busy is what it is for: that alone is never critical.
        let busy = changes("", "gpu_utilization_ratio", 1.0);
        let name = "gpu_utilization";
        assert_eq!(
            busy,
            [(630, name, Some(Severity::Warning)), (1230, name, None)]
        );
    }

    #[test]
    fn facts_are_told_at_once() {
        for (name, figure, warning, critical) in [
            (
                "worker_restarts",
                "worker_restarts_5m",
                Some(1.0),
                Some(5.0),
            ),
            ("workers_lost", "workers_lost", None, Some(1.0)),
            ("breakers_open", "breakers_open", Some(1.0), Some(3.0)),
            (
                "certificate",
                "certificate_days_left",
                Some(13.5),
                Some(-1.0),
            ),
            ("reload", "reload_failed", Some(1.0), None),
        ] {
            let raised = |severity| [(600, name, Some(severity)), (1200, name, None)];
            if let Some(value) = warning {
                assert_eq!(changes("", figure, value), raised(Severity::Warning));
            }
            if let Some(value) = critical {
                assert_eq!(changes("", figure, value), raised(Severity::Critical));
            }
        }
        let off = "alerts: {reload_warning: false, certificate_warning_days: 0, certificate_critical_days: 0}";
        assert_eq!(changes(off, "reload_failed", 1.0), []);
        assert_eq!(changes(off, "certificate_days_left", -5.0), []);
    }

    #[test]
    fn limits_and_times_are_those_of_the_configuration() {
        let yaml = "alerts: {for_s: 100, queue_wait_warning_ms: 0, queue_wait_critical_ms: 200}";
        let expected = [
            (700, "queue_wait", Some(Severity::Critical)),
            (1300, "queue_wait", None),
        ];
        assert_eq!(changes(yaml, "queue_wait_p95_s", 0.3), expected);
        assert_eq!(changes(yaml, "queue_wait_p95_s", 0.1), []);
        let wrong = "alerts: {errors_warning_percent: 50}";
        let refused = Config::parse(wrong, Path::new("c"), []).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("errors_critical_percent") && text.contains("found 5"),
            "{text}"
        );
        let wrong = "alerts: {certificate_critical_days: 15}";
        let refused = Config::parse(wrong, Path::new("c"), []).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("expected 0, or at most the limit of the warning, 14"),
            "{text}"
        );
    }
}
