//! `alerts`: when figures are worth a line in the log.

use lipsync_telemetry::Rule;

use super::{BadValue, section::section};

section! {
    /// `alerts`, as it is written.
    RawAlerts in "alerts";
    hot for_s: u32 = 30, 0..=86_400;
    hot clear_percent: u32 = 80, 1..=100;
    hot queue_wait_warning_ms: u32 = 500, 0..=600_000;
    hot queue_wait_critical_ms: u32 = 2000, 0..=600_000;
    hot errors_warning_percent: u32 = 1, 0..=100;
    hot errors_critical_percent: u32 = 5, 0..=100;
    hot late_frames_warning_percent: u32 = 2, 0..=100;
    hot late_frames_critical_percent: u32 = 10, 0..=100;
    hot memory_warning_percent: u32 = 85, 0..=100;
    hot memory_critical_percent: u32 = 95, 0..=100;
    hot gpu_memory_warning_percent: u32 = 85, 0..=100;
    hot gpu_memory_critical_percent: u32 = 95, 0..=100;
    hot gpu_temperature_warning_c: u32 = 85, 0..=150;
    hot gpu_temperature_critical_c: u32 = 92, 0..=150;
}

/// `alerts`: limits of figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Alerts(pub Vec<Alert>);

/// The limits of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alert {
    /// Its name in the log, in JSON and in metrics.
    pub name: &'static str,
    /// The figure of the history that it is about.
    pub figure: &'static str,
    /// Its limits.
    pub rule: Rule,
}

/// A pair of limits as it is written, and how many of its units make one of the figure's.
struct Pair {
    name: &'static str,
    figure: &'static str,
    warning: u64,
    critical: u64,
    per_unit: f64,
    /// The key of the critical limit.
    key: &'static str,
}

impl RawAlerts {
    pub(super) fn check(&self) -> Result<Alerts, BadValue> {
        let (for_s, clear_percent) = (self.for_s()?, self.clear_percent()?);
        let pairs = self.pairs()?;
        let alerts = pairs.into_iter().map(|pair| {
            if pair.critical > 0 && pair.critical < pair.warning {
                return Err(BadValue {
                    key: pair.key.into(),
                    message: format!(
                        "expected 0, or at least the limit of the warning, {}, found {}",
                        pair.warning, pair.critical
                    ),
                });
            }
            // 0 is no limit.
            let limit = |n: u64| (n > 0).then(|| n as f64 / pair.per_unit);
            Ok(Alert {
                name: pair.name,
                figure: pair.figure,
                rule: Rule {
                    warning: limit(pair.warning),
                    critical: limit(pair.critical),
                    for_s,
                    clear_ratio: clear_percent as f64 / 100.0,
                },
            })
        });
        alerts.collect::<Result<_, _>>().map(Alerts)
    }

    fn pairs(&self) -> Result<[Pair; 6], BadValue> {
        Ok([
            Pair {
                name: "queue_wait",
                figure: "queue_wait_p95_s",
                warning: self.queue_wait_warning_ms()?,
                critical: self.queue_wait_critical_ms()?,
                per_unit: 1000.0,
                key: "alerts.queue_wait_critical_ms",
            },
            Pair {
                name: "errors",
                figure: "error_ratio",
                warning: self.errors_warning_percent()?,
                critical: self.errors_critical_percent()?,
                per_unit: 100.0,
                key: "alerts.errors_critical_percent",
            },
            Pair {
                name: "late_frames",
                figure: "late_ratio",
                warning: self.late_frames_warning_percent()?,
                critical: self.late_frames_critical_percent()?,
                per_unit: 100.0,
                key: "alerts.late_frames_critical_percent",
            },
            Pair {
                name: "memory",
                figure: "memory_ratio",
                warning: self.memory_warning_percent()?,
                critical: self.memory_critical_percent()?,
                per_unit: 100.0,
                key: "alerts.memory_critical_percent",
            },
            Pair {
                name: "gpu_memory",
                figure: "gpu_memory_ratio",
                warning: self.gpu_memory_warning_percent()?,
                critical: self.gpu_memory_critical_percent()?,
                per_unit: 100.0,
                key: "alerts.gpu_memory_critical_percent",
            },
            Pair {
                name: "gpu_temperature",
                figure: "gpu_temperature_celsius",
                warning: self.gpu_temperature_warning_c()?,
                critical: self.gpu_temperature_critical_c()?,
                per_unit: 1.0,
                key: "alerts.gpu_temperature_critical_c",
            },
        ])
    }
}
