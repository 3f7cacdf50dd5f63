//! What the rules need to know, from the parts of the server.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use lipsync_core::saturate::u64_of;
use lipsync_engine::Device;
use lipsync_registry::{ModelState, ModelStatus, PackState, PrecisionReason};
use lipsync_telemetry::{Buckets, HistogramSnapshot};

use super::evidence::{Keys, ModelNow, ModelTotals, State, Totals};
use crate::{
    core_state::Shared,
    telemetry::{memory::MemoryFigures, process::ProcessFigures, snapshot::Snapshot},
};

impl Totals {
    /// What is counted now.
    pub(crate) fn take(
        shared: &Shared,
        snapshot: &Snapshot,
        process: &ProcessFigures,
        session_seconds: u64,
    ) -> Self {
        let book = &shared.pipeline.book;
        let mut waits = HistogramSnapshot::empty(&Buckets::LATENCY);
        book.waits().for_each(|(_, wait)| waits.add(&wait));
        let refusals = book.refusals().into_iter();
        let models = snapshot.models.iter();
        let cpu = process.cpu_seconds.unwrap_or(0.0);
        Self {
            at_s: shared.started.elapsed().as_secs(),
            models: models
                .map(|model| (model.id.as_str().into(), ModelTotals::of(model)))
                .collect(),
            waits,
            session_frames: snapshot.sessions.frames,
            late_frames: snapshot.sessions.late_frames,
            skipped_frames: snapshot.sessions.skipped_frames,
            session_seconds,
            busy: snapshot.pool.workers.iter().map(|w| w.busy).sum(),
            cpu: Duration::try_from_secs_f64(cpu).unwrap_or_default(),
            refusals: refusals
                .map(|([reason], n)| (reason, n.get()))
                .collect::<BTreeMap<_, _>>(),
            visual_evictions: snapshot.visual_cache.evictions,
        }
    }
}

impl ModelTotals {
    fn of(model: &ModelStatus) -> Self {
        let cache = model.background_cache.as_ref();
        let visual = model.visual_cache;
        let evictions = model.times.unloads.iter();
        Self {
            frames: model.frames,
            requests: cache.map_or(0, |cache| cache.requests),
            hits: cache.map_or(0, |cache| cache.hits),
            visual_requests: visual.map_or(0, |cache| cache.hits + cache.misses),
            visual_hits: visual.map_or(0, |cache| cache.hits),
            uses: model.usage_count,
            evictions: evictions
                .filter(|(reason, _)| reason.name() == "room")
                .map(|(_, n)| n)
                .sum(),
        }
    }
}

impl State {
    /// What there is now.
    pub(crate) fn take(shared: &Shared, snapshot: &Snapshot, memory: &MemoryFigures) -> Self {
        let workers = snapshot.pool.workers.iter();
        let mut devices: Vec<Device> = workers.map(|worker| worker.device).collect();
        devices.sort_unstable();
        devices.dedup();
        let n_devices = u64_of(devices.len()).max(1);
        let free = |gpu: &crate::gpus::GpuStatus| {
            gpu.memory_total_bytes.saturating_sub(gpu.memory_used_bytes)
        };
        Self {
            keys: Keys::of(shared, snapshot.visual_cache.capacity_bytes / n_devices),
            n_cpus: std::thread::available_parallelism().map_or(1, |n| u64_of(n.get())),
            n_devices,
            is_gpu: devices.iter().any(|device| *device != Device::Cpu),
            memory: memory.tightest(),
            gpu_free_bytes: snapshot.gpus.iter().map(free).min(),
            visual_bytes: snapshot.visual_cache.resident_bytes,
            frame_bytes: shared.registry.frame_bytes(),
            models: snapshot.models.iter().map(ModelNow::of).collect(),
        }
    }
}

impl Keys {
    fn of(shared: &Shared, visual_cache_bytes: u64) -> Self {
        let (hot, limits) = (shared.hot(), &shared.limits);
        let registry = &hot.registry;
        Self {
            visual_cache_bytes,
            background_cache_frames: u64_of(registry.background_cache_frames),
            max_host_bytes: registry.max_frame_bytes,
            max_models: u64_of(registry.max_models),
            max_model_bytes: registry.max_bytes,
            has_idle_timeout: registry.idle_timeout.is_some(),
            bake: registry.bake,
            n_workers: u64_of(limits.workers.max()),
            queue_size: u64_of(limits.queue_capacity),
            max_sessions: u64_of(hot.session.max_sessions),
            max_upload_bytes: u64_of(limits.max_upload_bytes),
            max_unsent_bytes: u64_of(limits.max_unsent_bytes),
        }
    }
}

impl ModelNow {
    fn of(model: &ModelStatus) -> Self {
        let mean = |bytes: u64, n: u64| bytes.checked_div(n).unwrap_or(0);
        let cache = model.background_cache.as_ref();
        let visual = model.visual_cache;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| u64_of(now.as_millis()));
        let idle_ms = model.last_used_unix_ms.map(|ms| now_ms.saturating_sub(ms));
        let reason = model.precision.as_ref().map(|in_use| in_use.reason);
        Self {
            id: model.id.as_str().into(),
            is_ready: model.state == ModelState::Ready,
            n_frames: model.info.map_or(0, |info| info.n_frames.into()),
            weight_bytes: model.reserved_bytes,
            frame_bytes: cache.map_or(0, |cache| {
                mean(cache.resident_bytes, u64_of(cache.resident_frames))
            }),
            entry_bytes: visual
                .map_or(0, |cache| mean(cache.resident_bytes, cache.resident_frames)),
            cache_frames: cache.map_or(0, |cache| u64_of(cache.capacity_frames)),
            has_pack: matches!(
                model.pack,
                Some(PackState::Ready { .. } | PackState::Baking { .. })
            ),
            // Never used: that says nothing.
            idle_s: idle_ms.map_or(0, |ms| ms / 1000),
            faster: match reason {
                Some(PrecisionReason::NotCompared(faster)) => Some(name_of(faster)),
                _ => None,
            },
        }
    }
}

fn name_of(precision: lipsync_engine::Precision) -> &'static str {
    match precision {
        lipsync_engine::Precision::F32 => "f32",
        lipsync_engine::Precision::Bf16 => "bf16",
        lipsync_engine::Precision::Int16 => "int16",
        lipsync_engine::Precision::Int8(..) => "int8",
    }
}
