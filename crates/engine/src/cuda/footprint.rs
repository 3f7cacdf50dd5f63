//! How much of a device's memory a generator will take.

use crate::EngineError;

/// Bytes that a generator takes on a device, known from its file alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Weights: once for each device, however many workers share it.
    pub weights_bytes: u64,
    /// What is kept of one background frame.
    pub visual_cache_bytes_per_frame: u64,
    /// A worker's arena for one frame.
    pub(super) arena_bytes_per_frame: u64,
    /// What a worker keeps besides, whatever the batch.
    pub(super) fixed_bytes: u64,
}

impl Footprint {
    /// The footprint of a generator's file; needs no device.
    ///
    /// # Errors
    /// As [`load_generator`](crate::load_generator).
    pub fn of(onnx: &[u8]) -> Result<Self, EngineError> {
        crate::inspect(onnx)?;
        Err(EngineError::DeviceUnavailable {
            reason: "the footprint on a CUDA device is not known".into(),
        })
    }

    /// Bytes that one worker holds for batches of up to `bucket` frames. Its arena serves all generators
    /// that it runs: a worker needs the largest of theirs, not the sum.
    #[must_use]
    pub fn arena_bytes_per_worker(&self, bucket: usize) -> u64 {
        self.arena_bytes_per_frame * bucket as u64 + self.fixed_bytes
    }
}
