//! What these protocols say of models and of the server.

use std::time::Duration;

use lipsync::v1::{self, model_admin_server::ModelAdmin as _};
use lipsync_core::saturate::u64_of;
use tonic::{Extensions, Request, Status, metadata::MetadataMap};

use super::{
    frames::Core,
    numbers::{signed, small},
};
use crate::request_layer::Arrival;

/// What is told of a model. Of what all tenants do with it, administrators learn alone.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) is_loaded: bool,
    pub(super) gpu_id: i32,
    pub(super) memory_bytes: i64,
    pub(super) usage_count: i64,
    pub(super) inference: Duration,
    pub(super) last_used_unix_ms: i64,
}

/// How the server is.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) is_healthy: bool,
    pub(super) loaded_models: i32,
    pub(super) max_models: i32,
}

/// What models may take, for administrators.
#[derive(Debug)]
pub(super) struct Capacity {
    pub(super) max_models: i32,
    pub(super) memory_bytes: i64,
    pub(super) max_memory_bytes: i64,
}

impl Known {
    fn of(stats: &v1::ModelStats) -> Self {
        let ordinal = stats.device.strip_prefix("cuda:");
        let ordinal = ordinal.and_then(|n| n.parse().ok());
        Self {
            id: stats.model_id.clone(),
            is_loaded: stats.state() == v1::ModelState::Ready,
            gpu_id: ordinal.unwrap_or(0),
            memory_bytes: signed(stats.weights_bytes.saturating_add(stats.cache_bytes)),
            usage_count: signed(stats.usage_count),
            inference: Duration::from_micros(stats.total_inference_us),
            last_used_unix_ms: signed(stats.last_used_unix_ms),
        }
    }

    /// Of the network, by request.
    pub(super) fn mean_inference(&self) -> Duration {
        let n = u32::try_from(self.usage_count).unwrap_or(u32::MAX);
        self.inference.checked_div(n).unwrap_or_default()
    }

    /// Requests, where 32 bits do.
    pub(super) fn request_count(&self) -> i32 {
        i32::try_from(self.usage_count).unwrap_or(i32::MAX)
    }

    /// MiB.
    pub(super) fn memory_mb(&self) -> i64 {
        self.memory_bytes >> 20
    }
}

impl Core {
    /// One model, or all that the caller may see where `id` is empty.
    pub(super) async fn models(
        &self,
        extensions: &Extensions,
        id: &str,
    ) -> Result<Vec<Known>, Status> {
        let models = if id.is_empty() {
            let request = asked(extensions, v1::ListModelsRequest::default());
            self.admin.list_models(request).await?.into_inner().models
        } else {
            let model_id = id.to_owned();
            let request = asked(extensions, v1::GetModelStatsRequest { model_id });
            let stats = self.admin.get_model_stats(request).await?.into_inner();
            stats.model.into_iter().collect()
        };
        Ok(models.iter().map(Known::of).collect())
    }

    /// Loads a model, after it was unloaded if `again`; and how long that took.
    pub(super) async fn load(
        &self,
        extensions: &Extensions,
        id: &str,
        again: bool,
    ) -> Result<(Known, Duration), Status> {
        if again {
            self.unload(extensions, id).await?;
        }
        let model_id = id.to_owned();
        let request = asked(extensions, v1::LoadModelRequest { model_id });
        let loaded = self.admin.load_model(request).await?.into_inner();
        let stats = loaded.model.unwrap_or_default();
        Ok((Known::of(&stats), Duration::from_micros(loaded.load_us)))
    }

    /// Unloads a model; whether it was loaded.
    pub(super) async fn unload(&self, extensions: &Extensions, id: &str) -> Result<bool, Status> {
        let model_id = id.to_owned();
        let request = asked(extensions, v1::UnloadModelRequest { model_id });
        let unloaded = self.admin.unload_model(request).await?;
        Ok(unloaded.into_inner().was_loaded)
    }

    pub(super) async fn health(&self, extensions: &Extensions) -> Result<Health, Status> {
        let models = self.models(extensions, "").await?;
        let n_loaded = models.iter().filter(|model| model.is_loaded).count();
        Ok(Health {
            is_healthy: self.is_ready(),
            loaded_models: small(u64_of(n_loaded)),
            max_models: small(u64_of(self.shared.hot().registry.max_models)),
        })
    }

    pub(super) fn capacity(&self, extensions: &Extensions, models: &[Known]) -> Capacity {
        let registry = &self.shared.hot().registry;
        let rights = Arrival::of(extensions).headers.caller.rights;
        let of_admins = |n: i64| if rights.is_admin { n } else { 0 };
        let memory_bytes = models.iter().map(|model| model.memory_bytes).sum();
        Capacity {
            max_models: small(u64_of(registry.max_models)),
            memory_bytes: of_admins(memory_bytes),
            max_memory_bytes: of_admins(signed(registry.max_bytes)),
        }
    }
}

/// A message of the server's own protocol, by the same caller.
fn asked<T>(extensions: &Extensions, message: T) -> Request<T> {
    Request::from_parts(MetadataMap::new(), extensions.clone(), message)
}
