//! `lipsync.MultiTenantLipSync`: one window of features a batch, PNG files.

use std::sync::Arc;

use lipsync::legacy::multi_tenant::{self as pb, multi_tenant_lip_sync_server::MultiTenantLipSync};
use lipsync_core::saturate::u64_of;
use tonic::{Request, Response, Status};

use super::{
    frames::{Core, Made, in_band, not_loaded},
    models::Known,
    numbers::{ms, small},
    order::{Ask, Picture, Speech},
};
use crate::core_state::Shared;

/// The service.
#[derive(Debug, Clone)]
pub struct MultiTenantLegacy(Core);

impl MultiTenantLegacy {
    /// A service over the shared parts.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(Core::new(shared))
    }
}

fn ask(message: pb::CompositeBatchRequest) -> Ask {
    Ask {
        model_id: message.model_id,
        visuals: message.visual_frames,
        speech: Speech::Window(message.audio_features),
        batch_size: message.batch_size,
        start_frame_idx: message.start_frame_idx,
        picture: Picture::Png,
    }
}

fn frames(made: Made) -> pb::CompositeBatchResponse {
    pb::CompositeBatchResponse {
        composited_frames: made.frames,
        inference_time_ms: ms(made.timings.infer),
        composite_time_ms: ms(made.timings.composite),
        total_time_ms: ms(made.timings.total),
        model_loaded: !made.load_time.is_zero(),
        model_load_time_ms: ms(made.load_time),
        success: true,
        error: String::new(),
    }
}

fn refused(error: String) -> pb::CompositeBatchResponse {
    pb::CompositeBatchResponse {
        error,
        ..Default::default()
    }
}

fn info(model: Known) -> pb::ModelInfo {
    let stats = model.is_loaded.then(|| stats(&model));
    pb::ModelInfo {
        model_id: model.id,
        loaded: model.is_loaded,
        stats,
        ..Default::default()
    }
}

fn stats(model: &Known) -> pb::ModelStats {
    pb::ModelStats {
        usage_count: model.usage_count,
        last_used_unix_ms: model.last_used_unix_ms,
        total_inference_time_ms: ms(model.inference),
        memory_bytes: model.memory_bytes,
        loaded_unix_ms: 0,
    }
}

#[tonic::async_trait]
impl MultiTenantLipSync for MultiTenantLegacy {
    async fn infer_batch_composite(
        &self,
        request: Request<pb::CompositeBatchRequest>,
    ) -> Result<Response<pb::CompositeBatchResponse>, Status> {
        self.0.composite(request, ask, frames, refused).await
    }

    async fn list_models(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let models = self.0.models(request.extensions(), "").await?;
        let models = models.into_iter().map(info).collect();
        Ok(Response::new(pb::ListModelsResponse { models }))
    }

    async fn load_model(
        &self,
        request: Request<pb::LoadModelRequest>,
    ) -> Result<Response<pb::LoadModelResponse>, Status> {
        let message = request.get_ref();
        let (id, again) = (message.model_id.as_str(), message.force_reload);
        let loaded = self.0.load(request.extensions(), id, again).await;
        let loaded = loaded.map(|(model, time)| pb::LoadModelResponse {
            success: true,
            load_time_ms: ms(time),
            stats: Some(stats(&model)),
            ..Default::default()
        });
        let refused = |error| pb::LoadModelResponse {
            error,
            ..Default::default()
        };
        Ok(in_band(loaded.map(Response::new), refused))
    }

    async fn unload_model(
        &self,
        request: Request<pb::UnloadModelRequest>,
    ) -> Result<Response<pb::UnloadModelResponse>, Status> {
        let id = request.get_ref().model_id.as_str();
        let unloaded = self.0.unload(request.extensions(), id).await;
        let unloaded = unloaded.map(|was_loaded| pb::UnloadModelResponse {
            success: was_loaded,
            error: not_loaded(was_loaded),
        });
        let refused = |error| pb::UnloadModelResponse {
            success: false,
            error,
        };
        Ok(in_band(unloaded.map(Response::new), refused))
    }

    async fn get_model_stats(
        &self,
        request: Request<pb::GetModelStatsRequest>,
    ) -> Result<Response<pb::GetModelStatsResponse>, Status> {
        let extensions = request.extensions();
        let mut models = self
            .0
            .models(extensions, &request.get_ref().model_id)
            .await?;
        models.retain(|model| model.is_loaded);
        let capacity = self.0.capacity(extensions, &models);
        Ok(Response::new(pb::GetModelStatsResponse {
            loaded_models: small(u64_of(models.len())),
            models: models.into_iter().map(info).collect(),
            max_models: capacity.max_models,
            total_memory_bytes: capacity.memory_bytes,
            max_memory_bytes: capacity.max_memory_bytes,
        }))
    }

    async fn health(
        &self,
        request: Request<pb::HealthRequest>,
    ) -> Result<Response<pb::HealthResponse>, Status> {
        let health = self.0.health(request.extensions()).await?;
        Ok(Response::new(pb::HealthResponse {
            healthy: health.is_healthy,
            cuda_available: self.0.shared.device.contains("cuda"),
            loaded_models: health.loaded_models,
            max_models: health.max_models,
            version: env!("CARGO_PKG_VERSION").into(),
        }))
    }
}
