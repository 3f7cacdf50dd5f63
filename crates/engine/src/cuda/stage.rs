//! A network on a device with memory for one batch, to time its parts or to look at them. Inputs and entries are whatever
//! memory holds, until they are written.

use std::sync::Arc;

use super::{
    Cuda,
    driver::Allocation,
    launch::Launch,
    program::{Bases, Blocks, Phase, Program},
    windows::{AUDIO_TABLE_BYTES, audio_bytes},
    worker::TABLE_BYTES,
};
use crate::{
    EngineError, FaceInput,
    contract::{GeneratorGraph, check_length},
};

/// A network's weights and the memory of a batch.
#[derive(Debug)]
pub(super) struct Stage {
    pub program: Program,
    pub bucket: usize,
    pub audio: Allocation,
    pub faces: Allocation,
    pub table: Allocation,
    weights: Allocation,
    arena: Allocation,
    /// What the table points to.
    entries: Allocation,
}

impl Stage {
    pub fn new(
        cuda: &Arc<Cuda>,
        onnx: &[u8],
        blocks: Blocks,
        bucket: usize,
    ) -> Result<Self, EngineError> {
        let mut program = Program::new(GeneratorGraph::read(onnx)?, blocks)?;
        let packed = program.take_weights();
        let allocate = |n_bytes: usize| Allocation::new(cuda.driver(), n_bytes.max(1));
        let weights = allocate(packed.len())?;
        cuda.driver().write(&packed, weights.address)?;
        let entries = allocate(program.entry_bytes * bucket)?;
        let table = allocate(TABLE_BYTES)?;
        let addresses = (0..bucket).map(|i| entries.address + (i * program.entry_bytes) as u64);
        let addresses: Vec<u8> = addresses.flat_map(u64::to_ne_bytes).collect();
        cuda.driver().write(&addresses, table.address)?;
        let audio = allocate(audio_bytes(program.audio, bucket))?;
        // All frames hear the first window.
        let starts = [0; AUDIO_TABLE_BYTES];
        cuda.driver().write(&starts, audio.address)?;
        Ok(Self {
            arena: allocate(program.arena_bytes(bucket))?,
            audio,
            faces: allocate(program.result_bytes * bucket)?,
            program,
            bucket,
            table,
            weights,
            entries,
        })
    }

    /// Writes the inputs of the first frame.
    pub fn write(&self, cuda: &Cuda, frame: &FaceInput<'_>) -> Result<(), EngineError> {
        check_length("crop", self.program.crop_bytes, frame.crop.len())?;
        check_length("audio", self.program.audio.len(), frame.audio.len())?;
        cuda.driver().write(frame.crop, self.entries.address)?;
        let heard: Vec<u8> = frame.audio.iter().flat_map(|x| x.to_ne_bytes()).collect();
        let behind_table = self.audio.address + AUDIO_TABLE_BYTES as u64;
        cuda.driver().write(&heard, behind_table)
    }

    /// The launches of a phase for the whole batch.
    pub fn launches(&self, phase: Phase) -> Vec<Launch> {
        let bases = Bases {
            weights: self.weights.address,
            arena: self.arena.address,
            table: self.table.address,
            audio: self.audio.address,
            results: self.faces.address,
        };
        self.program.launches(phase, &bases, self.bucket)
    }
}
