//! How the registry gets its networks: from the engine that the configuration chose.

use std::sync::Arc;

use lipsync_engine::{
    AudioEncoder, CpuIsa, EngineError, Generator, load_audio_encoder, load_generator,
};
use lipsync_registry::NetworkLoader;

/// Loads networks for the embedded CPU engine.
#[derive(Debug, Clone, Copy)]
pub struct CpuLoader {
    isa: CpuIsa,
}

impl CpuLoader {
    /// A loader whose networks use the given instructions.
    #[must_use]
    pub fn new(isa: CpuIsa) -> Self {
        Self { isa }
    }
}

impl NetworkLoader for CpuLoader {
    fn generator(&self, onnx: &[u8]) -> Result<Arc<dyn Generator>, EngineError> {
        load_generator(onnx, self.isa)
    }

    fn audio_encoder(&self, onnx: &[u8]) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        load_audio_encoder(onnx, self.isa)
    }

    fn device(&self) -> String {
        lipsync_engine::device_name(self.isa)
    }
}
