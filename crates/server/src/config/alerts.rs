//! `alerts`: when figures are worth a line in the log, and who else is told.

use lipsync_core::saturate::u32_of;
use lipsync_telemetry::{Rule, Side};

use super::{
    BadValue,
    section::section,
    text::Text,
    webhook::{Webhook, WebhookLimits},
};

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
    hot gpu_utilization_warning_percent: u32 = 98, 0..=100;
    hot gpu_utilization_critical_percent: u32 = 0, 0..=100;
    hot worker_restarts_warning: u32 = 1, 0..=1000;
    hot worker_restarts_critical: u32 = 5, 0..=1000;
    hot workers_lost_warning: u32 = 0, 0..=1000;
    hot workers_lost_critical: u32 = 1, 0..=1000;
    hot breakers_open_warning: u32 = 1, 0..=1000;
    hot breakers_open_critical: u32 = 3, 0..=1000;
    hot certificate_warning_days: u32 = 14, 0..=3650;
    hot certificate_critical_days: u32 = 3, 0..=3650;
    hot reload_warning: bool = true;
    hot webhook: Text = "";
    hot webhook_timeout_ms: u32 = 5000, 100..=60_000;
    hot webhook_retries: u32 = 3, 0..=10;
}

/// `alerts`: limits of figures, and where to post what becomes of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Alerts {
    /// One for each figure.
    pub rules: Vec<Alert>,
    /// Where changes are posted; `None`: nowhere.
    pub webhook: Option<Webhook>,
}

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

/// How a pair of limits is written, and what that means in the figure's unit.
#[derive(Clone, Copy)]
enum Unit {
    /// Milliseconds; the figure is in seconds.
    Ms,
    /// Percent; the figure is a ratio.
    Percent,
    /// The figure's own unit.
    Same,
    /// How many it must be: it is a fact, not a swinging figure, so that nothing is waited for.
    Count,
    /// Days that must be left; a fact as well.
    DaysLeft,
}

impl Unit {
    fn limit(self, n: u64) -> Option<f64> {
        let n_units = n as f64;
        // 0 is no limit.
        (n > 0).then_some(match self {
            Self::Ms => n_units / 1000.0,
            Self::Percent => n_units / 100.0,
            Self::Same | Self::DaysLeft => n_units,
            // Above it is a whole one more than one fewer.
            Self::Count => n_units - 0.5,
        })
    }

    fn side(self) -> Side {
        match self {
            Self::DaysLeft => Side::Below,
            _ => Side::Above,
        }
    }

    fn is_fact(self) -> bool {
        matches!(self, Self::Count | Self::DaysLeft)
    }
}

/// A pair of limits as it is written.
struct Pair {
    name: &'static str,
    figure: &'static str,
    warning: u64,
    critical: u64,
    unit: Unit,
    /// The key of the critical limit.
    key: &'static str,
}

impl Pair {
    fn check(&self, for_s: u64, clear_percent: u64) -> Result<Alert, BadValue> {
        let (side, is_given) = (self.unit.side(), self.critical > 0 && self.warning > 0);
        let is_crossed = match side {
            Side::Above => self.critical < self.warning,
            Side::Below => self.critical > self.warning,
        };
        if is_given && is_crossed {
            let bound = match side {
                Side::Above => "at least",
                Side::Below => "at most",
            };
            return Err(BadValue {
                key: self.key.into(),
                message: format!(
                    "expected 0, or {bound} the limit of the warning, {}, found {}",
                    self.warning, self.critical
                ),
            });
        }
        Ok(Alert {
            name: self.name,
            figure: self.figure,
            rule: Rule {
                side,
                warning: self.unit.limit(self.warning),
                critical: self.unit.limit(self.critical),
                for_s: if self.unit.is_fact() { 0 } else { for_s },
                clear_ratio: clear_percent as f64 / 100.0,
            },
        })
    }
}

/// The pair of limits of one alert, which its keys name.
macro_rules! pair {
    ($raw:ident, $name:literal, $figure:literal, $unit:ident, $warning:ident, $critical:ident) => {
        Pair {
            name: $name,
            figure: $figure,
            warning: $raw.$warning()?,
            critical: $raw.$critical()?,
            unit: Unit::$unit,
            key: concat!("alerts.", stringify!($critical)),
        }
    };
}

impl RawAlerts {
    pub(super) fn check(&self) -> Result<Alerts, BadValue> {
        let (for_s, clear_percent) = (self.for_s()?, self.clear_percent()?);
        let pairs = self.pairs()?;
        let mut rules = pairs
            .iter()
            .map(|pair| pair.check(for_s, clear_percent))
            .collect::<Result<Vec<_>, _>>()?;
        let reload = Pair {
            name: "reload",
            figure: "reload_failed",
            warning: self.reload_warning().into(),
            critical: 0,
            unit: Unit::Count,
            key: "alerts.reload_warning",
        };
        rules.push(reload.check(for_s, clear_percent)?);
        let limits = WebhookLimits {
            timeout_ms: self.webhook_timeout_ms()?,
            n_retries: u32_of(self.webhook_retries()?),
        };
        let webhook = match self.webhook() {
            "" => None,
            url => Some(Webhook::parse("alerts.webhook", url, limits)?),
        };
        Ok(Alerts { rules, webhook })
    }

    #[rustfmt::skip]
    fn pairs(&self) -> Result<[Pair; 11], BadValue> {
        Ok([
            pair!(self, "queue_wait", "queue_wait_p95_s", Ms, queue_wait_warning_ms, queue_wait_critical_ms),
            pair!(self, "errors", "error_ratio", Percent, errors_warning_percent, errors_critical_percent),
            pair!(self, "late_frames", "late_ratio", Percent, late_frames_warning_percent, late_frames_critical_percent),
            pair!(self, "memory", "memory_ratio", Percent, memory_warning_percent, memory_critical_percent),
            pair!(self, "gpu_memory", "gpu_memory_ratio", Percent, gpu_memory_warning_percent, gpu_memory_critical_percent),
            pair!(self, "gpu_temperature", "gpu_temperature_celsius", Same, gpu_temperature_warning_c, gpu_temperature_critical_c),
            pair!(self, "gpu_utilization", "gpu_utilization_ratio", Percent, gpu_utilization_warning_percent, gpu_utilization_critical_percent),
            pair!(self, "worker_restarts", "worker_restarts_5m", Count, worker_restarts_warning, worker_restarts_critical),
            pair!(self, "workers_lost", "workers_lost", Count, workers_lost_warning, workers_lost_critical),
            pair!(self, "breakers_open", "breakers_open", Count, breakers_open_warning, breakers_open_critical),
            pair!(self, "certificate", "certificate_days_left", DaysLeft, certificate_warning_days, certificate_critical_days),
        ])
    }
}
