//! How networks come into being: the seam between what keeps them and the engines, faked by tests.

use std::sync::Arc;

use crate::{
    AudioEncoder, Device, EngineError, FaceInput, Generator, Precision, VisualCacheStats, Workspace,
};

/// A device that generators can be loaded for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRoom {
    /// Which.
    pub device: Device,
    /// What people call it, for example `cpu (avx512)` or `cuda:0 (NVIDIA H200)`.
    pub name: String,
    /// Bytes that it has for models and for what workers need to run them; [`u64::MAX`] where nothing is
    /// known.
    pub max_bytes: u64,
}

/// Makes networks from the bytes of ONNX files.
///
/// Called on the load threads of whoever keeps models, several at a time. A panic is contained there and becomes a
/// failed load.
pub trait NetworkLoader: Send + Sync {
    /// Makes a generator for `device`, one of [`devices`](Self::devices) or the host. There, it runs in
    /// the given numbers; on others, in those of the device.
    ///
    /// # Errors
    /// What the engine finds wrong with the file or the device.
    fn generator(
        &self,
        onnx: &[u8],
        device: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError>;

    /// Where generators go, at least one device; models are spread over all of them. The default is the
    /// host.
    fn devices(&self) -> Vec<DeviceRoom> {
        vec![DeviceRoom {
            device: Device::Cpu,
            name: self.device(),
            max_bytes: u64::MAX,
        }]
    }

    /// Workers on the host, each of which may come to need [`Generator::workspace_bytes`] of every generator.
    /// The default is 0: nothing is counted.
    fn host_workers(&self) -> u64 {
        0
    }

    /// Bytes that all workers of `device`, which is not the host, together need there to run the generator of
    /// this file, besides its weights. The default is 0: nothing is counted.
    fn arena_bytes(&self, onnx: &[u8], device: Device) -> u64 {
        let _ = (onnx, device);
        0
    }

    /// The numbers that the host multiplies faster than f32, the fastest first. The default: none.
    fn faster_than_f32(&self) -> Vec<Precision> {
        Vec::new()
    }

    /// Where the audio encoder of this file is to run, for a model whose generator is on `device`. The default is the
    /// host.
    fn encoder_device(&self, onnx: &[u8], device: Device) -> Device {
        let _ = (onnx, device);
        Device::Cpu
    }

    /// Makes an audio encoder for `device`, which [`encoder_device`](Self::encoder_device) gave.
    ///
    /// # Errors
    /// What the engine finds wrong with the file or the device.
    fn audio_encoder(
        &self,
        onnx: &[u8],
        device: Device,
    ) -> Result<Arc<dyn AudioEncoder>, EngineError>;

    /// Tries on some frames whether `device`, which is not the host, computes in numbers that hold the values of the
    /// generator of this file. The default tries nothing.
    ///
    /// # Errors
    /// [`EngineError::Saturates`] where it does not; what the device reports. [`EngineError::OutOfMemory`] says nothing of
    /// the network.
    fn try_values(
        &self,
        onnx: &[u8],
        device: Device,
        frames: &[FaceInput<'_>],
    ) -> Result<(), EngineError> {
        let _ = (onnx, device, frames);
        Ok(())
    }

    /// Where the networks run, in words, for example `cpu (avx512)`.
    fn device(&self) -> String;

    /// How what all generators keep of background frames has fared. The default: nothing is kept.
    fn visual_cache(&self) -> VisualCacheStats {
        VisualCacheStats::default()
    }

    /// Has the visual cache on the host hold at most this part of what it was made for, percent, from now on. The
    /// default: nothing is kept.
    fn limit_visual_cache(&self, percent: u32) {
        let _ = percent;
    }

    /// Runs a generator once, so that a model that cannot run is not called ready and the first
    /// request finds caches warm. The default runs one black frame with silent audio.
    ///
    /// # Errors
    /// What the run reports.
    fn warm_up(&self, generator: &Arc<dyn Generator>) -> Result<(), EngineError> {
        let crop = vec![0; generator.geometry().crop_bytes()];
        let audio = vec![0.0; generator.audio_shape().iter().product()];
        let frame = FaceInput {
            crop: &crop,
            frame: None,
            audio: &audio,
        };
        generator.infer(&mut Workspace::new(), &[frame], &mut Vec::new())
    }
}
