//! Real networks that can be held.

use std::sync::Arc;

use lipsync_core::FaceGeometry;
use lipsync_engine::{
    AudioEncoder, Device, DeviceRoom, EngineError, FaceInput, Generator, NetworkLoader, Precision,
    VisualCacheStats, Workspace,
};

use crate::Gate;

/// A loader whose generators stop at a gate.
pub struct GatedLoader {
    inner: Arc<dyn NetworkLoader>,
    gate: Arc<Gate>,
}

impl GatedLoader {
    /// The networks of another loader, at a gate.
    #[must_use]
    pub fn new(inner: Arc<dyn NetworkLoader>, gate: &Arc<Gate>) -> Self {
        let gate = Arc::clone(gate);
        Self { inner, gate }
    }
}

impl NetworkLoader for GatedLoader {
    fn generator(
        &self,
        onnx: &[u8],
        device: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        Ok(Arc::new(Gated {
            inner: self.inner.generator(onnx, device, precision)?,
            gate: Arc::clone(&self.gate),
        }))
    }

    fn encoder_device(&self, onnx: &[u8], device: Device) -> Device {
        self.inner.encoder_device(onnx, device)
    }

    fn audio_encoder(
        &self,
        onnx: &[u8],
        device: Device,
    ) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        self.inner.audio_encoder(onnx, device)
    }

    fn device(&self) -> String {
        self.inner.device()
    }

    fn devices(&self) -> Vec<DeviceRoom> {
        self.inner.devices()
    }

    fn host_workers(&self) -> u64 {
        self.inner.host_workers()
    }

    fn arena_bytes(&self, onnx: &[u8], device: Device) -> u64 {
        self.inner.arena_bytes(onnx, device)
    }
}

struct Gated {
    inner: Arc<dyn Generator>,
    gate: Arc<Gate>,
}

impl Generator for Gated {
    fn geometry(&self) -> FaceGeometry {
        self.inner.geometry()
    }

    fn audio_shape(&self) -> [usize; 3] {
        self.inner.audio_shape()
    }

    fn weights_bytes(&self) -> u64 {
        self.inner.weights_bytes()
    }

    fn device(&self) -> Device {
        self.inner.device()
    }

    fn device_bytes(&self) -> u64 {
        self.inner.device_bytes()
    }

    fn workspace_bytes(&self) -> u64 {
        self.inner.workspace_bytes()
    }

    fn warm_up(&self, workspace: &mut Workspace, max_batch: usize) -> Result<(), EngineError> {
        self.inner.warm_up(workspace, max_batch)
    }

    fn infer(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        self.gate.pass();
        self.inner.infer(workspace, frames, faces)
    }

    fn visual_cache(&self) -> Option<VisualCacheStats> {
        self.inner.visual_cache()
    }
}
