//! A network on a device, whatever it computes: its launches and its weights there.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    Cuda,
    driver::{Allocation, held_bytes},
    program::Program,
};
use crate::EngineError;

/// Tells networks apart, also from those that are gone.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A program, and its weights on one device. It lives for as long as a batch of it is under way.
#[derive(Debug)]
pub(crate) struct Network {
    /// A number that no other network has.
    pub id: u64,
    pub cuda: Arc<Cuda>,
    pub program: Program,
    weights: Allocation,
}

impl Network {
    /// Copies a program's weights to the device.
    pub fn place(mut program: Program, cuda: &Arc<Cuda>) -> Result<Arc<Self>, EngineError> {
        let weights = cuda.place(&program.take_weights())?;
        Ok(Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            cuda: Arc::clone(cuda),
            program,
            weights,
        }))
    }

    /// Where its weights are.
    pub fn weights(&self) -> u64 {
        self.weights.address
    }

    /// Bytes of the device that its weights hold.
    pub fn weights_bytes(&self) -> u64 {
        held_bytes(self.weights.n_bytes as u64)
    }
}
