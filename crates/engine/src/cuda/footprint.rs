//! How much of a device's memory a generator will take.

use super::{
    bucket::{BUCKETS, bucket_of},
    program::{Blocks, Program},
    worker::{ALIGNMENT, bytes_for},
};
use crate::{EngineError, contract::GeneratorGraph};

/// Bytes that a generator takes on a device, known from its file alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Weights: once for each device, however many workers share it.
    pub weights_bytes: u64,
    /// What is kept of one background frame.
    pub visual_cache_bytes_per_frame: u64,
    /// What a worker holds, by bucket.
    arena_bytes: [u64; BUCKETS.len()],
}

impl Footprint {
    /// The footprint of a generator's file; needs no device.
    ///
    /// # Errors
    /// As [`load_generator`](crate::load_generator).
    pub fn of(onnx: &[u8]) -> Result<Self, EngineError> {
        Self::with_blocks(onnx, Blocks::default())
    }

    /// The same where blocks run otherwise.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn with_blocks(onnx: &[u8], blocks: Blocks) -> Result<Self, EngineError> {
        let program = Program::new(GeneratorGraph::read(onnx)?, blocks)?;
        let kept_bytes = if program.keeps_values {
            program.entry_bytes
        } else {
            0
        };
        Ok(Self {
            weights_bytes: program.weights_bytes().next_multiple_of(ALIGNMENT) as u64,
            visual_cache_bytes_per_frame: kept_bytes as u64,
            arena_bytes: BUCKETS.map(|bucket| bytes_for(&program, bucket) as u64),
        })
    }

    /// Bytes that one worker holds for batches of up to `max_batch` frames, at most: activations, and
    /// entries of frames that are not kept. It serves all generators that the worker runs: a worker needs
    /// the largest of theirs, not the sum.
    #[must_use]
    pub fn arena_bytes_per_worker(&self, max_batch: usize) -> u64 {
        let bucket = bucket_of(max_batch);
        let index = BUCKETS.iter().position(|&b| b == bucket).unwrap_or(0);
        self.arena_bytes[index]
    }

    /// The largest bucket, up to that of `max_batch` frames, for which a worker needs at most `max_bytes`; one
    /// frame where none is so small.
    #[must_use]
    pub fn largest_batch(&self, max_batch: usize, max_bytes: u64) -> usize {
        let buckets = BUCKETS.into_iter().zip(self.arena_bytes);
        let fits = buckets
            .take_while(|&(bucket, bytes)| bucket <= bucket_of(max_batch) && bytes <= max_bytes)
            .last();
        fits.map_or(1, |(bucket, _)| bucket)
    }
}
