//! The main figures of the last days, once a second, and the alarms that they raise.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use lipsync_core::sync::lock;
use lipsync_telemetry::{History, SCALES, Step};

use super::alarms::{AlarmStatus, Alarms, Change};
use crate::config::Alerts;

/// The figures that have a past, by name; units are in the names.
pub(crate) const FIGURES: [&str; 21] = [
    "calls_per_s",
    "refused_per_s",
    "failed_per_s",
    "error_ratio",
    "sessions",
    "frames_per_s",
    "late_ratio",
    "skipped_ratio",
    "queue_depth",
    "queue_wait_p95_s",
    "request_p95_s",
    "worker_busy_ratio",
    "resident_bytes",
    "cpu_cores",
    "model_bytes",
    "memory_ratio",
    "received_bytes_per_s",
    "sent_bytes_per_s",
    "gpu_memory_ratio",
    "gpu_utilization_ratio",
    "gpu_temperature_celsius",
];

/// How many they are.
pub(crate) const N: usize = FIGURES.len();

/// The past of the main figures. Clones are the same.
#[derive(Debug, Clone)]
pub struct Past(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    history: History<N>,
    latest: [f32; N],
    alarms: Alarms,
}

impl Past {
    /// Nothing known yet; alarms are raised by these limits.
    #[must_use]
    pub fn new(alerts: &Alerts) -> Self {
        Self(Arc::new(Mutex::new(State {
            history: History::default(),
            latest: [f32::NAN; N],
            alarms: Alarms::new(alerts),
        })))
    }

    /// Notes the figures of the last second, and looks at the alarms.
    pub(crate) fn note(&self, figures: [f32; N], alerts: &Alerts) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_s = since.unwrap_or(Duration::ZERO).as_secs();
        let mut state = lock(&self.0);
        state.latest = figures;
        state.history.note(now_s, figures);
        state.alarms.follow(alerts);
        let changes = state.alarms.look(|name| figure_of(&figures, name), now_s);
        drop(state);
        changes.iter().for_each(Change::log);
    }

    /// All alarms, and which of them are raised.
    pub(crate) fn alarms(&self) -> Vec<AlarmStatus> {
        lock(&self.0).alarms.statuses()
    }

    /// A figure as it was in the last second; `None` where it is not known.
    pub(crate) fn latest(&self, name: &str) -> Option<f64> {
        let figure = figure_of(&lock(&self.0).latest, name);
        figure.is_finite().then_some(figure)
    }

    /// The steps of a scale, the oldest first: times, and for each figure means and peaks; `None` of no scale.
    pub(crate) fn steps(&self, scale: &str) -> Option<Vec<Step<N>>> {
        SCALES.iter().find(|known| known.name == scale)?;
        Some(lock(&self.0).history.steps(scale).copied().collect())
    }
}

/// A figure by its name; not a number where it is not known.
fn figure_of(figures: &[f32; N], name: &str) -> f64 {
    let place = FIGURES.iter().position(|figure| *figure == name);
    place.map_or(f64::NAN, |place| f64::from(figures[place]))
}
