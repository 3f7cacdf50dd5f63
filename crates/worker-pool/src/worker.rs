//! A worker: one thread with its own workspace, running the batches that it is handed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use crossbeam_channel::{RecvError, SendError, Sender, TryRecvError, after, never, select};

use crate::{
    PoolError,
    ahead::{Ahead, IDLE},
    arenas::LOOK,
    dispatcher::Notice,
    execute::Executor,
    overlap::Flight,
    recovery::lose,
    roster::LineEnds,
    task::{Batch, Chunk},
};

/// The state of a worker thread.
pub(crate) struct Worker {
    line: LineEnds,
    /// To the dispatcher, which reads whatever it does.
    notices: Sender<Notice>,
    executor: Executor,
    /// What may be prepared after the last job, until that is done or there is another job.
    ahead: Option<Arc<Ahead>>,
}

impl Worker {
    pub(crate) fn new(line: LineEnds, notices: Sender<Notice>, executor: Executor) -> Self {
        Self {
            line,
            notices,
            executor,
            ahead: None,
        }
    }

    /// Runs until it is let go of and its batches are done.
    pub(crate) fn run(mut self) {
        while let Some(Batch { chunks }) = self.next_batch() {
            let mut flight = Some(self.begin(chunks));
            while let Some(mut first) = flight.take() {
                flight = self.next_behind(&mut first);
                self.land(first);
            }
        }
    }

    /// Takes a batch, and starts it where that needs no waiting.
    fn begin(&mut self, chunks: Vec<Chunk>) -> Flight {
        // What a panic outside of a network takes with it ends its jobs when it is dropped. The worker
        // stays: batches that wait for it would wait for ever, and with them the room that they take.
        let mut flight = Flight::default();
        self.survive(|worker| flight = worker.executor.begin(chunks));
        flight
    }

    /// The next batch, started behind one that is under way, if it comes before that one is done. An order to warm up
    /// comes first: it would wait for as long as there are batches.
    fn next_behind(&mut self, first: &mut Flight) -> Option<Flight> {
        if !self.executor.is_under_way(first) {
            return None;
        }
        let line = &self.line;
        let stop = || !line.batches.is_empty() && line.warm_ups.is_empty();
        if self.executor.wait(first, &stop) {
            return None;
        }
        let Batch { chunks } = self.line.batches.try_recv().ok()?;
        Some(self.begin(chunks))
    }

    /// Ends a batch, and answers.
    fn land(&mut self, flight: Flight) {
        let mut outcomes = Vec::new();
        self.survive(|worker| outcomes = worker.executor.land(flight));
        // Before the answers, so that whoever has one finds the room. The dispatcher may have ended
        // already.
        let _ = self.notices.send(Notice::Done {
            worker: self.executor.worker,
            took: std::mem::take(&mut self.executor.spent),
        });
        for (chunk, result) in outcomes {
            match result {
                Ok(done) => {
                    self.ahead = chunk.task.ahead();
                    chunk.task.add(chunk.frames, done);
                }
                Err(error) => self.give_up(chunk, error),
            }
        }
        self.executor.give_back(Instant::now());
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
                recv(self.line.batches) -> batch => return batch.ok(),
                recv(self.line.warm_ups) -> order => match order {
                    // Whoever gave an order that panics finds its reply missing.
                    Ok(order) => self.survive(|worker| order.obey(&mut worker.executor)),
                    Err(RecvError) => self.line.warm_ups = never(),
                },
                recv(patience) -> _ => self.survive(Self::prepare_ahead),
                recv(look) -> _ => self.survive(|worker| worker.executor.give_back(Instant::now())),
            }
        }
    }

    /// Has frames that failed run again, if that may help.
    fn give_up(&self, chunk: Chunk, error: PoolError) {
        let Some(notice) = self.executor.give_up(chunk, error) else {
            return;
        };
        if let Err(SendError(Notice::Again { chunk, error, .. })) = self.notices.send(notice) {
            // The pool ends.
            lose(&self.executor.ledger, chunk, error);
        }
    }

    /// Does something after which, even if it panics, the worker is as good as new.
    fn survive(&mut self, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            self.executor.rebuild();
        }
    }

    /// Prepares frames until there are no more, or there is something else to do.
    fn prepare_ahead(&mut self) {
        // Whatever the end: an idle worker holds no network.
        let Some(ahead) = self.ahead.take() else {
            return;
        };
        let line = &self.line;
        // Asked between the steps of the network, so nothing here may take long. A pool that stops waits for
        // no preparing.
        let stop = || {
            let is_over = line.stays.try_recv() == Err(TryRecvError::Disconnected);
            is_over || !line.batches.is_empty() || !line.warm_ups.is_empty()
        };
        while !stop() {
            match ahead.prepare_one(&mut self.executor.workspace, &stop) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(worker = self.executor.worker, %error, "no frames are prepared");
                    match error {
                        PoolError::Engine(error) => drop(self.executor.take_stock(error)),
                        _ => self.executor.rebuild(),
                    }
                    return;
                }
            }
        }
    }
}
