//! `/resource-status` and `/gpu-status`: what the server takes of its machine, all of it, as JSON.
//!
//! Bytes, seconds and ratios from 0 to 1, as in `/metrics`. `null` where something is not known.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{extract::State, response::Response};
use lipsync_core::saturate::{millis, u64_of};
use lipsync_registry::{CacheStats, ModelStatus};
use lipsync_worker_pool::WorkerStats;
use serde::Serialize;

use super::{
    api::{Gpu, phase_name, state_name, text, written},
    context::Context,
    visitor::{Visitor, check_admin},
};
use crate::{
    core_state::Shared,
    telemetry::{self, Details, MemoryFigures, ProcessFigures, Snapshot},
};

#[derive(Serialize)]
struct Resources {
    at_unix_ms: u64,
    version: &'static str,
    device: String,
    phase: &'static str,
    uptime_s: f64,
    host: Host,
    process: Process,
    workers: Workers,
    queue: Queue,
    sessions: Room,
    uploads: Room,
    models: Models,
    visual_cache: VisualCache,
    ports: Vec<Port>,
}

#[derive(Serialize)]
struct Host {
    cpus: usize,
    /// Processes that run or wait to: means of 1, 5 and 15 minutes.
    load: Option<[f64; 3]>,
    memory: Option<Memory>,
    /// The container's, or that of another control group with a limit.
    control_group_memory: Option<Memory>,
}

#[derive(Serialize)]
struct Memory {
    total_bytes: u64,
    available_bytes: u64,
    used_ratio: f64,
}

#[derive(Serialize)]
struct Process {
    cpu_s: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_files: Option<u64>,
    max_files: u64,
}

#[derive(Serialize)]
struct Workers {
    here: usize,
    lost: usize,
    busy_ratio: Option<f64>,
    each: Vec<Worker>,
}

#[derive(Serialize)]
struct Worker {
    number: usize,
    device: String,
    is_here: bool,
    frames: u64,
    batches: u64,
    busy_s: f64,
    restarts: u64,
    faults: u64,
    out_of_memory: u64,
}

#[derive(Serialize)]
struct Queue {
    depth: usize,
    limit: usize,
    jobs_in_flight: u64,
}

/// How much of something there is, and how much there may be.
#[derive(Serialize)]
struct Room {
    now: u64,
    limit: u64,
}

#[derive(Serialize)]
struct Models {
    ready: usize,
    limit: usize,
    weight_bytes: u64,
    /// Of each device.
    weight_limit_bytes: u64,
    frame_bytes: u64,
    frame_limit_bytes: u64,
    each: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    model_id: String,
    state: &'static str,
    device: Option<String>,
    weight_bytes: u64,
    frame_bytes: u64,
    decoded_bytes: u64,
    visual_cache_bytes: u64,
    frames: u64,
    compute_s: f64,
    last_used_unix_ms: Option<u64>,
}

#[derive(Serialize)]
struct VisualCache {
    bytes: u64,
    limit_bytes: u64,
    hits: u64,
    misses: u64,
    evictions: u64,
}

#[derive(Serialize)]
struct Port {
    port: &'static str,
    connections: u64,
    accepted: u64,
    received_bytes: u64,
    sent_bytes: u64,
    is_encrypted: bool,
    /// When the first certificate of its chain ends, seconds since the Unix epoch.
    certificate_ends_unix_s: Option<u64>,
}

/// GPUs that run networks.
#[derive(Serialize)]
struct Gpus {
    at_unix_ms: u64,
    /// What runs the networks.
    device: String,
    /// Whether NVIDIA's management library answers.
    is_watched: bool,
    /// Why, where a device has failed for good.
    lost: Option<Lost>,
    gpus: Vec<GpuOfWorkers>,
}

#[derive(Serialize)]
struct Lost {
    device: String,
    reason: String,
}

#[derive(Serialize)]
struct GpuOfWorkers {
    #[serde(flatten)]
    gpu: Gpu,
    workers: usize,
    frames: u64,
    faults: u64,
    out_of_memory: u64,
}

/// All that the server takes of its machine.
pub(super) async fn resource_status(State(context): State<Context>, visitor: Visitor) -> Response {
    if let Err(refusal) = check_admin(&context, &visitor) {
        return *refusal;
    }
    let shared = Arc::clone(&context.shared);
    let write = move || text(&Resources::take(&shared));
    written(context.pages.resources.page(write).await)
}

/// The GPUs, if any run networks.
pub(super) async fn gpu_status(State(context): State<Context>, visitor: Visitor) -> Response {
    if let Err(refusal) = check_admin(&context, &visitor) {
        return *refusal;
    }
    let shared = Arc::clone(&context.shared);
    let write = move || text(&Gpus::take(&shared));
    written(context.pages.gpus.page(write).await)
}

fn now_unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    millis(now.unwrap_or(Duration::ZERO))
}

impl Gpus {
    /// All of them now.
    fn take(shared: &Shared) -> Self {
        let (gpus, pool) = (shared.gpus.latest(), shared.pipeline.workers.stats());
        let lost = shared.pipeline.workers.lost_device();
        let lost = lost.borrow().clone();
        let gpus = gpus.into_iter().map(|gpu| {
            let of_gpu = |worker: &&WorkerStats| worker.device.to_string() == gpu.device;
            let workers: Vec<_> = pool.workers.iter().filter(of_gpu).collect();
            GpuOfWorkers {
                workers: workers.iter().filter(|worker| worker.is_here).count(),
                frames: workers.iter().map(|worker| worker.frames).sum(),
                faults: workers.iter().map(|worker| worker.faults).sum(),
                out_of_memory: workers.iter().map(|worker| worker.out_of_memory).sum(),
                gpu: gpu.into(),
            }
        });
        let gpus: Vec<_> = gpus.collect();
        Self {
            at_unix_ms: now_unix_ms(),
            device: shared.device.clone(),
            is_watched: !gpus.is_empty(),
            lost: lost.map(|lost| Lost {
                device: lost.device.to_string(),
                reason: lost.reason,
            }),
            gpus,
        }
    }
}

impl Resources {
    /// All of it now. Blocking: it asks the system.
    fn take(shared: &Shared) -> Self {
        let (snapshot, details) = (Snapshot::take(shared), Details::take(shared));
        let ports = details.ports.iter().map(|(port, figures)| {
            let tls = details.certificates.iter().find(|(of, _)| of == port);
            let end = tls.and_then(|(_, end)| end.duration_since(SystemTime::UNIX_EPOCH).ok());
            Port {
                port,
                connections: figures.open,
                accepted: figures.accepted,
                received_bytes: figures.received_bytes,
                sent_bytes: figures.sent_bytes,
                is_encrypted: details.encrypted.contains(port),
                certificate_ends_unix_s: end.map(|end| end.as_secs()),
            }
        });
        Self {
            at_unix_ms: now_unix_ms(),
            version: snapshot.version,
            phase: phase_name(snapshot.phase),
            uptime_s: snapshot.uptime.as_secs_f64(),
            host: Host::take(),
            process: Process::new(&details.process, details.max_files),
            workers: Workers::new(&snapshot.pool.workers, details.busy_ratio),
            queue: Queue {
                depth: snapshot.pool.queue_depth,
                limit: snapshot.pool.queue_capacity,
                jobs_in_flight: snapshot.pool.in_flight,
            },
            sessions: Room::new(snapshot.open_sessions, snapshot.max_sessions),
            uploads: Room::new(snapshot.upload_bytes, shared.limits.max_upload_bytes),
            models: Models::new(shared, &snapshot.models),
            visual_cache: VisualCache {
                bytes: snapshot.visual_cache.resident_bytes,
                limit_bytes: snapshot.visual_cache.capacity_bytes,
                hits: snapshot.visual_cache.hits,
                misses: snapshot.visual_cache.misses,
                evictions: snapshot.visual_cache.evictions,
            },
            ports: ports.collect(),
            device: snapshot.device,
        }
    }
}

impl Room {
    fn new(now: usize, limit: usize) -> Self {
        Self {
            now: u64_of(now),
            limit: u64_of(limit),
        }
    }
}

impl Host {
    fn take() -> Self {
        let memory = MemoryFigures::read();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<f64> = load.split(' ').filter_map(|n| n.parse().ok()).collect();
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            load: load.first_chunk().copied(),
            memory: memory.machine.map(Memory::from),
            control_group_memory: memory.group.map(Memory::from),
        }
    }
}

impl From<telemetry::Memory> for Memory {
    fn from(memory: telemetry::Memory) -> Self {
        Self {
            total_bytes: memory.total,
            available_bytes: memory.available,
            used_ratio: memory.ratio(),
        }
    }
}

impl Process {
    fn new(figures: &ProcessFigures, max_files: u64) -> Self {
        Self {
            cpu_s: figures.cpu_seconds,
            resident_bytes: figures.resident_bytes,
            virtual_bytes: figures.virtual_bytes,
            threads: figures.threads,
            open_files: figures.open_files,
            max_files,
        }
    }
}

impl Workers {
    fn new(workers: &[WorkerStats], busy_ratio: Option<f64>) -> Self {
        let here = workers.iter().filter(|worker| worker.is_here).count();
        let each = workers.iter().enumerate().map(|(number, worker)| Worker {
            number,
            device: worker.device.to_string(),
            is_here: worker.is_here,
            frames: worker.frames,
            batches: worker.batches,
            busy_s: worker.busy.as_secs_f64(),
            restarts: worker.restarts,
            faults: worker.faults,
            out_of_memory: worker.out_of_memory,
        });
        Self {
            here,
            lost: workers.len() - here,
            busy_ratio,
            each: each.collect(),
        }
    }
}

impl Models {
    fn new(shared: &Shared, models: &[ModelStatus]) -> Self {
        let hot = shared.hot();
        Self {
            ready: shared.registry.n_ready(),
            limit: hot.registry.max_models,
            weight_bytes: shared.registry.reserved_bytes(),
            weight_limit_bytes: hot.registry.max_bytes,
            frame_bytes: shared.registry.frame_bytes(),
            frame_limit_bytes: hot.registry.max_frame_bytes,
            each: models.iter().map(Model::from).collect(),
        }
    }
}

impl From<&ModelStatus> for Model {
    fn from(model: &ModelStatus) -> Self {
        let bytes = |cache: &Option<CacheStats>| cache.as_ref().map_or(0, |c| c.resident_bytes);
        Self {
            model_id: model.id.to_string(),
            state: state_name(model.state),
            device: model.device.clone(),
            weight_bytes: model.weights_bytes,
            frame_bytes: bytes(&model.background_cache),
            decoded_bytes: bytes(&model.decoded_cache),
            visual_cache_bytes: model.visual_cache.map_or(0, |c| c.resident_bytes),
            frames: model.frames,
            compute_s: model.total_inference.as_secs_f64(),
            last_used_unix_ms: model.last_used_unix_ms,
        }
    }
}
