//! What goes on beside serving, until the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_engine::Device;
use lipsync_registry::Registry;
use lipsync_serving::phase::Phase;
use lipsync_worker_pool::LostDevice;
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};

use crate::{
    adapt::{keep_predicting, keep_scaling, keep_watching},
    config::Config,
    core_state::Shared,
    heap_keeper, reload,
    telemetry::{
        Mailbag, Past, RefusalLog, keep_history, keep_posting, keep_sampling, read_history,
    },
    tls,
    traces::{Spans, keep_exporting},
};

/// How often the registry does its housekeeping.
const TEND_INTERVAL: Duration = Duration::from_secs(5);

/// What waits to be sent to others: alerts, and spans where calls are traced.
pub(super) type Mail = (Mailbag, Option<Spans>);

/// Begins all of it. Workers may join on these devices.
pub(super) fn begin(
    shared: &Arc<Shared>,
    phase: &watch::Sender<Phase>,
    ((mailbag, spans), devices): (Mail, Vec<Device>),
) -> Vec<JoinHandle<()>> {
    let lost = shared.pipeline.workers.lost_device();
    let refusals = RefusalLog::keep_telling(Arc::clone(&shared.pipeline.book));
    let mut attendants = vec![
        tokio::spawn(tend_models(shared.registry.clone())),
        tokio::spawn(refuse_when_lost(lost, phase.clone())),
        tokio::spawn(heap_keeper::keep_trimming()),
        tokio::spawn(reload::follow(shared.reload.clone())),
        tokio::spawn(refusals),
        tokio::spawn(keep_sampling(Arc::clone(shared))),
        tokio::spawn(keep_history(Arc::clone(shared))),
        tokio::spawn(keep_posting(mailbag)),
        tokio::spawn(keep_watching(Arc::clone(shared))),
        tokio::spawn(keep_predicting(Arc::clone(shared))),
    ];
    if let Some(range) = shared.limits.workers.range() {
        let scaling = keep_scaling(Arc::clone(shared), range, devices);
        attendants.push(tokio::spawn(scaling));
    }
    attendants.extend(spans.map(|spans| tokio::spawn(keep_exporting(spans))));
    let following = shared.tls.iter().cloned().map(tls::follow);
    attendants.extend(following.map(tokio::spawn));
    attendants
}

/// What is known of the days before.
pub(super) async fn past(config: &Config) -> Past {
    let folder = config.registry.cache_dir.clone();
    let port = config.server.address.port();
    let reading =
        tokio::task::spawn_blocking(move || folder.map(|folder| read_history(&folder, port)));
    let history = reading.await.ok().flatten().unwrap_or_default();
    Past::new(&config.alerts, history)
}

/// Refuses new work once a device is lost: its workers are gone, and the rest end with the process.
async fn refuse_when_lost(
    mut lost: watch::Receiver<Option<LostDevice>>,
    phase: watch::Sender<Phase>,
) {
    if lost.wait_for(Option::is_some).await.is_ok() {
        phase.send_replace(Phase::Draining);
    }
}

pub(super) async fn tend_models(registry: Registry) {
    let mut ticks = tokio::time::interval(TEND_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let registry = registry.clone();
        // Opens packs, and gives back the memory of whole models.
        let tending = tokio::task::spawn_blocking(move || registry.tend(Instant::now()));
        match tending.await {
            Ok(dropped) => {
                for id in dropped {
                    tracing::info!(model = %id, "idle model unloaded");
                }
            }
            Err(error) => tracing::error!(%error, "the models could not be tended"),
        }
    }
}
