//! A generator that does what a closure says, and a loader of such.

use std::{fmt, sync::Arc};

use lipsync_core::FaceGeometry;
use lipsync_engine::{
    AudioEncoder, Device, EngineError, FaceInput, Generator, NetworkLoader, OutputRange, Precision,
    Workspace,
};

use crate::FakeEncoder;

type Run = dyn Fn(&[FaceInput<'_>], &mut Vec<Vec<u8>>) -> Result<(), EngineError> + Send + Sync;

/// What it says of itself can be set; what a run does is a closure.
pub struct FakeGenerator {
    /// The squares that it works on.
    pub geometry: FaceGeometry,
    /// `[C, H, W]` of one audio window.
    pub audio_shape: [usize; 3],
    /// Bytes of its weights.
    pub weights_bytes: u64,
    /// Bytes that it needs in a workspace on the host.
    pub workspace_bytes: u64,
    /// Where it was loaded.
    pub device: Device,
    /// Bytes that it holds there.
    pub device_bytes: u64,
    /// The numbers that it writes for a face and silence.
    pub output_range: Option<OutputRange>,
    run: Box<Run>,
    _on_drop: Option<OnDrop>,
}

impl FakeGenerator {
    /// One on the CPU with the audio windows of AVE, 1,000 bytes of weights, and runs that do what `run` does: it
    /// gets the frames, and appends their faces.
    #[must_use]
    pub fn new<F>(geometry: FaceGeometry, run: F) -> Self
    where
        F: Fn(&[FaceInput<'_>], &mut Vec<Vec<u8>>) -> Result<(), EngineError>
            + Send
            + Sync
            + 'static,
    {
        Self {
            geometry,
            audio_shape: [32, 16, 16],
            weights_bytes: 1000,
            workspace_bytes: 0,
            device: Device::Cpu,
            device_bytes: 0,
            output_range: None,
            run: Box::new(run),
            _on_drop: None,
        }
    }

    /// The same, which does something when it is freed.
    #[must_use]
    pub fn on_drop(self, freed: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            _on_drop: Some(OnDrop(Box::new(freed))),
            ..self
        }
    }
}

struct OnDrop(Box<dyn Fn() + Send + Sync>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl fmt::Debug for FakeGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeGenerator")
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Generator for FakeGenerator {
    fn geometry(&self) -> FaceGeometry {
        self.geometry
    }

    fn audio_shape(&self) -> [usize; 3] {
        self.audio_shape
    }

    fn weights_bytes(&self) -> u64 {
        self.weights_bytes
    }

    fn workspace_bytes(&self) -> u64 {
        self.workspace_bytes
    }

    fn device(&self) -> Device {
        self.device
    }

    fn device_bytes(&self) -> u64 {
        self.device_bytes
    }

    fn output_range(
        &self,
        _workspace: &mut Workspace,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
    ) -> Result<Option<OutputRange>, EngineError> {
        if self.output_range.is_some() {
            assert!(crop().is_some_and(|crop| crop.len() == self.geometry.crop_bytes()));
        }
        Ok(self.output_range)
    }

    fn infer(
        &self,
        _workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        let floats: usize = self.audio_shape.iter().product();
        let fits = |f: &FaceInput<'_>| {
            f.crop.len() == self.geometry.crop_bytes() && f.audio.len() == floats
        };
        assert!(frames.iter().all(fits), "what a real network would refuse");
        faces.clear();
        (self.run)(frames, faces)
    }
}

/// Makes the generators that a closure makes, whatever the device, and plain [`FakeEncoder`]s.
pub struct LoaderOf<F>(F);

impl<F> LoaderOf<F>
where
    F: Fn(&[u8], Device, Precision) -> Result<Arc<dyn Generator>, EngineError> + Send + Sync,
{
    /// `make` gets the bytes of the file, the device and the numbers to run in.
    pub fn new(make: F) -> Self {
        Self(make)
    }
}

impl<F> NetworkLoader for LoaderOf<F>
where
    F: Fn(&[u8], Device, Precision) -> Result<Arc<dyn Generator>, EngineError> + Send + Sync,
{
    fn generator(
        &self,
        onnx: &[u8],
        device: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        (self.0)(onnx, device, precision)
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
}
