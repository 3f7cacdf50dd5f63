//! `monolithic.MonolithicService`: samples, or one window of features a batch; JPEG files.

use std::sync::Arc;

use lipsync::legacy::monolithic::{self as pb, monolithic_service_server::MonolithicService};
use lipsync_core::saturate::millis;
use tonic::{Request, Response, Status};

use super::{
    frames::{Core, Made, in_band, not_loaded},
    models::Known,
    numbers::{short_ms, signed},
    order::{Ask, Picture, Speech},
};
use crate::{core_state::Shared, gpus::GpuStatus};

/// The service.
#[derive(Debug, Clone)]
pub struct MonolithicLegacy(Core);

impl MonolithicLegacy {
    /// A service over the shared parts.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(Core::new(shared))
    }
}

fn ask(message: pb::CompositeBatchRequest) -> Ask {
    let (samples, window) = (message.raw_audio, message.audio_features);
    Ask {
        model_id: message.model_id,
        visuals: vec![message.visual_frames],
        speech: Speech::of(samples, window, message.sample_rate),
        batch_size: message.batch_size,
        start_frame_idx: message.start_frame_idx,
        picture: Picture::Jpeg,
    }
}

fn frames(made: Made) -> pb::CompositeBatchResponse {
    pb::CompositeBatchResponse {
        composited_frames: made.frames,
        inference_time_ms: short_ms(made.timings.infer),
        composite_time_ms: short_ms(made.timings.composite),
        total_time_ms: short_ms(made.timings.total),
        audio_processing_ms: short_ms(made.timings.prepare),
        model_loaded: !made.load_time.is_zero(),
        model_load_time_ms: short_ms(made.load_time),
        success: true,
        error: String::new(),
        gpu_id: made.gpu_id,
    }
}

fn refused(error: String) -> pb::CompositeBatchResponse {
    pb::CompositeBatchResponse {
        error,
        ..Default::default()
    }
}

fn info(model: Known) -> pb::ModelInfo {
    pb::ModelInfo {
        loaded: model.is_loaded,
        gpu_id: model.gpu_id,
        memory_mb: model.memory_mb(),
        request_count: model.request_count(),
        avg_inference_ms: short_ms(model.mean_inference()),
        model_id: model.id,
    }
}

fn stats(model: Known) -> pb::ModelStats {
    pb::ModelStats {
        loaded: true,
        gpu_id: model.gpu_id,
        memory_mb: model.memory_mb(),
        request_count: model.request_count(),
        total_inference_ms: signed(millis(model.inference)),
        avg_inference_ms: short_ms(model.mean_inference()),
        last_used_timestamp: model.last_used_unix_ms / 1000,
        model_id: model.id,
    }
}

/// Of a device whose name ends with its number.
fn gpu_number(gpu: &GpuStatus) -> i32 {
    let number = gpu.device.rsplit(':').next();
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// GiB.
fn used_gb(gpu: &GpuStatus) -> f32 {
    // Single precision holds MiB exactly enough.
    let mib = u16::try_from(gpu.memory_used_bytes >> 24).unwrap_or(u16::MAX);
    f32::from(mib) / 64.0
}

#[tonic::async_trait]
impl MonolithicService for MonolithicLegacy {
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
        let id = request.get_ref().model_id.as_str();
        let loaded = self.0.load(request.extensions(), id, false).await;
        let loaded = loaded.map(|(model, time)| pb::LoadModelResponse {
            success: true,
            gpu_id: model.gpu_id,
            load_time_ms: short_ms(time),
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
        let models = self.0.models(request.extensions(), "").await?;
        let loaded = models.into_iter().filter(|model| model.is_loaded);
        let models = loaded.map(stats).collect();
        Ok(Response::new(pb::GetModelStatsResponse { models }))
    }

    async fn health(
        &self,
        request: Request<pb::HealthRequest>,
    ) -> Result<Response<pb::HealthResponse>, Status> {
        let health = self.0.health(request.extensions()).await?;
        let gpus = self.0.shared.gpus.latest();
        Ok(Response::new(pb::HealthResponse {
            healthy: health.is_healthy,
            loaded_models: health.loaded_models,
            max_models: health.max_models,
            gpu_ids: gpus.iter().map(gpu_number).collect(),
            gpu_memory_used_gb: gpus.iter().map(used_gb).collect(),
        }))
    }
}
