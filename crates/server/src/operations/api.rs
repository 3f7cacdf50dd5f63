//! `/api/...`: what the page's panel shows, as JSON. The names are those of the contract; times are in
//! microseconds, states and stages are words.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use lipsync::v1;
use serde::Serialize;

use super::context::{Context, FRESH};
use crate::service::{model_admin, server_admin};

/// `GetServerStats`.
#[derive(Serialize)]
struct Server {
    version: String,
    device: String,
    uptime_us: u64,
    queue_depth: u32,
    queue_capacity: u32,
    sessions: u32,
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
}

/// `GpuStatus`.
#[derive(Serialize)]
struct Gpu {
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
    frames: u64,
    busy_us: u64,
    restarts: u64,
    faults: u64,
    out_of_memory: u64,
}

/// `StageStats`.
#[derive(Serialize)]
struct Stage {
    stage: String,
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
    width: u32,
    height: u32,
    audio_kind: String,
    frames: u64,
    weights_bytes: u64,
    cache_bytes: u64,
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
pub(super) async fn models(State(context): State<Context>) -> Response {
    json(&list(&context))
}

/// `GetServerStats` and `ListModels`.
pub(super) async fn stats(State(context): State<Context>) -> Response {
    let stats = server_admin::stats(&context.shared);
    json(&Stats {
        server: Server::new(stats, context.shared.session.max_sessions),
        models: list(&context),
    })
}

fn list(context: &Context) -> Vec<Model> {
    let registry = &context.shared.registry;
    let workers = &context.shared.pipeline.workers;
    let models = registry.list();
    models
        .iter()
        .map(|m| model_admin::to_proto(m, registry, workers).into())
        .collect()
}

impl Server {
    fn new(stats: v1::GetServerStatsResponse, max_sessions: usize) -> Self {
        let worker = |worker: v1::WorkerStats| Worker {
            device: worker.device,
            frames: worker.frames,
            busy_us: worker.busy_us,
            restarts: worker.restarts,
            faults: worker.faults,
            out_of_memory: worker.out_of_memory,
        };
        let shared = stats.shared_batches.unwrap_or_default();
        let stage = |stage: v1::StageStats| Stage {
            stage: stage.stage,
            runs: stage.runs,
            frames: stage.frames,
            total_us: stage.total_us,
        };
        let sessions = stats.session_stats.unwrap_or_default();
        Self {
            version: stats.version,
            device: stats.device,
            uptime_us: stats.uptime_us,
            queue_depth: stats.queue_depth,
            queue_capacity: stats.queue_capacity,
            sessions: stats.sessions,
            max_sessions,
            submitted: stats.submitted,
            completed: stats.completed,
            failed: stats.failed,
            rejected: stats.rejected,
            cancelled: stats.cancelled,
            draining: stats.draining,
            resident_bytes: stats.resident_bytes,
            workers: stats.workers.into_iter().map(worker).collect(),
            stages: stats.stages.into_iter().map(stage).collect(),
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
            gpus: stats.gpus.into_iter().map(Gpu::from).collect(),
            shared_batches: Shared {
                full: shared.full,
                idle: shared.idle,
                wait_over: shared.wait_over,
            },
        }
    }
}

impl From<v1::GpuStatus> for Gpu {
    fn from(gpu: v1::GpuStatus) -> Self {
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

impl From<v1::ModelStats> for Model {
    fn from(model: v1::ModelStats) -> Self {
        let state = match model.state() {
            v1::ModelState::Unspecified | v1::ModelState::Unloaded => "unloaded",
            v1::ModelState::Loading => "loading",
            v1::ModelState::Ready => "ready",
            v1::ModelState::Failed => "failed",
        };
        let cache = model.background_cache.unwrap_or_default();
        Self {
            model_id: model.model_id,
            device: model.device,
            state,
            failure: model.failure,
            fps: model.fps,
            width: model.width,
            height: model.height,
            audio_kind: model.audio_kind,
            frames: model.frames,
            weights_bytes: model.weights_bytes,
            cache_bytes: model.cache_bytes,
            cache_requests: cache.requests,
            cache_hits: cache.hits,
        }
    }
}

fn json(value: &impl Serialize) -> Response {
    const TYPE: HeaderValue = HeaderValue::from_static("application/json");
    match serde_json::to_vec(value) {
        Ok(text) => (FRESH, [(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the statistics as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
