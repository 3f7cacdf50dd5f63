//! How the registry gets its networks: from the engine that the configuration chose.

use std::sync::Arc;

use lipsync_engine::{
    AudioEncoder, CpuIsa, Device, EngineError, Generator, LoadOptions, Precision, VisualCache,
    VisualCacheStats, kernels::Isa, load_audio_encoder, load_generator,
};
use lipsync_registry::NetworkLoader;

/// Loads networks for the embedded CPU engine.
#[derive(Debug, Clone)]
pub struct CpuLoader {
    isa: CpuIsa,
    visual_cache: Arc<VisualCache>,
}

impl CpuLoader {
    /// A loader whose networks use the given instructions, and keep up to so many bytes of what
    /// depends on background frames alone. Audio encoders always run in f32: they take a few percent
    /// of a frame's time, and what they round is in all frames.
    #[must_use]
    pub fn new(isa: CpuIsa, visual_cache_bytes: u64) -> Self {
        Self {
            isa,
            visual_cache: Arc::new(VisualCache::new(visual_cache_bytes)),
        }
    }
}

impl NetworkLoader for CpuLoader {
    fn generator(
        &self,
        onnx: &[u8],
        _: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        let visual_cache =
            (self.visual_cache.stats().capacity_bytes > 0).then(|| Arc::clone(&self.visual_cache));
        let options = LoadOptions {
            isa: self.isa,
            precision,
            visual_cache,
            ..LoadOptions::default()
        };
        load_generator(onnx, options)
    }

    fn has_bf16(&self) -> bool {
        self.isa.resolve().is_ok_and(Isa::has_bf16)
    }

    fn audio_encoder(&self, onnx: &[u8]) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        load_audio_encoder(onnx, self.isa)
    }

    fn visual_cache(&self) -> VisualCacheStats {
        self.visual_cache.stats()
    }

    fn device(&self) -> String {
        lipsync_engine::device_name(self.isa)
    }
}
