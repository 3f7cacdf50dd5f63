//! Getting workers ready for a network before anything waits for it.
//!
//! On a GPU the first batch of a size costs far more than the next: memory is reserved and launches are
//! recorded, by each worker for itself. So a model is not called ready before all workers of its device
//! have done that.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use lipsync_engine::{Generator, Workspace};

use crate::{PoolError, execute::Executor};

/// Warm-ups that may wait at one worker; whoever asks for more blocks.
pub(crate) const MAX_WAITING: usize = 16;

/// One worker's order.
pub(crate) struct WarmUp {
    generator: Arc<dyn Generator>,
    max_batch_frames: usize,
    reply: Sender<Result<(), PoolError>>,
}

impl WarmUp {
    /// Orders for any number of workers, and what they will say.
    pub(crate) fn orders(
        generator: &Arc<dyn Generator>,
        max_batch_frames: usize,
        n_workers: usize,
    ) -> (impl Iterator<Item = Self>, Receiver<Result<(), PoolError>>) {
        let (reply, replies) = bounded(n_workers.max(1));
        let generator = Arc::clone(generator);
        let orders = std::iter::repeat_with(move || Self {
            generator: Arc::clone(&generator),
            max_batch_frames,
            reply: reply.clone(),
        });
        (orders.take(n_workers), replies)
    }

    /// Does it and says how it went.
    pub(crate) fn obey(self, executor: &mut Executor) {
        let result = executor.warm_up(&*self.generator, self.max_batch_frames);
        // Before the reply, so that who has it finds the network unused.
        drop(self.generator);
        // There is room for all replies; nobody may wait for them any more.
        let _ = self.reply.send(result);
    }
}

impl Executor {
    /// As for a run: where there is too little memory, others give some back, then the batches get smaller.
    fn warm_up(&mut self, generator: &dyn Generator, max_frames: usize) -> Result<(), PoolError> {
        if self.ledger.is_lost(self.device) {
            return Err(self.lost());
        }
        let mut n_frames = max_frames.min(self.ceiling.n_frames);
        loop {
            let workspace = &mut self.workspace;
            // Unwind safe: after a panic the workspace is not looked at again.
            let outcome = catch_unwind(AssertUnwindSafe(|| generator.warm_up(workspace, n_frames)));
            let error = match outcome {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => self.take_stock(error),
                Err(_) => {
                    self.workspace = Workspace::new();
                    return Err(PoolError::Panicked);
                }
            };
            let PoolError::OutOfMemory { needed, free, .. } = error else {
                return Err(error);
            };
            if self
                .room
                .make_room(self.device, needed.saturating_sub(free).max(1))
            {
                continue;
            }
            if n_frames <= 1 {
                return Err(error);
            }
            n_frames = n_frames.div_ceil(2);
            self.ceiling.lower_to(n_frames);
        }
    }
}
