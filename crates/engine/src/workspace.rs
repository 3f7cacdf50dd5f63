//! What one worker owns of the engine.

use std::sync::Arc;

use crate::{
    EngineError,
    cpu::{Arenas, SequenceMemory},
    cuda::{Cuda, Worker},
};

/// The memory that runs of a network need, grown on demand and kept between runs: one per worker
/// thread, shared by all networks that the worker runs.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(crate) cpu: Arenas,
    pub(crate) sequence: SequenceMemory,
    /// One for each device that the worker has run on, made on first use.
    cuda: Vec<Worker>,
    /// Memory for the faces of the next run.
    faces: Vec<Vec<u8>>,
}

impl Workspace {
    /// A workspace that owns nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the host's memory held now.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.cpu.bytes() + self.sequence.bytes()
    }

    /// Bytes of devices' memory held now.
    #[must_use]
    pub fn device_bytes(&self) -> u64 {
        self.cuda.iter().map(Worker::device_bytes).sum()
    }

    /// Memory for the faces of the next run, from faces that nobody reads any more. Without it, a run allocates them.
    pub fn give_faces(&mut self, faces: Vec<Vec<u8>>) {
        self.faces = faces;
    }

    /// The memory that was given; the run takes from it what it needs.
    pub(crate) fn take_faces(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.faces)
    }

    /// Gives the host's memory back. The next run takes what it needs.
    pub fn release_host(&mut self) {
        self.cpu = Arenas::default();
        self.sequence = SequenceMemory::default();
    }

    /// The worker's part on a device.
    pub(crate) fn on(&mut self, cuda: &Arc<Cuda>) -> Result<&mut Worker, EngineError> {
        let index = self.cuda.iter().position(|worker| worker.is_of(cuda));
        let index = match index {
            Some(index) => index,
            None => {
                self.cuda.push(Worker::new(cuda)?);
                self.cuda.len() - 1
            }
        };
        Ok(&mut self.cuda[index])
    }
}
