//! Learns what is usual at which time of the day, and loads the models that are expected.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lipsync_core::{ModelId, saturate::usize_of};
use lipsync_registry::ModelState;
use tokio::time::MissedTickBehavior;

use super::{
    Expected,
    forecast::{Forecast, Pair},
};
use crate::core_state::Shared;

const INTERVAL: Duration = Duration::from_secs(60);
/// Models are loaded before they are needed only while this part of the memory for models is free after it was
/// last looked at: what is expected must not displace what is used.
const MAX_USED: f64 = 0.8;

/// Learns and predicts until it is dropped.
pub(crate) async fn keep_predicting(shared: Arc<Shared>) {
    let mut forecast = Forecast::default();
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is now, and of the time before there is nothing to say.
    ticks.tick().await;
    seen.since_last(&shared);
    loop {
        ticks.tick().await;
        let (busy, pairs) = seen.since_last(&shared);
        if !shared.hot().adapt.predict {
            shared.outlook.set(Expected::default());
            continue;
        }
        let minute = minute_of_day(SystemTime::now());
        // The minute that is over.
        forecast.note((minute + 24 * 60 - 1) % (24 * 60), busy, pairs.into_iter());
        shared.outlook.set(Expected {
            busy: forecast.expected_busy(minute),
            accuracy: forecast.accuracy(),
        });
        for model in forecast.expected_models(minute) {
            preload(&shared, &model).await;
        }
    }
}

/// Loads a model that is expected to be used, if that displaces nobody.
async fn preload(shared: &Shared, model: &str) {
    let Ok(id) = ModelId::new(model) else {
        // Of calls that name no model.
        return;
    };
    let registry = &shared.registry;
    let is_unloaded = registry
        .status(&id)
        .is_ok_and(|status| status.state == ModelState::Unloaded);
    let hot = shared.hot();
    let config = &hot.registry;
    let has_room = (registry.reserved_bytes() as f64) < MAX_USED * config.max_bytes as f64
        && registry.n_ready() < config.max_models;
    if !is_unloaded || !has_room {
        return;
    }
    let text = match registry.load(&id).await {
        Ok(_) => format!("model {id} is loaded: it is usually used at this time of the day"),
        Err(error) => return tracing::warn!(model = %id, %error, "an expected model is not loaded"),
    };
    shared.events.note("models", "expected", text);
}

/// What had been counted when it was last looked at.
#[derive(Debug, Default)]
struct Seen {
    busy: Duration,
    frames: HashMap<Pair, u64>,
}

impl Seen {
    /// Workers that were busy since then on average, and pairs that had frames made.
    fn since_last(&mut self, shared: &Shared) -> (f64, Vec<Pair>) {
        let stats = shared.pipeline.workers.stats();
        let busy: Duration = stats.workers.iter().map(|worker| worker.busy).sum();
        let spent = busy.saturating_sub(self.busy);
        self.busy = busy;
        let mut used = Vec::new();
        // Bounded as the book is.
        for (pair, figures) in shared.pipeline.book.models() {
            let frames = figures.frames.get() + figures.sessions.stats().frames;
            if self.frames.insert(pair.clone(), frames).unwrap_or(0) < frames {
                used.push(pair);
            }
        }
        (spent.as_secs_f64() / INTERVAL.as_secs_f64(), used)
    }
}

/// Minutes since midnight, UTC.
fn minute_of_day(now: SystemTime) -> usize {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.unwrap_or(Duration::ZERO).as_secs();
    usize_of(seconds / 60 % (24 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_count_from_midnight() {
        let at = |seconds| minute_of_day(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(59), at(60), at(86_399), at(86_400)],
            [0, 0, 1, 1439, 0]
        );
    }
}
