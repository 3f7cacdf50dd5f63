//! `ServerAdmin`: counters and the state of the whole server.

use std::{pin::Pin, sync::Arc, time::Duration};

use lipsync::v1::{self, server_admin_server::ServerAdmin};
use lipsync_core::saturate::{micros, u32_of};
use lipsync_registry::{ModelState, ModelStatus};
use lipsync_serving::{
    ServeError,
    phase::Phase,
    telemetry::{Stage, StageTime},
};
use lipsync_worker_pool::{RecoveryStats, WorkerStats};
use tokio_stream::{Stream, StreamExt as _, wrappers::IntervalStream};
use tonic::{Request, Response, Status};

use super::{explain::explain, model_admin::visual_cache_to_proto};
use crate::{
    core_state::Shared,
    gpus::GpuStatus,
    request_layer::Arrival,
    telemetry::Snapshot,
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

/// These figures are of all tenants together.
fn check_admin<T>(request: &Request<T>) -> Result<(), Status> {
    let caller = Arrival::of(request.extensions()).headers.caller;
    caller.check_admin().map_err(to_status)
}

#[tonic::async_trait]
impl ServerAdmin for ServerAdminService {
    async fn get_server_stats(
        &self,
        request: Request<v1::GetServerStatsRequest>,
    ) -> Result<Response<v1::GetServerStatsResponse>, Status> {
        check_admin(&request)?;
        Ok(Response::new(stats(&self.shared)))
    }

    async fn explain_tenants(
        &self,
        request: Request<v1::ExplainTenantsRequest>,
    ) -> Result<Response<v1::ExplainTenantsResponse>, Status> {
        let caller = Arrival::of(request.extensions()).headers.caller;
        let wanted = request.into_inner().tenant_id;
        let shared = Arc::clone(&self.shared);
        // A word about each of many tenants takes its time.
        let explaining = tokio::task::spawn_blocking(move || explain(&shared, &caller, &wanted));
        let explained = explaining.await;
        let explained = explained.map_err(|error| to_status(ServeError::internal(error)))?;
        explained.map(Response::new).map_err(to_status)
    }

    type WatchServerStatsStream =
        Pin<Box<dyn Stream<Item = Result<v1::GetServerStatsResponse, Status>> + Send>>;

    async fn watch_server_stats(
        &self,
        request: Request<v1::WatchServerStatsRequest>,
    ) -> Result<Response<Self::WatchServerStatsStream>, Status> {
        check_admin(&request)?;
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

/// The statistics of the contract.
fn stats(shared: &Shared) -> v1::GetServerStatsResponse {
    to_proto(Snapshot::take(shared))
}

fn to_proto(snapshot: Snapshot) -> v1::GetServerStatsResponse {
    let Snapshot { pool, models, .. } = snapshot;
    let is_ready = |model: &&ModelStatus| model.state == ModelState::Ready;
    v1::GetServerStatsResponse {
        version: snapshot.version.into(),
        uptime_us: micros(snapshot.uptime),
        device: snapshot.device,
        worker_count: u32_of(pool.n_workers()),
        queue_capacity: u32_of(pool.queue_capacity),
        queue_depth: u32_of(pool.queue_depth),
        submitted: pool.submitted,
        completed: pool.completed,
        failed: pool.failed,
        rejected: pool.rejected + snapshot.rejected,
        cancelled: pool.cancelled,
        workers: (0..).zip(&pool.workers).map(worker_to_proto).collect(),
        models_loaded: u32_of(models.iter().filter(is_ready).count()),
        models_configured: u32_of(models.len()),
        sessions: u32_of(snapshot.open_sessions),
        draining: snapshot.phase == Phase::Draining,
        resident_bytes: snapshot.resident_bytes,
        session_stats: Some(stats_to_proto(snapshot.sessions)),
        visual_cache: Some(visual_cache_to_proto(snapshot.visual_cache)),
        gpus: snapshot.gpus.into_iter().map(gpu_to_proto).collect(),
        shared_batches: Some(v1::SharedBatches {
            full: pool.shared.full,
            idle: pool.shared.idle,
            wait_over: pool.shared.wait_over,
        }),
        shed: pool.shed,
        recovery: Some(recovery_to_proto(pool.recovery)),
        stages: snapshot.stages.iter().map(stage_to_proto).collect(),
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

fn worker_to_proto((index, worker): (u32, &WorkerStats)) -> v1::WorkerStats {
    v1::WorkerStats {
        worker: index,
        batches: worker.batches,
        frames: worker.frames,
        busy_us: micros(worker.busy),
        restarts: worker.restarts,
        device: worker.device.to_string(),
        faults: worker.faults,
        out_of_memory: worker.out_of_memory,
    }
}

fn stage_to_proto((stage, time): &(Stage, StageTime)) -> v1::StageStats {
    v1::StageStats {
        stage: stage.name().into(),
        runs: time.runs(),
        frames: time.frames,
        total_us: time.total_us(),
    }
}

fn gpu_to_proto(gpu: GpuStatus) -> v1::GpuStatus {
    v1::GpuStatus {
        device: gpu.device,
        name: gpu.name,
        memory_used_bytes: gpu.memory_used_bytes,
        memory_total_bytes: gpu.memory_total_bytes,
        utilization_percent: gpu.utilization_percent,
        temperature_c: gpu.temperature_c,
        power_mw: gpu.power_mw,
        power_limit_mw: gpu.power_limit_mw,
    }
}
