//! `ServerAdmin`: counters and the state of the whole server.

use std::{pin::Pin, sync::Arc, time::Duration};

use lipsync::v1::{self, server_admin_server::ServerAdmin};
use lipsync_core::saturate::{micros, u32_of};
use lipsync_registry::ModelState;
use lipsync_serving::{ServeError, phase::Phase, stages::Stage};
use lipsync_worker_pool::RecoveryStats;
use tokio_stream::{Stream, StreamExt as _, wrappers::IntervalStream};
use tonic::{Request, Response, Status};

use super::model_admin::visual_cache_to_proto;
use crate::{
    core_state::Shared,
    wire::{session::stats_to_proto, status::to_status},
};

/// The service.
#[derive(Debug, Clone)]
pub struct ServerAdminService {
    shared: Arc<Shared>,
}

impl ServerAdminService {
    /// A service over the shared parts.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl ServerAdmin for ServerAdminService {
    async fn get_server_stats(
        &self,
        _request: Request<v1::GetServerStatsRequest>,
    ) -> Result<Response<v1::GetServerStatsResponse>, Status> {
        Ok(Response::new(stats(&self.shared)))
    }

    type WatchServerStatsStream =
        Pin<Box<dyn Stream<Item = Result<v1::GetServerStatsResponse, Status>> + Send>>;

    async fn watch_server_stats(
        &self,
        request: Request<v1::WatchServerStatsRequest>,
    ) -> Result<Response<Self::WatchServerStatsStream>, Status> {
        let interval_ms = match request.get_ref().interval_ms {
            0 => 1000,
            ms @ 100..=60_000 => ms,
            other => {
                let message = format!("expected 100 to 60000 (0 = 1000), found {other}");
                return Err(to_status(ServeError::invalid("interval_ms", message)));
            }
        };
        let shared = Arc::clone(&self.shared);
        let ticks = tokio::time::interval(Duration::from_millis(interval_ms.into()));
        // A watcher must not hold up the end of the server.
        let draining = Arc::clone(&self.shared);
        let answers = IntervalStream::new(ticks)
            .map(move |_tick| Ok(stats(&shared)))
            .take_while(move |_| !draining.admission.is_draining());
        Ok(Response::new(Box::pin(answers)))
    }
}

pub(crate) fn stats(shared: &Shared) -> v1::GetServerStatsResponse {
    let pool = shared.pipeline.workers.stats();
    let models = shared.registry.list();
    let workers = pool
        .workers
        .iter()
        .enumerate()
        .map(|(index, worker)| v1::WorkerStats {
            worker: u32_of(index),
            batches: worker.batches,
            frames: worker.frames,
            busy_us: micros(worker.busy),
            restarts: worker.restarts,
            device: worker.device.to_string(),
            faults: worker.faults,
            out_of_memory: worker.out_of_memory,
        });
    v1::GetServerStatsResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_us: micros(shared.started.elapsed()),
        device: shared.device.clone(),
        worker_count: u32_of(pool.n_workers()),
        queue_capacity: u32_of(pool.queue_capacity),
        queue_depth: u32_of(pool.queue_depth),
        submitted: pool.submitted,
        completed: pool.completed,
        failed: pool.failed,
        rejected: pool.rejected + shared.admission.n_rejected(),
        cancelled: pool.cancelled,
        workers: workers.collect(),
        models_loaded: u32_of(
            models
                .iter()
                .filter(|m| m.state == ModelState::Ready)
                .count(),
        ),
        models_configured: u32_of(models.len()),
        sessions: u32_of(shared.admission.n_sessions()),
        draining: *shared.phase.borrow() == Phase::Draining,
        resident_bytes: shared.registry.resident_bytes(),
        session_stats: Some(stats_to_proto(shared.sessions.stats())),
        visual_cache: Some(visual_cache_to_proto(shared.registry.visual_cache())),
        gpus: shared.gpus.latest(),
        shared_batches: Some(v1::SharedBatches {
            full: pool.shared.full,
            idle: pool.shared.idle,
            wait_over: pool.shared.wait_over,
        }),
        shed: pool.shed,
        recovery: Some(recovery_to_proto(pool.recovery)),
        stages: Stage::ALL.map(|stage| stage_to_proto(shared, stage)).into(),
    }
}

fn recovery_to_proto(stats: RecoveryStats) -> v1::RecoveryStats {
    v1::RecoveryStats {
        failed_batches: stats.failed_batches,
        split_batches: stats.split_batches,
        retries: stats.retries,
        recovered: stats.recovered,
        failed_frames: stats.failed_frames,
        circuits_opened: stats.breaker_opened,
        circuits_closed: stats.breaker_closed,
        circuit_refused: stats.breaker_refused,
        single_frames_begun: stats.single_begun,
        single_frames_ended: stats.single_ended,
    }
}

fn stage_to_proto(shared: &Shared, stage: Stage) -> v1::StageStats {
    let time = shared.pipeline.clocks.of(stage);
    v1::StageStats {
        stage: stage.name().into(),
        runs: time.runs,
        frames: time.frames,
        total_us: micros(time.total),
    }
}
