//! A worker: one thread with its own workspace, running the batches that it is handed.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use crossbeam_channel::{Receiver, RecvError, Sender, TryRecvError, after, never, select};
use lipsync_engine::Workspace;

use crate::{
    PoolError,
    ahead::{Ahead, IDLE},
    arenas::LOOK,
    execute::Executor,
    task::Batch,
    warm_up::WarmUp,
};

/// The state of a worker thread.
pub(crate) struct Worker {
    /// From the dispatcher. Disconnected: nothing more will come.
    batches: Receiver<Batch>,
    /// Disconnected when the dispatcher has ended; never has a message. That of `batches` cannot be seen
    /// without taking one.
    dispatching: Receiver<Infallible>,
    /// To the dispatcher: this worker's index for each batch done with. Has room for all batches
    /// that can be under way, so sending does not block.
    freed: Sender<usize>,
    /// From whoever loads networks. Disconnected: the pool is gone.
    warm_ups: Receiver<WarmUp>,
    executor: Executor,
    /// What may be prepared after the last job, until that is done or there is another job.
    ahead: Option<Arc<Ahead>>,
}

impl Worker {
    pub(crate) fn new(
        batches: Receiver<Batch>,
        dispatching: Receiver<Infallible>,
        freed: Sender<usize>,
        warm_ups: Receiver<WarmUp>,
        executor: Executor,
    ) -> Self {
        Self {
            batches,
            dispatching,
            freed,
            warm_ups,
            executor,
            ahead: None,
        }
    }

    /// Runs until the dispatcher is gone and its batches are done.
    pub(crate) fn run(mut self) {
        while let Some(Batch { chunks }) = self.next_batch() {
            // What a panic outside of a network takes with it ends its jobs when it is dropped. The worker
            // stays: batches that wait for it would wait for ever, and with them the room that they take.
            let mut outcomes = Vec::new();
            self.survive(|worker| outcomes = worker.executor.run(chunks));
            // Before the answers, so that who has one finds the room. The dispatcher may have ended
            // already.
            let _ = self.freed.send(self.executor.worker);
            for (chunk, result) in outcomes {
                match result {
                    Ok(done) => {
                        self.ahead = chunk.task.ahead();
                        chunk.task.add(chunk.frames, done);
                    }
                    Err(error) => chunk.task.fail(error),
                }
            }
            self.executor.give_back(Instant::now());
        }
    }

    /// The next batch, or `None` when no more can come. While there is none, frames are prepared.
    fn next_batch(&mut self) -> Option<Batch> {
        loop {
            let patience = match self.ahead {
                None => never(),
                Some(_) => after(IDLE),
            };
            let look = match self.executor.holds_memory() {
                true => after(LOOK),
                false => never(),
            };
            select! {
                recv(self.batches) -> batch => return batch.ok(),
                recv(self.warm_ups) -> order => match order {
                    // Whoever gave an order that panics finds its reply missing.
                    Ok(order) => self.survive(|worker| order.obey(&mut worker.executor)),
                    Err(RecvError) => self.warm_ups = never(),
                },
                recv(patience) -> _ => self.survive(Self::prepare_ahead),
                recv(look) -> _ => self.survive(|worker| worker.executor.give_back(Instant::now())),
            }
        }
    }

    /// Does something after which, even if it panics, the worker is as good as new.
    fn survive(&mut self, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            self.executor.workspace = Workspace::new();
        }
    }

    /// Prepares frames until there are no more, or there is something else to do.
    fn prepare_ahead(&mut self) {
        // Whatever the end: an idle worker holds no network.
        let Some(ahead) = self.ahead.take() else {
            return;
        };
        // Asked between the steps of the network, so nothing here may take long. A pool that stops waits for
        // no preparing.
        let stop = || {
            let is_over = self.dispatching.try_recv() == Err(TryRecvError::Disconnected);
            is_over || !self.batches.is_empty() || !self.warm_ups.is_empty()
        };
        while !stop() {
            match ahead.prepare_one(&mut self.executor.workspace, &stop) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(worker = self.executor.worker, %error, "no frames are prepared");
                    match error {
                        PoolError::Engine(error) => drop(self.executor.take_stock(error)),
                        _ => self.executor.workspace = Workspace::new(),
                    }
                    return;
                }
            }
        }
    }
}
