//! Networks that cost nothing, can be held at a gate, and whose output tells what they were given.

use std::{
    ops::Deref,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lipsync_core::FaceGeometry;
use lipsync_engine::{
    AudioEncoder, Device, EngineError, FaceInput, Generator, Precision, Workspace,
};
use lipsync_registry::{DeviceRoom, NetworkLoader};

/// A gate that generators stop at; open unless it was closed.
#[derive(Debug, Default)]
pub struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
    n_passed: AtomicU64,
}

impl Gate {
    /// Generators stop from now on.
    pub fn close(&self) {
        self.set(true);
    }

    /// They go on.
    pub fn open(&self) {
        self.set(false);
    }

    fn set(&self, closed: bool) {
        *self
            .is_closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = closed;
        self.changed.notify_all();
    }

    /// Stops while it is closed.
    pub fn pass(&self) {
        let closed = self
            .is_closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(closed, |closed| *closed));
        self.n_passed.fetch_add(1, Ordering::SeqCst);
    }

    /// Batches that went through.
    pub fn n_passed(&self) -> u64 {
        self.n_passed.load(Ordering::SeqCst)
    }
}

/// A closed gate that opens when this is dropped: a test that fails must not leave a worker behind it.
pub struct HeldGate(Arc<Gate>);

impl HeldGate {
    /// Closes the gate.
    pub fn close(gate: &Arc<Gate>) -> Self {
        gate.close();
        Self(Arc::clone(gate))
    }
}

impl Deref for HeldGate {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.0
    }
}

impl Drop for HeldGate {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Makes fake networks, whatever the ONNX files hold.
#[derive(Debug, Default)]
pub struct FakeLoader {
    pub gate: Arc<Gate>,
    /// As many CUDA devices instead of the CPU.
    pub n_gpus: u32,
}

impl NetworkLoader for FakeLoader {
    fn generator(
        &self,
        _onnx: &[u8],
        device: Device,
        _: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        Ok(Arc::new(FakeGenerator {
            device,
            gate: Arc::clone(&self.gate),
        }))
    }

    fn audio_encoder(&self, _onnx: &[u8]) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        Ok(Arc::new(FakeEncoder))
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

    fn warm_up(&self, _generator: &Arc<dyn Generator>) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Paints the whole face in a grey that depends on the audio window.
struct FakeGenerator {
    gate: Arc<Gate>,
    device: Device,
}

impl Generator for FakeGenerator {
    fn geometry(&self) -> FaceGeometry {
        FaceGeometry::SMALL
    }

    fn audio_shape(&self) -> [usize; 3] {
        [32, 16, 16]
    }

    fn weights_bytes(&self) -> u64 {
        1000
    }

    fn device(&self) -> Device {
        self.device
    }

    fn device_bytes(&self) -> u64 {
        1000
    }

    fn infer(
        &self,
        _workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        self.gate.pass();
        assert!(
            !frames.iter().any(|f| f.audio[0] == PANIC),
            "asked to panic"
        );
        let has = |mark| frames.iter().any(|f| f.audio[0] == mark);
        if has(NO_MEMORY) {
            return Err(EngineError::OutOfMemory { needed: 9, free: 1 });
        }
        if has(LOST) || has(FAULT) {
            return Err(EngineError::DeviceFault {
                device: self.device.to_string(),
                reason: "asked to fail".into(),
                sticky: has(LOST),
            });
        }
        faces.clear();
        faces.extend(
            frames
                .iter()
                .map(|f| vec![grey(f.audio); FaceGeometry::SMALL.region_bytes()]),
        );
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

/// The grey of a window: from its first value, so that a test can choose it.
pub fn grey(window: &[f32]) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let byte = window[0].clamp(0.0, 255.0) as u8;
    byte
}

/// A step is the mean of its patch, 512 times.
struct FakeEncoder;

impl AudioEncoder for FakeEncoder {
    fn step_floats(&self) -> usize {
        512
    }

    fn weights_bytes(&self) -> u64 {
        1000
    }

    fn encode(&self, _workspace: &mut Workspace, patches: &[f32]) -> Result<Vec<f32>, EngineError> {
        let (patches, _) = patches.as_chunks::<{ 80 * 16 }>();
        #[expect(clippy::cast_precision_loss, reason = "1280 is exact")]
        let mean = |p: &[f32; 1280]| p.iter().sum::<f32>() / p.len() as f32;
        Ok(patches.iter().flat_map(|p| [mean(p).abs(); 512]).collect())
    }
}
