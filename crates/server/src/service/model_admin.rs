//! `ModelAdmin`: what models there are, and in which state.

use std::sync::Arc;

use lipsync::v1::{self, model_admin_server::ModelAdmin};
use lipsync_core::{
    ModelId,
    saturate::{micros, u32_of},
};
use lipsync_engine::VisualCacheStats;
use lipsync_registry::{CacheStats, ModelState, ModelStatus, PackState, PrecisionInUse, Registry};
use lipsync_serving::{
    ServeError,
    admission::{Admission, Work},
    batch::waiting,
    caller::Caller,
};
use lipsync_worker_pool::{BreakerState, WorkerPool};
use tonic::{Request, Response, Status};

use crate::{
    core_state::Shared,
    request_layer::Arrival,
    wire::{request::parse_model_id, status::to_status},
};

/// The service.
#[derive(Clone)]
pub struct ModelAdminService {
    admission: Arc<Admission>,
    registry: Registry,
    workers: Arc<WorkerPool>,
}

impl ModelAdminService {
    /// A service over the models of a server.
    #[must_use]
    pub fn new(shared: &Shared) -> Self {
        Self {
            admission: Arc::clone(&shared.admission),
            registry: shared.registry.clone(),
            workers: Arc::clone(&shared.pipeline.workers),
        }
    }

    async fn load(
        &self,
        request: Request<v1::LoadModelRequest>,
    ) -> Result<v1::LoadModelResponse, ServeError> {
        let arrival = Arrival::of(request.extensions());
        arrival.headers.caller.check_admin()?;
        let id = parse_model_id(&request.get_ref().model_id)?;
        let admission = &self.admission;
        let _place = admission.admit(&arrival.headers.caller, Work::Load)?;
        let loading = admission.unless_draining(self.registry.load(&id));
        let lease = waiting(arrival.upload.as_deref(), loading).await??;
        Ok(v1::LoadModelResponse {
            model: Some(self.one(&id)?),
            load_us: micros(lease.load_time),
        })
    }

    async fn unload(
        &self,
        request: &Request<v1::UnloadModelRequest>,
    ) -> Result<v1::UnloadModelResponse, ServeError> {
        caller(request).check_admin()?;
        let id = parse_model_id(&request.get_ref().model_id)?;
        let registry = self.registry.clone();
        // Gives back the memory of a whole model.
        let unloading = tokio::task::spawn_blocking(move || registry.unload(&id));
        let was_loaded = unloading.await.map_err(ServeError::internal)??;
        Ok(v1::UnloadModelResponse { was_loaded })
    }

    fn one(&self, id: &ModelId) -> Result<v1::ModelStats, ServeError> {
        let status = self.registry.status(id)?;
        Ok(to_proto(&status, &self.registry, &self.workers))
    }

    /// A model as its tenants see it: what it is and how it is, but not what all of them do with it.
    fn as_seen_by(&self, caller: &Caller, status: &ModelStatus) -> v1::ModelStats {
        let all = to_proto(status, &self.registry, &self.workers);
        if caller.rights.is_admin {
            return all;
        }
        v1::ModelStats {
            model_id: all.model_id,
            state: all.state,
            failure: all.failure,
            fps: all.fps,
            audio_kind: all.audio_kind,
            n_background_frames: all.n_background_frames,
            width: all.width,
            height: all.height,
            precision: all.precision,
            precision_reason: all.precision_reason,
            circuit: all.circuit,
            single_frames: all.single_frames,
            ..v1::ModelStats::default()
        }
    }

    fn stats(
        &self,
        request: &Request<v1::GetModelStatsRequest>,
    ) -> Result<v1::GetModelStatsResponse, ServeError> {
        let caller = caller(request);
        let id = parse_model_id(&request.get_ref().model_id)?;
        caller.check_visible(&id)?;
        Ok(v1::GetModelStatsResponse {
            model: Some(self.as_seen_by(&caller, &self.registry.status(&id)?)),
        })
    }
}

fn caller<T>(request: &Request<T>) -> Caller {
    Arrival::of(request.extensions()).headers.caller
}

#[tonic::async_trait]
impl ModelAdmin for ModelAdminService {
    async fn list_models(
        &self,
        request: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        let caller = caller(&request);
        let models = self.registry.list();
        let visible = models
            .iter()
            .filter(|model| caller.rights.may_see(&model.id));
        let models = visible.map(|model| self.as_seen_by(&caller, model));
        let models = models.collect();
        Ok(Response::new(v1::ListModelsResponse { models }))
    }

    async fn load_model(
        &self,
        request: Request<v1::LoadModelRequest>,
    ) -> Result<Response<v1::LoadModelResponse>, Status> {
        let loaded = self.load(request).await;
        loaded.map(Response::new).map_err(to_status)
    }

    async fn unload_model(
        &self,
        request: Request<v1::UnloadModelRequest>,
    ) -> Result<Response<v1::UnloadModelResponse>, Status> {
        let unloaded = self.unload(&request).await;
        unloaded.map(Response::new).map_err(to_status)
    }

    async fn get_model_stats(
        &self,
        request: Request<v1::GetModelStatsRequest>,
    ) -> Result<Response<v1::GetModelStatsResponse>, Status> {
        let stats = self.stats(&request);
        stats.map(Response::new).map_err(to_status)
    }
}

/// What is known of a model: its status, and how its network fares.
fn to_proto(status: &ModelStatus, registry: &Registry, workers: &WorkerPool) -> v1::ModelStats {
    let model = registry.resident(&status.id);
    let health = model.map(|model| workers.health(model.generator()));
    let circuit = health.map_or(v1::CircuitState::Unspecified, |health| {
        match health.breaker {
            BreakerState::Closed => v1::CircuitState::Closed,
            BreakerState::Open => v1::CircuitState::Open,
            BreakerState::HalfOpen => v1::CircuitState::HalfOpen,
        }
    });
    v1::ModelStats {
        circuit: circuit.into(),
        single_frames: health.is_some_and(|health| health.single_frames),
        ..status_to_proto(status)
    }
}

fn status_to_proto(status: &ModelStatus) -> v1::ModelStats {
    let state = match status.state {
        ModelState::Unloaded => v1::ModelState::Unloaded,
        ModelState::Loading => v1::ModelState::Loading,
        ModelState::Ready => v1::ModelState::Ready,
        ModelState::Failed => v1::ModelState::Failed,
    };
    let info = status.info;
    let caches = [&status.background_cache, &status.decoded_cache];
    let pack = status.pack.as_ref();
    let precision = status.precision.as_ref();
    let verdict = precision.and_then(|p| p.verdict.as_ref());
    v1::ModelStats {
        model_id: status.id.to_string(),
        state: state.into(),
        failure: status.failure.clone().unwrap_or_default(),
        device: status.device.clone().unwrap_or_default(),
        weights_bytes: status.weights_bytes,
        cache_bytes: caches
            .iter()
            .copied()
            .flatten()
            .map(|c| c.resident_bytes)
            .sum(),
        usage_count: status.usage_count,
        last_used_unix_ms: status.last_used_unix_ms.unwrap_or(0),
        total_inference_us: micros(status.total_inference),
        frames: status.frames,
        background_cache: status.background_cache.as_ref().map(cache_to_proto),
        decoded_cache: status.decoded_cache.as_ref().map(cache_to_proto),
        fps: info.map_or(0, |i| i.fps.get()),
        audio_kind: info.map_or_else(String::new, |i| i.audio_kind.to_string()),
        n_background_frames: info.map_or(0, |i| i.n_frames),
        width: info.map_or(0, |i| u32_of(i.width)),
        height: info.map_or(0, |i| u32_of(i.height)),
        precision: precision.map_or_else(String::new, PrecisionInUse::name),
        precision_reason: precision.map_or_else(String::new, |p| p.reason.to_string()),
        bf16_psnr_min_db: verdict.map_or(0.0, |v| v.bf16.psnr_min_db),
        bf16_psnr_mean_db: verdict.map_or(0.0, |v| v.bf16.psnr_mean_db),
        bf16_frames_compared: verdict.map_or(0, |v| v.bf16.frames),
        loads: status.loads,
        unloads: status.unloads,
        reserved_bytes: status.reserved_bytes,
        visual_cache: status.visual_cache.map(visual_cache_to_proto),
        ..pack.map(pack_to_proto).unwrap_or_default()
    }
}

pub(super) fn visual_cache_to_proto(stats: VisualCacheStats) -> v1::VisualCacheStats {
    v1::VisualCacheStats {
        hits: stats.hits,
        misses: stats.misses,
        prepared: stats.prepared,
        evictions: stats.evictions,
        resident_frames: stats.resident_frames,
        resident_bytes: stats.resident_bytes,
        capacity_bytes: stats.capacity_bytes,
    }
}

/// The fields of a model that tell of its pack.
fn pack_to_proto(pack: &PackState) -> v1::ModelStats {
    let mut stats = v1::ModelStats::default();
    let state = match pack {
        PackState::None => v1::PackState::None,
        PackState::Baking { n_done, .. } => {
            stats.pack_frames_baked = *n_done;
            v1::PackState::Baking
        }
        PackState::Ready { n_bytes } => {
            stats.pack_bytes = *n_bytes;
            v1::PackState::Ready
        }
        PackState::Refused { fault } => {
            stats.pack_fault = fault.to_string();
            v1::PackState::Refused
        }
    };
    stats.pack_state = state.into();
    stats
}

fn cache_to_proto(cache: &CacheStats) -> v1::CacheStats {
    v1::CacheStats {
        requests: cache.requests,
        hits: cache.hits,
        misses: cache.misses,
        hit_rate: cache.hit_rate(),
        evictions: cache.evictions,
        mean_load_us: micros(cache.mean_load_time()),
        resident_frames: u32_of(cache.resident_frames),
        capacity_frames: u32_of(cache.capacity_frames),
        resident_bytes: cache.resident_bytes,
        read_ahead: cache.read_ahead,
        read_ahead_hits: cache.read_ahead_hits,
    }
}
