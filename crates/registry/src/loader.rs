//! How networks come into being: the seam to the engine, faked by tests.

use std::sync::Arc;

use lipsync_engine::{
    AudioEncoder, EngineError, FaceInput, Generator, Precision, Session, VisualCacheStats,
};

/// Makes networks from the bytes of ONNX files, for one device.
///
/// Called on the registry's load threads, several at a time. A panic is contained and becomes a
/// failed load.
pub trait NetworkLoader: Send + Sync {
    /// Makes a generator that runs in the given numbers.
    ///
    /// # Errors
    /// What the engine finds wrong with the file or the device.
    fn generator(
        &self,
        onnx: &[u8],
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError>;

    /// Whether the device multiplies bf16 numbers faster than f32.
    fn has_bf16(&self) -> bool {
        false
    }

    /// Makes an audio encoder.
    ///
    /// # Errors
    /// What the engine finds wrong with the file or the device.
    fn audio_encoder(&self, onnx: &[u8]) -> Result<Arc<dyn AudioEncoder>, EngineError>;

    /// Where the networks run, for example `cpu (avx512)`.
    fn device(&self) -> String;

    /// How what all generators keep of background frames has fared. The default: nothing is kept.
    fn visual_cache(&self) -> VisualCacheStats {
        VisualCacheStats::default()
    }

    /// Runs a generator once, so that a model that cannot run is not called ready and the first
    /// request finds caches warm. The default runs one black frame with silent audio.
    ///
    /// # Errors
    /// What the run reports.
    fn warm_up(&self, generator: &dyn Generator) -> Result<(), EngineError> {
        let crop = vec![0; generator.geometry().crop_bytes()];
        let audio = vec![0.0; generator.audio_shape().iter().product()];
        let frame = FaceInput {
            crop: &crop,
            frame: None,
            audio: &audio,
        };
        generator.infer(&mut Session::new(), &[frame], &mut Vec::new())
    }
}
