//! The main figures of the last days, once a second, the alarms that they raise, and the advice that follows.

use std::sync::{Arc, Mutex};

use lipsync_core::sync::lock;
use lipsync_telemetry::{History, SCALES, Step};

use super::{
    advice::{Adviser, Counsel, State as Present, Totals, Turn},
    alarms::{AlarmStatus, Alarms, Change},
};
use crate::config::Alerts;

/// The figures that have a past, by name; units are in the names.
pub(crate) const FIGURES: [&str; 28] = [
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
    "worker_restarts_5m",
    "workers_lost",
    "breakers_open",
    "certificate_days_left",
    "reload_failed",
    "visual_cache_hit_ratio",
    "background_cache_hit_ratio",
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
    adviser: Adviser,
}

impl Past {
    /// What is known of the days before; alarms are raised by these limits.
    #[must_use]
    pub(crate) fn new(alerts: &Alerts, history: History<N>) -> Self {
        Self(Arc::new(Mutex::new(State {
            history,
            latest: [f32::NAN; N],
            alarms: Alarms::new(alerts),
            adviser: Adviser::default(),
        })))
    }

    /// Notes the figures of the last second, and looks at the alarms; gives what has changed about them. `now_s` are
    /// seconds since the Unix epoch.
    pub(crate) fn note(&self, figures: [f32; N], alerts: &Alerts, now_s: u64) -> Vec<Change> {
        let mut state = lock(&self.0);
        state.latest = figures;
        state.history.note(now_s, figures);
        state.alarms.follow(alerts);
        state.alarms.look(|name| figure_of(&figures, name), now_s)
    }

    /// Looks at what advice follows from these counts; gives what has changed about it.
    pub(crate) fn advise(&self, totals: Totals, present: &Present, now_s: u64) -> Vec<Turn> {
        lock(&self.0).adviser.look(totals, present, now_s)
    }

    /// All advice that holds.
    pub(crate) fn counsels(&self) -> Vec<Counsel> {
        lock(&self.0).adviser.counsels()
    }

    /// The history, to be kept in a file.
    pub(crate) fn history(&self) -> History<N> {
        lock(&self.0).history.clone()
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

    /// The steps of a scale that began after `since_s`, if they are `most` at most.
    pub(crate) fn newest(&self, scale: &str, most: usize, since_s: u64) -> Option<Vec<Step<N>>> {
        let state = lock(&self.0);
        let newer = || {
            state
                .history
                .steps(scale)
                .filter(|step| since_s < step.at_s)
        };
        (newer().count() <= most).then(|| newer().copied().collect())
    }
}

/// A figure by its name; not a number where it is not known.
fn figure_of(figures: &[f32; N], name: &str) -> f64 {
    let place = FIGURES.iter().position(|figure| *figure == name);
    place.map_or(f64::NAN, |place| f64::from(figures[place]))
}
