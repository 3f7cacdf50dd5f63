//! How much of a device's memory a generator will take.

use super::{
    bucket::{BUCKETS, bucket_of},
    driver::held_bytes,
    entries::slab_bytes,
    program::{Blocks, Program},
    worker::{ALIGNMENT, bytes_for, captured_bytes_for},
};
use crate::{EngineError, contract::GeneratorGraph};

/// Bytes that a generator takes on a device, known from its file alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Weights: once for each device, however many workers share it.
    pub weights_bytes: u64,
    /// What is kept of one background frame.
    pub visual_cache_bytes_per_frame: u64,
    /// What a worker's captured launches take, up to each bucket.
    captured_bytes: [u64; BUCKETS.len()],
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
        let weights_bytes = program.weights_bytes().next_multiple_of(ALIGNMENT);
        Ok(Self {
            weights_bytes: held_bytes(weights_bytes as u64),
            captured_bytes: BUCKETS.map(|bucket| captured_bytes_for(&program, bucket)),
            visual_cache_bytes_per_frame: kept_bytes as u64,
            arena_bytes: BUCKETS.map(|bucket| bytes_for(&program, bucket)),
        })
    }

    /// Bytes that one worker holds for batches of up to `max_batch` frames, at most: activations, and
    /// entries of frames that are not kept. It serves all generators that the worker runs: a worker needs
    /// the largest of theirs, not the sum.
    #[must_use]
    pub fn arena_bytes_per_worker(&self, max_batch: usize) -> u64 {
        self.arena_bytes[index_of(max_batch)]
    }

    /// Bytes that one worker's captured launches take for batches of up to `max_batch` frames: two sequences for each
    /// bucket. Unlike arenas, those of several generators add up.
    #[must_use]
    pub fn captured_bytes_per_worker(&self, max_batch: usize) -> u64 {
        self.captured_bytes[index_of(max_batch)]
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

/// Bytes that `n_frames` background frames take on a device, of which each keeps `frame_bytes`: in slabs, which all
/// generators share that keep as much.
#[must_use]
pub fn kept_bytes(n_frames: u64, frame_bytes: u64) -> u64 {
    match usize::try_from(frame_bytes) {
        Ok(0) => 0,
        Ok(entry_bytes) => slab_bytes(n_frames, entry_bytes),
        Err(_) => u64::MAX,
    }
}

/// The place of the bucket of a batch among all.
fn index_of(max_batch: usize) -> usize {
    let bucket = bucket_of(max_batch);
    BUCKETS.iter().position(|&b| b == bucket).unwrap_or(0)
}
