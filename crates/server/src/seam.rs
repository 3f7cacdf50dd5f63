//! Where the registry and the worker pool meet. They never import each other, but a model is ready only
//! when the workers of its device are.

use std::sync::{Arc, OnceLock, Weak};

use lipsync_core::{family::StepForm, saturate::u64_of};
use lipsync_engine::{
    AudioEncoder, Device, EngineError, FaceInput, Generator, Precision, VisualCacheStats, Workspace,
};
use lipsync_registry::{DeviceRoom, NetworkLoader};
use lipsync_worker_pool::{PoolError, WorkerPool};

/// A loader that warms networks up where they will run, and tells the pool when a device is lost.
pub(crate) struct WarmLoader {
    inner: Arc<dyn NetworkLoader>,
    workers: OnceLock<Weak<WorkerPool>>,
}

impl WarmLoader {
    pub(crate) fn new(inner: Arc<dyn NetworkLoader>) -> Self {
        Self {
            inner,
            workers: OnceLock::new(),
        }
    }

    /// Says where networks run; before that nothing is loaded.
    pub(crate) fn connect(&self, workers: &Arc<WorkerPool>) {
        // A second time would change nothing.
        let _ = self.workers.set(Arc::downgrade(workers));
    }

    fn workers(&self) -> Option<Arc<WorkerPool>> {
        self.workers.get()?.upgrade()
    }

    fn watched<T>(&self, device: Device, result: Result<T, EngineError>) -> Result<T, EngineError> {
        report(self.workers.get(), device, &result);
        result
    }
}

/// Tells the pool of a device that is lost.
fn report<T>(workers: Option<&Weak<WorkerPool>>, device: Device, result: &Result<T, EngineError>) {
    if let Err(EngineError::DeviceFault {
        reason,
        sticky: true,
        ..
    }) = result
        && let Some(workers) = workers.and_then(Weak::upgrade)
    {
        workers.report_lost(device, reason);
    }
}

/// An audio encoder on a device of the pool's workers. No worker runs it, so it tells of a lost device itself.
struct WatchedEncoder {
    inner: Arc<dyn AudioEncoder>,
    workers: Option<Weak<WorkerPool>>,
}

impl AudioEncoder for WatchedEncoder {
    fn step_floats(&self) -> usize {
        self.inner.step_floats()
    }

    fn step_form(&self) -> StepForm {
        self.inner.step_form()
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

    fn encode(&self, workspace: &mut Workspace, patches: &[f32]) -> Result<Vec<f32>, EngineError> {
        let steps = self.inner.encode(workspace, patches);
        report(self.workers.as_ref(), self.inner.device(), &steps);
        steps
    }
}

impl NetworkLoader for WarmLoader {
    fn generator(
        &self,
        onnx: &[u8],
        device: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        self.watched(device, self.inner.generator(onnx, device, precision))
    }

    fn devices(&self) -> Vec<DeviceRoom> {
        self.inner.devices()
    }

    /// Those that there are now, or as many as may join.
    fn host_workers(&self) -> u64 {
        let here = self
            .workers()
            .map(|workers| workers.n_workers_on(Device::Cpu));
        here.map_or(0, u64_of).max(self.inner.host_workers())
    }

    fn arena_bytes(&self, onnx: &[u8], device: Device) -> u64 {
        self.inner.arena_bytes(onnx, device)
    }

    fn faster_than_f32(&self) -> Vec<Precision> {
        self.inner.faster_than_f32()
    }

    fn encoder_device(&self, onnx: &[u8], device: Device) -> Device {
        self.inner.encoder_device(onnx, device)
    }

    fn audio_encoder(
        &self,
        onnx: &[u8],
        device: Device,
    ) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        let encoder = self.watched(device, self.inner.audio_encoder(onnx, device))?;
        Ok(match encoder.device() {
            Device::Cpu => encoder,
            Device::Cuda(_) => Arc::new(WatchedEncoder {
                inner: encoder,
                workers: self.workers.get().cloned(),
            }),
        })
    }

    fn try_values(
        &self,
        onnx: &[u8],
        device: Device,
        frames: &[FaceInput<'_>],
    ) -> Result<(), EngineError> {
        self.watched(device, self.inner.try_values(onnx, device, frames))
    }

    fn device(&self) -> String {
        self.inner.device()
    }

    fn visual_cache(&self) -> VisualCacheStats {
        self.inner.visual_cache()
    }

    fn limit_visual_cache(&self, percent: u32) {
        self.inner.limit_visual_cache(percent);
    }

    /// On the host one run is enough. On other devices a first run costs each worker far more than the
    /// next, so all of them get ready.
    fn warm_up(&self, generator: &Arc<dyn Generator>) -> Result<(), EngineError> {
        let device = generator.device();
        let warm_up = || self.inner.warm_up(generator);
        let Some(workers) = self.workers() else {
            return match device {
                Device::Cpu => warm_up(),
                Device::Cuda(_) => Ok(()),
            };
        };
        if device == Device::Cpu {
            return workers.time_frame(generator, warm_up);
        }
        workers.warm_up(generator).map_err(|error| match error {
            PoolError::Engine(error) => error,
            PoolError::OutOfMemory { needed, free, .. } => {
                EngineError::OutOfMemory { needed, free }
            }
            PoolError::DeviceLost { .. } => EngineError::DeviceFault {
                device: device.to_string(),
                reason: error.to_string(),
                sticky: true,
            },
            other => EngineError::Device {
                reason: other.to_string(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lipsync_core::FaceGeometry;
    use lipsync_testing::{FakeGenerator, LoaderOf};
    use lipsync_worker_pool::{PoolConfig, Recovery, Scheduling};

    use super::*;

    #[test]
    fn the_workers_of_the_host_are_those_that_there_are() {
        let loader = WarmLoader::new(Arc::new(LoaderOf::new(|_, _, _| {
            let generator = FakeGenerator::new(FaceGeometry::SMALL, |_, _| Ok(()));
            Ok(Arc::new(generator) as Arc<dyn Generator>)
        })));
        assert_eq!(loader.host_workers(), 0);
        let config = PoolConfig {
            devices: vec![Device::Cpu, Device::Cuda(0)],
            queue_capacity: 4,
            max_batch_frames: 1,
            max_batch_wait: Duration::ZERO,
            scheduling: Scheduling::default(),
            recovery: Recovery::none(),
        };
        let workers = Arc::new(WorkerPool::start(config, Arc::new(())).unwrap());
        loader.connect(&workers);
        assert_eq!(loader.host_workers(), 1);
        workers.join_worker(Device::Cpu).unwrap();
        assert_eq!(loader.host_workers(), 2);
        workers.leave_worker(0).unwrap();
        assert_eq!(loader.host_workers(), 1);
        workers.shutdown(Duration::ZERO);
    }
}
