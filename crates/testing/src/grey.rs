//! Networks that paint faces grey, for tests of whole servers.

use std::sync::Arc;

use lipsync_core::FaceGeometry;
use lipsync_engine::{
    AudioEncoder, Device, DeviceRoom, EngineError, FaceInput, Generator, NetworkLoader, Precision,
};

use crate::{FakeEncoder, FakeGenerator, Gate};

/// Makes networks that cost nothing, whatever the ONNX files hold. They can be held at a gate, and the grey of a face
/// tells which audio window it was made of.
#[derive(Debug, Default)]
pub struct FakeLoader {
    /// Where every batch stops.
    pub gate: Arc<Gate>,
    /// As many CUDA devices instead of the CPU.
    pub n_gpus: u32,
}

impl NetworkLoader for FakeLoader {
    fn generator(
        &self,
        _onnx: &[u8],
        device: Device,
        _precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        let gate = Arc::clone(&self.gate);
        let mut generator = FakeGenerator::new(FaceGeometry::SMALL, move |frames, faces| {
            gate.pass();
            check(frames, device)?;
            let painted =
                |f: &FaceInput<'_>| vec![grey(f.audio); FaceGeometry::SMALL.region_bytes()];
            faces.extend(frames.iter().map(painted));
            Ok(())
        });
        generator.device = device;
        generator.device_bytes = 1000;
        Ok(Arc::new(generator))
    }

    fn audio_encoder(
        &self,
        _onnx: &[u8],
        _device: Device,
    ) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        Ok(Arc::new(FakeEncoder::default()))
    }

    fn device(&self) -> String {
        "fake".into()
    }

    fn devices(&self) -> Vec<DeviceRoom> {
        let room = |device: Device| DeviceRoom {
            device,
            name: device.to_string(),
            max_bytes: u64::MAX,
        };
        match self.n_gpus {
            0 => vec![DeviceRoom {
                name: self.device(),
                ..room(Device::Cpu)
            }],
            n => (0..n).map(Device::Cuda).map(room).collect(),
        }
    }

    /// Does nothing: the gate may be closed.
    fn warm_up(&self, _generator: &Arc<dyn Generator>) -> Result<(), EngineError> {
        Ok(())
    }
}

/// A window that begins with this makes the generator panic.
pub const PANIC: f32 = -666.0;
/// Or find no memory.
pub const NO_MEMORY: f32 = -667.0;
/// Or its device fail once.
pub const FAULT: f32 = -668.0;
/// Or for good.
pub const LOST: f32 = -669.0;

/// Fails as the windows wish.
fn check(frames: &[FaceInput<'_>], device: Device) -> Result<(), EngineError> {
    let has = |mark| frames.iter().any(|f| f.audio[0] == mark);
    assert!(!has(PANIC), "asked to panic");
    if has(NO_MEMORY) {
        return Err(EngineError::OutOfMemory { needed: 9, free: 1 });
    }
    if has(LOST) || has(FAULT) {
        return Err(EngineError::DeviceFault {
            device: device.to_string(),
            reason: "asked to fail".into(),
            sticky: has(LOST),
        });
    }
    Ok(())
}

/// The grey of a window: from its first value, so that a test can choose it.
#[must_use]
pub fn grey(window: &[f32]) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let byte = window[0].clamp(0.0, 255.0) as u8;
    byte
}
