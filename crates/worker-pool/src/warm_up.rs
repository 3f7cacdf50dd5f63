//! Getting workers ready for a network before anything waits for it.
//!
//! On a GPU the first batch of a size costs far more than the next: memory is reserved and launches are
//! recorded, by each worker for itself. So a model is not called ready before all workers of its device
//! have done that.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use lipsync_engine::Generator;

use crate::{PoolError, WorkerPool, execute::Executor};

/// Warm-ups that may wait at one worker; whoever asks for more blocks.
pub(crate) const MAX_WAITING: usize = 16;

/// One worker's order.
pub(crate) struct WarmUp {
    generator: Arc<dyn Generator>,
    max_batch_frames: usize,
    reply: Reply,
}

/// What a worker says to an order: whether it has obeyed, or leaves the pool.
type Answer = Result<bool, PoolError>;

/// Where an answer goes. One that is dropped says that the worker leaves; one that a panic takes along says
/// nothing.
#[derive(Debug)]
struct Reply(Option<Sender<Answer>>);

impl Reply {
    fn send(&mut self, answer: Answer) {
        if let Some(reply) = self.0.take() {
            // There is room for all; nobody may wait for them any more.
            let _ = reply.send(answer);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.send(Ok(false));
        }
    }
}

impl WarmUp {
    /// Has workers get ready for a network, and waits until all that stay are; whether all stayed.
    ///
    /// # Errors
    /// What a worker met; [`PoolError::ShuttingDown`] where one did not answer.
    pub(crate) fn have_done(
        generator: &Arc<dyn Generator>,
        max_batch_frames: usize,
        workers: Vec<Sender<Self>>,
    ) -> Answer {
        let n_workers = workers.len();
        let (reply, answers) = bounded(n_workers);
        for worker in workers {
            // The order of one that leaves is dropped: here, by its thread, or with its channel, which this
            // end must not keep.
            drop(worker.send(Self {
                generator: Arc::clone(generator),
                max_batch_frames,
                reply: Reply(Some(reply.clone())),
            }));
        }
        drop(reply);
        Self::wait(&answers, n_workers)
    }

    fn wait(answers: &Receiver<Answer>, n_workers: usize) -> Answer {
        let mut all_stayed = true;
        for _ in 0..n_workers {
            all_stayed &= answers.recv().map_err(|_| PoolError::ShuttingDown)??;
        }
        Ok(all_stayed)
    }

    /// Does it and says how it went.
    pub(crate) fn obey(mut self, executor: &mut Executor) {
        let result = executor.warm_up(&*self.generator, self.max_batch_frames);
        // Before the reply, so that whoever has it finds the network unused.
        drop(self.generator);
        self.reply.send(result.map(|()| true));
    }
}

impl WorkerPool {
    /// Gets every worker of the generator's device ready for batches of any size; blocks until all are.
    /// Workers that join later get ready for it, too, for as long as it is in memory.
    ///
    /// # Errors
    /// [`PoolError::Engine`], [`PoolError::Panicked`], [`PoolError::OutOfMemory`] or
    /// [`PoolError::DeviceLost`]: a worker cannot run it. [`PoolError::NoWorker`], and
    /// [`PoolError::ShuttingDown`].
    pub fn warm_up(&self, generator: &Arc<dyn Generator>) -> Result<(), PoolError> {
        self.hiring()?;
        let workers = self.roster.lock().warm_up(generator);
        if workers.is_empty() {
            let device = generator.device();
            return Err(PoolError::NoWorker { device });
        }
        let all_stayed = WarmUp::have_done(generator, self.max_batch_frames, workers)?;
        if !all_stayed {
            // One that left is none that has to be ready, unless all leave.
            self.hiring()?;
        }
        Ok(())
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
            match self.with_room(|worker| worker.try_warm_up(generator, n_frames)) {
                Err(PoolError::OutOfMemory { .. }) if n_frames > 1 => {
                    n_frames = n_frames.div_ceil(2);
                    self.ceiling.lower_to(n_frames);
                }
                result => return result,
            }
        }
    }

    fn try_warm_up(
        &mut self,
        generator: &dyn Generator,
        max_batch_frames: usize,
    ) -> Result<(), PoolError> {
        let workspace = &mut self.workspace;
        // Unwind safe: after a panic the workspace is not looked at again.
        let warm_up = AssertUnwindSafe(|| generator.warm_up(workspace, max_batch_frames));
        match catch_unwind(warm_up) {
            Ok(result) => result.map_err(|error| self.take_stock(error)),
            Err(_) => {
                self.rebuild();
                Err(PoolError::Panicked)
            }
        }
    }
}
