//! Audio encoders in memory: models whose files are equal share one on each device, and a new one is tried before it
//! serves.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use lipsync_core::{ModelId, sync::lock};
use lipsync_engine::{AudioEncoder, Device, EngineError, Workspace};
use sha2::{Digest, Sha256};

/// How often a step is timed; the first fills memory and caches.
const TRIES: usize = 3;

/// Where an encoder runs, and the SHA-256 of its file.
type Key = (Device, [u8; 32]);

/// The encoders of all models.
#[derive(Default)]
pub(crate) struct Encoders {
    held: Mutex<HashMap<Key, Weak<dyn AudioEncoder>>>,
}

impl fmt::Debug for Encoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_held = lock(&self.held).len();
        f.debug_struct("Encoders").field("n_held", &n_held).finish()
    }
}

impl Encoders {
    /// The encoder of a file on a device, loaded by `load` unless a model that is in memory has it.
    ///
    /// Two models that load at the same time may both load it; then one of the two is dropped at once.
    pub fn find_or_load(
        &self,
        (onnx, device): (&[u8], Device),
        load: impl FnOnce() -> Result<Arc<dyn AudioEncoder>, EngineError>,
    ) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        let key: Key = (device, Sha256::digest(onnx).into());
        if let Some(found) = lock(&self.held).get(&key).and_then(Weak::upgrade) {
            return Ok(found);
        }
        let loaded = load()?;
        let mut held = lock(&self.held);
        held.retain(|_, encoder| encoder.strong_count() > 0);
        if let Some(found) = held.get(&key).and_then(Weak::upgrade) {
            return Ok(found);
        }
        held.insert(key, Arc::downgrade(&loaded));
        Ok(loaded)
    }
}

/// Runs an encoder on silence: the shortest time of a step on this thread.
///
/// # Errors
/// What the run reports.
pub(crate) fn time_step(encoder: &dyn AudioEncoder) -> Result<Duration, EngineError> {
    let form = encoder.step_form().patch;
    let patch = vec![0.0; form.n_floats()];
    let mut workspace = Workspace::new();
    let mut shortest = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        encoder.encode(&mut workspace, &patch)?;
        shortest = shortest.min(begun.elapsed());
    }
    let n_steps = u32::try_from(form.n_steps()).unwrap_or(1);
    Ok(shortest / n_steps.max(1))
}

/// Logs how much of real time the steps of an encoder take.
pub(crate) fn report_speed(model: &ModelId, encoder: &dyn AudioEncoder, step: Duration) {
    let fps = encoder.step_form().fps;
    let frame = fps.span(1);
    let (step_ms, frame_ms) = (step.as_secs_f64() * 1e3, frame.as_secs_f64() * 1e3);
    if step <= frame {
        tracing::info!(
            %model,
            "the audio encoder takes {step_ms:.1} ms of one core for each {frame_ms:.0} ms of speech"
        );
    } else {
        tracing::warn!(
            %model,
            "the audio encoder takes {step_ms:.1} ms of one core for each {frame_ms:.0} ms of speech: sessions that send PCM \
             cannot keep real time on this machine. Feature steps and windows still can"
        );
    }
}

#[cfg(test)]
mod tests {
    use lipsync_core::family::StepForm;
    use lipsync_testing::FakeEncoder;

    use super::*;

    fn fake() -> Result<Arc<dyn AudioEncoder>, EngineError> {
        Ok(Arc::new(FakeEncoder::default()))
    }

    #[test]
    fn equal_files_are_one_encoder_until_nobody_has_it() {
        let encoders = Encoders::default();
        let host = |onnx: &'static [u8]| (onnx, Device::Cpu);
        let first = encoders.find_or_load(host(b"one"), fake).unwrap();
        let never = || -> Result<Arc<dyn AudioEncoder>, EngineError> { panic!("loaded again") };
        let again = encoders.find_or_load(host(b"one"), never).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let elsewhere = encoders.find_or_load((b"one".as_slice(), Device::Cuda(0)), fake);
        assert!(!Arc::ptr_eq(&first, &elsewhere.unwrap()));
        let other = encoders.find_or_load(host(b"two"), fake).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        drop((first, again));
        let mut n_loads = 0;
        let load = || {
            n_loads += 1;
            fake()
        };
        let newer = encoders.find_or_load(host(b"one"), load);
        assert!(newer.is_ok() && n_loads == 1);
        assert_eq!(lock(&encoders.held).len(), 2);
    }

    #[test]
    fn a_step_of_its_own_form_is_timed() {
        let encoder = FakeEncoder::default();
        assert_eq!(encoder.step_form(), StepForm::AVE);
        assert!(time_step(&encoder).unwrap() < Duration::from_secs(60));
    }
}
