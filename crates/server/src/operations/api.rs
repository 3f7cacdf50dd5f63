//! `/api/...`: what the page's panel shows, as JSON. The names are those of the contract; times are in
//! microseconds, states and stages are words.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use lipsync_core::saturate::micros;
use lipsync_registry::{ModelState, ModelStatus};
use lipsync_serving::{caller::Caller, phase::Phase, telemetry};
use lipsync_worker_pool::WorkerStats;
use serde::Serialize;
use tokio::task::JoinError;

use super::{
    context::{Context, FRESH},
    reload::Reloads,
    tenants::{self, TenantRow},
    visitor::{Visitor, caller, check_admin},
};
use crate::{gpus::GpuStatus, reload::ReloadStats, telemetry::Snapshot};

/// `GetServerStats`.
#[derive(Serialize)]
struct Server {
    version: &'static str,
    device: String,
    uptime_us: u64,
    queue_depth: usize,
    queue_capacity: usize,
    sessions: usize,
    max_sessions: usize,
    submitted: u64,
    completed: u64,
    failed: u64,
    rejected: u64,
    cancelled: u64,
    draining: bool,
    resident_bytes: u64,
    workers: Vec<Worker>,
    stages: Vec<Stage>,
    session_stats: Sessions,
    gpus: Vec<Gpu>,
    shared_batches: Shared,
    reload: Reloads,
    has_tenants: bool,
    tenants: Vec<TenantRow>,
}

/// `GpuStatus`.
#[derive(Serialize)]
pub(super) struct Gpu {
    device: String,
    name: String,
    memory_used_bytes: u64,
    memory_total_bytes: u64,
    utilization_percent: u32,
    temperature_c: u32,
    power_mw: u32,
    power_limit_mw: u32,
}

/// `SharedBatches`.
#[derive(Serialize)]
struct Shared {
    full: u64,
    idle: u64,
    wait_over: u64,
}

/// `SessionStats`.
#[derive(Serialize)]
struct Sessions {
    frames: u64,
    silent_frames: u64,
    idle_frames: u64,
    skipped_frames: u64,
    late_frames: u64,
    max_late_us: u64,
    too_slow: u64,
    clears: u64,
}

/// `WorkerStats`.
#[derive(Serialize)]
struct Worker {
    device: String,
    is_here: bool,
    frames: u64,
    busy_us: u64,
    restarts: u64,
    faults: u64,
    out_of_memory: u64,
}

/// `StageStats`.
#[derive(Serialize)]
struct Stage {
    stage: &'static str,
    runs: u64,
    frames: u64,
    total_us: u64,
}

/// `ModelStats`.
#[derive(Serialize)]
struct Model {
    model_id: String,
    device: String,
    state: &'static str,
    failure: String,
    fps: u32,
    width: usize,
    height: usize,
    audio_kind: String,
    frames: u64,
    weights_bytes: u64,
    cache_bytes: u64,
    visual_cache_bytes: u64,
    cache_requests: u64,
    cache_hits: u64,
}

/// Both; a page asks once a second.
#[derive(Serialize)]
struct Stats {
    server: Server,
    models: Vec<Model>,
}

/// `ListModels`.
pub(super) async fn models(State(context): State<Context>, visitor: Visitor) -> Response {
    match caller(&context, &visitor) {
        Ok(caller) => {
            let models = context.shared.registry.list();
            let visible = models.iter().filter(|m| caller.rights.may_see(&m.id));
            let seen = visible.map(|m| Model::from(m).seen_by(&caller));
            json(&seen.collect::<Vec<_>>())
        }
        Err(refusal) => *refusal,
    }
}

/// `GetServerStats` and `ListModels`.
pub(super) async fn stats(State(context): State<Context>, visitor: Visitor) -> Response {
    if let Err(refusal) = check_admin(&context, &visitor) {
        return *refusal;
    }
    let shared = Arc::clone(&context.shared);
    let write = move || {
        let snapshot = Snapshot::take(&shared);
        let models = snapshot.models.iter().map(Model::from).collect();
        let mut server = Server::new(snapshot, shared.reload.stats());
        let known = shared.hot().tenants.clone();
        server.has_tenants = !known.is_empty();
        server.tenants = tenants::rows(&known, &shared.pipeline.book);
        text(&Stats { server, models })
    };
    written(context.pages.stats.page(write).await)
}

impl Server {
    fn new(snapshot: Snapshot, reload: ReloadStats) -> Self {
        let Snapshot { pool, sessions, .. } = snapshot;
        Self {
            version: snapshot.version,
            device: snapshot.device,
            uptime_us: micros(snapshot.uptime),
            queue_depth: pool.queue_depth,
            queue_capacity: pool.queue_capacity,
            sessions: snapshot.open_sessions,
            max_sessions: snapshot.max_sessions,
            submitted: pool.submitted,
            completed: pool.completed,
            failed: pool.failed,
            rejected: pool.rejected + snapshot.rejected,
            cancelled: pool.cancelled,
            draining: snapshot.phase == Phase::Draining,
            resident_bytes: snapshot.resident_bytes,
            workers: pool.workers.iter().map(Worker::from).collect(),
            stages: snapshot.stages.iter().map(Stage::from).collect(),
            session_stats: Sessions {
                frames: sessions.frames,
                silent_frames: sessions.silent_frames,
                idle_frames: sessions.idle_frames,
                skipped_frames: sessions.skipped_frames,
                late_frames: sessions.late_frames,
                max_late_us: sessions.max_late_us,
                too_slow: sessions.too_slow,
                clears: sessions.clears,
            },
            gpus: snapshot.gpus.into_iter().map(Gpu::from).collect(),
            shared_batches: Shared {
                full: pool.shared.full,
                idle: pool.shared.idle,
                wait_over: pool.shared.wait_over,
            },
            reload: reload.into(),
            has_tenants: false,
            tenants: Vec::new(),
        }
    }
}

impl From<&WorkerStats> for Worker {
    fn from(worker: &WorkerStats) -> Self {
        Self {
            device: worker.device.to_string(),
            is_here: worker.is_here,
            frames: worker.frames,
            busy_us: micros(worker.busy),
            restarts: worker.restarts,
            faults: worker.faults,
            out_of_memory: worker.out_of_memory,
        }
    }
}

impl From<&(telemetry::Stage, telemetry::StageTime)> for Stage {
    fn from((stage, time): &(telemetry::Stage, telemetry::StageTime)) -> Self {
        Self {
            stage: stage.name(),
            runs: time.runs(),
            frames: time.frames,
            total_us: time.total_us(),
        }
    }
}

impl From<GpuStatus> for Gpu {
    fn from(gpu: GpuStatus) -> Self {
        Self {
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
}

impl Model {
    /// As its tenants see it: what it is and how it is, but not what all of them do with it.
    fn seen_by(self, caller: &Caller) -> Self {
        if caller.rights.is_admin {
            return self;
        }
        Self {
            device: String::new(),
            frames: 0,
            weights_bytes: 0,
            cache_bytes: 0,
            visual_cache_bytes: 0,
            cache_requests: 0,
            cache_hits: 0,
            ..self
        }
    }
}

impl From<&ModelStatus> for Model {
    fn from(model: &ModelStatus) -> Self {
        let (info, cache) = (model.info, model.background_cache.as_ref());
        let caches = [&model.background_cache, &model.decoded_cache];
        let caches = caches.into_iter().flatten();
        Self {
            model_id: model.id.to_string(),
            device: model.device.clone().unwrap_or_default(),
            state: state_name(model.state),
            failure: model.failure.clone().unwrap_or_default(),
            fps: info.map_or(0, |i| i.fps.get()),
            width: info.map_or(0, |i| i.width),
            height: info.map_or(0, |i| i.height),
            audio_kind: info.map_or_else(String::new, |i| i.audio_kind.to_string()),
            frames: model.frames,
            weights_bytes: model.weights_bytes,
            cache_bytes: caches.map(|cache| cache.resident_bytes).sum(),
            visual_cache_bytes: model.visual_cache.map_or(0, |cache| cache.resident_bytes),
            cache_requests: cache.map_or(0, |cache| cache.requests),
            cache_hits: cache.map_or(0, |cache| cache.hits),
        }
    }
}

/// A state as a word.
pub(super) const fn state_name(state: ModelState) -> &'static str {
    match state {
        ModelState::Unloaded => "unloaded",
        ModelState::Loading => "loading",
        ModelState::Ready => "ready",
        ModelState::Failed => "failed",
    }
}

/// A phase as a word.
pub(super) const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Leaving => "leaving",
        Phase::Draining => "draining",
    }
}

/// An answer that is true only now.
pub(super) fn json(value: &impl Serialize) -> Response {
    written(Ok(text(value).into()))
}

/// A value as JSON. It is empty where that cannot be, which is a fault of the server.
pub(super) fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot write the statistics as JSON");
        Vec::new()
    })
}

/// What [`text`] has made.
pub(super) fn written(text: Result<Bytes, JoinError>) -> Response {
    const TYPE: HeaderValue = HeaderValue::from_static("application/json");
    match text {
        Ok(text) if !text.is_empty() => {
            (FRESH, [(header::CONTENT_TYPE, TYPE)], text).into_response()
        }
        Ok(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Err(error) => {
            tracing::error!(%error, "the writing of statistics ended early");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
