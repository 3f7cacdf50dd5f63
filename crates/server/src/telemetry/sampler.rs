//! Takes the main figures once a second, and lets alarms and advice follow from them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    advice::{State, Totals},
    memory::MemoryFigures,
    process::ProcessFigures,
    recent::Recent,
    sample::Sample,
    snapshot::Snapshot,
};
use crate::core_state::Shared;

const INTERVAL: Duration = Duration::from_secs(1);
/// How long a restart of a worker is news.
const RESTARTS_WINDOW: Duration = Duration::from_secs(300);
/// Advice follows from every tenth sample.
const SAMPLES_TO_ADVICE: u64 = 10;

/// What is remembered between samples.
struct Memory {
    before: Option<Sample>,
    restarts: Recent,
    n_samples: u64,
    /// Sum of the open sessions over all samples.
    session_seconds: u64,
}

/// Notes the figures every second until it is dropped.
pub(crate) async fn keep_sampling(shared: Arc<Shared>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut memory = Memory {
        before: None,
        restarts: Recent::new(RESTARTS_WINDOW),
        n_samples: 0,
        session_seconds: 0,
    };
    loop {
        ticks.tick().await;
        let shared = Arc::clone(&shared);
        // It asks the system, and adds up what all tenants did.
        let sampling = tokio::task::spawn_blocking(move || memory.sample(&shared));
        match sampling.await {
            Ok(after) => memory = after,
            Err(error) => return tracing::error!(%error, "figures are no longer sampled"),
        }
    }
}

impl Memory {
    fn sample(mut self, shared: &Shared) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_s = now.unwrap_or(Duration::ZERO).as_secs();
        let (snapshot, figures) = (Snapshot::take(shared), MemoryFigures::read());
        let process = ProcessFigures::read_quickly();
        let sample = Sample::take(shared, &snapshot, (&process, &figures), &mut self.restarts);
        let hot = shared.hot();
        if let Some(before) = &self.before {
            let changes = shared.past.note(sample.since(before), &hot.alerts, now_s);
            for change in changes {
                change.log();
                shared.poster.post(&change, &hot.alerts);
            }
        }
        self.session_seconds += snapshot.open_sessions as u64;
        if self.n_samples.is_multiple_of(SAMPLES_TO_ADVICE) {
            let totals = Totals::take(shared, &snapshot, &process, self.session_seconds);
            let state = State::take(shared, &snapshot, &figures);
            let turns = shared.past.advise(totals, &state, now_s);
            turns.iter().for_each(super::advice::Turn::log);
        }
        self.n_samples += 1;
        self.before = Some(sample);
        self
    }
}
