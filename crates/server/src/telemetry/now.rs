//! Figures that are no sums: what there is at one moment.

use std::time::{Instant, SystemTime};

use lipsync_registry::ModelState;
use lipsync_worker_pool::BreakerState;

use super::{memory::MemoryFigures, process::ProcessFigures, recent::Recent, snapshot::Snapshot};
use crate::core_state::Shared;

/// See the module. Not a number where it is not known.
#[derive(Debug)]
pub(super) struct Now {
    pub(super) sessions: f64,
    pub(super) queue_depth: f64,
    pub(super) n_workers: f64,
    pub(super) resident_bytes: f64,
    pub(super) model_bytes: f64,
    pub(super) memory_ratio: f64,
    pub(super) gpu_memory_ratio: f64,
    pub(super) gpu_utilization_ratio: f64,
    pub(super) gpu_temperature_celsius: f64,
    pub(super) worker_restarts: f64,
    pub(super) workers_lost: f64,
    pub(super) breakers_open: f64,
    pub(super) certificate_days_left: f64,
    pub(super) reload_failed: f64,
}

impl Now {
    pub(super) fn new(
        shared: &Shared,
        snapshot: &Snapshot,
        (process, memory): (&ProcessFigures, &MemoryFigures),
        restarts: &mut Recent,
    ) -> Self {
        // The GPU that is worst off.
        let gpus = || snapshot.gpus.iter();
        let of_gpus =
            gpus().map(|gpu| gpu.memory_used_bytes as f64 / gpu.memory_total_bytes as f64);
        let load = gpus().map(|gpu| f64::from(gpu.utilization_percent) / 1e2);
        let temperature = gpus().map(|gpu| f64::from(gpu.temperature_c));
        let workers = || snapshot.pool.workers.iter();
        let n_restarts = workers().map(|worker| worker.restarts).sum();
        let memory = memory.tightest();
        let reload_failed = shared.reload.stats().last_error.is_some();
        Self {
            sessions: snapshot.open_sessions as f64,
            queue_depth: snapshot.pool.queue_depth as f64,
            n_workers: snapshot.pool.n_workers() as f64,
            resident_bytes: process.resident_bytes.map_or(f64::NAN, |n| n as f64),
            model_bytes: snapshot.resident_bytes as f64,
            memory_ratio: memory.map_or(f64::NAN, super::Memory::ratio),
            // The maximum of a number and none is the number.
            gpu_memory_ratio: of_gpus.fold(f64::NAN, f64::max),
            gpu_utilization_ratio: load.fold(f64::NAN, f64::max),
            gpu_temperature_celsius: temperature.fold(f64::NAN, f64::max),
            worker_restarts: restarts.note(Instant::now(), n_restarts) as f64,
            workers_lost: workers().filter(|worker| !worker.is_here).count() as f64,
            breakers_open: breakers_open(shared, snapshot) as f64,
            certificate_days_left: certificate_days_left(shared, SystemTime::now()),
            reload_failed: f64::from(u8::from(reload_failed)),
        }
    }
}

/// Models whose requests are refused, or let through one by one, because their network keeps failing.
fn breakers_open(shared: &Shared, snapshot: &Snapshot) -> usize {
    let ready = snapshot.models.iter();
    let ready = ready.filter(|model| model.state == ModelState::Ready);
    let is_open = |model: &&lipsync_registry::ModelStatus| {
        let model = shared.registry.resident(&model.id);
        let health = model.map(|m| shared.pipeline.workers.health(m.generator()));
        health.is_some_and(|health| health.breaker != BreakerState::Closed)
    };
    ready.filter(is_open).count()
}

/// Until the first certificate of a port ends; negative where one has. Not a number without certificates.
fn certificate_days_left(shared: &Shared, now: SystemTime) -> f64 {
    const DAY_S: f64 = 86_400.0;
    let ends = shared.tls.iter().filter_map(|port| port.not_after());
    let left = ends.map(|end| match end.duration_since(now) {
        Ok(left) => left.as_secs_f64() / DAY_S,
        Err(over) => -over.duration().as_secs_f64() / DAY_S,
    });
    left.fold(f64::NAN, f64::min)
}
