//! Audio encoders that cost nothing.

use lipsync_engine::{AudioEncoder, Device, EngineError, Workspace, encoder};

/// A step is the mean of its patch, again and again.
#[derive(Debug, Clone, Copy)]
pub struct FakeEncoder {
    /// Floats of a step.
    pub step_floats: usize,
    /// Bytes that it says its weights take.
    pub weights_bytes: u64,
    /// The device that it says it runs on.
    pub device: Device,
}

impl Default for FakeEncoder {
    /// With the steps of AVE, on the host.
    fn default() -> Self {
        Self {
            step_floats: 512,
            weights_bytes: 1000,
            device: Device::Cpu,
        }
    }
}

impl AudioEncoder for FakeEncoder {
    fn step_floats(&self) -> usize {
        self.step_floats
    }

    fn weights_bytes(&self) -> u64 {
        self.weights_bytes
    }

    fn device(&self) -> Device {
        self.device
    }

    /// Twice its weights: what its runs need takes as much.
    fn device_bytes(&self) -> u64 {
        match self.device {
            Device::Cpu => 0,
            Device::Cuda(_) => 2 * self.weights_bytes,
        }
    }

    fn encode(&self, _workspace: &mut Workspace, patches: &[f32]) -> Result<Vec<f32>, EngineError> {
        let (patches, _) = patches.as_chunks::<{ encoder::N_MELS * encoder::N_ROWS }>();
        let step = |patch: &[f32; encoder::N_MELS * encoder::N_ROWS]| {
            let sum: f32 = patch.iter().sum();
            #[expect(clippy::cast_precision_loss, reason = "1280 is exact")]
            let mean = sum / patch.len() as f32;
            std::iter::repeat_n(mean.abs(), self.step_floats)
        };
        Ok(patches.iter().flat_map(step).collect())
    }
}
