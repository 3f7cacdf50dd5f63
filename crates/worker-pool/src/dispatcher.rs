//! The dispatcher: the one thread that takes jobs from the queue and hands chunks to workers.
//!
//! It sleeps until something happens: a job comes, a worker has room again, the deadline of a
//! waiting job passes, or the pool is abandoned. It never waits for anything else, and never runs a
//! network. Which worker and which frames is decided in `policy.rs`.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Instant};

use crossbeam_channel::{Receiver, Sender, at, never, select};

use crate::{
    PoolError,
    policy::{Chunks, RoundRobin},
    task::{Chunk, Task},
};

/// The other ends of the dispatcher's channels.
#[derive(Debug)]
pub(crate) struct Channels {
    /// Accepted jobs, from `submit`. Disconnected: no more will come.
    pub(crate) queue: Receiver<Arc<Task>>,
    /// From the workers: the index of one that is done with a chunk.
    pub(crate) freed: Receiver<usize>,
    /// Disconnected by a shutdown that waits no longer; never has a message.
    pub(crate) abandon: Receiver<Infallible>,
    /// To the workers, each with room for `MAX_LOAD` chunks.
    pub(crate) workers: Vec<Sender<Chunk>>,
}

/// The state of the dispatcher thread.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    channels: Channels,
    max_batch_frames: usize,
    policy: RoundRobin,
    /// Chunks handed to each worker that it has not reported as done.
    loads: Vec<usize>,
    /// Jobs with chunks to hand out, oldest first. The open ones have a place in the queue each,
    /// which bounds them; ended ones are removed whenever something happens.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    task: Arc<Task>,
    chunks: Chunks,
}

/// What the dispatcher woke up for.
enum Event {
    Job(Arc<Task>),
    NoMoreJobs,
    Freed(usize),
    DeadlinePassed,
    Abandoned,
}

impl Dispatcher {
    pub(crate) fn new(channels: Channels, max_batch_frames: usize) -> Self {
        Self {
            loads: vec![0; channels.workers.len()],
            channels,
            max_batch_frames,
            policy: RoundRobin::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Runs until no more jobs can come and all have been handed out, or until abandoned. Dropping
    /// the channels on return lets the workers end.
    pub(crate) fn run(mut self) {
        let mut accepting = true;
        while accepting || !self.waiting.is_empty() {
            match self.next_event(accepting) {
                Event::Job(task) => {
                    let n_workers = self.loads.len();
                    let chunks = Chunks::new(task.n_frames(), n_workers, self.max_batch_frames);
                    self.waiting.push_back(Waiting { task, chunks });
                }
                Event::NoMoreJobs => accepting = false,
                Event::Freed(worker) => self.loads[worker] -= 1,
                Event::DeadlinePassed => {}
                Event::Abandoned => return self.abandon(),
            }
            self.hand_out();
        }
    }

    fn next_event(&self, accepting: bool) -> Event {
        let no_queue = never();
        let queue = if accepting {
            &self.channels.queue
        } else {
            &no_queue
        };
        let deadlines = self.waiting.iter().filter_map(|w| w.task.deadline());
        let deadline = deadlines.min().map_or_else(never, at);
        select! {
            recv(queue) -> task => task.map_or(Event::NoMoreJobs, Event::Job),
            recv(self.channels.freed) -> worker => worker.map_or(Event::Abandoned, Event::Freed),
            recv(deadline) -> _ => Event::DeadlinePassed,
            recv(self.channels.abandon) -> _ => Event::Abandoned,
        }
    }

    /// Hands out chunks, oldest job first, until nothing waits or all workers are full.
    fn hand_out(&mut self) {
        // A worker reports room before it answers, so a job sent after an answer finds the room.
        for worker in self.channels.freed.try_iter() {
            self.loads[worker] -= 1;
        }
        let now = Instant::now();
        self.waiting.retain(|w| w.task.wants_compute(now));
        while let Some(first) = self.waiting.front_mut() {
            let Some(worker) = self.policy.choose(&self.loads) else {
                return;
            };
            let Waiting { task, chunks } = first;
            let task = Arc::clone(task);
            let frames = chunks.next();
            if chunks.is_empty() {
                // Before the last chunk goes, so that who sees it run finds the place free.
                task.leave_queue();
                self.waiting.pop_front();
            }
            if let Some(frames) = frames {
                self.loads[worker] += 1;
                // Neither blocks nor fails: the channel has room for every chunk in `loads`, and the
                // pool, which outlives this thread, holds its other end.
                let _ = self.channels.workers[worker].send(Chunk { task, frames });
            }
        }
    }

    fn abandon(self) {
        let waiting = self.waiting.into_iter().map(|w| w.task);
        for task in waiting.chain(self.channels.queue.try_iter()) {
            task.fail(PoolError::ShuttingDown);
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;
    use crate::{stats::Ledger, tests::fake};

    #[test]
    fn room_that_was_reported_is_seen_before_the_next_chunk_goes() {
        let (_queue_tx, queue) = bounded(1);
        let (_abandon_tx, abandon) = bounded(0);
        let (freed_tx, freed) = bounded(1);
        let (senders, slots): (Vec<_>, Vec<_>) = (0..2).map(|_| bounded(1)).unzip();
        let channels = Channels {
            queue,
            freed,
            abandon,
            workers: senders,
        };
        let mut dispatcher = Dispatcher::new(channels, 1);
        let ledger = Arc::new(Ledger::new(1, 2));
        ledger.admit().unwrap();
        let job = fake::job(&Arc::default(), 0..1);
        let (task, _handle) = Task::accept(job, ledger);
        let chunks = Chunks::new(1, 2, 1);
        dispatcher.waiting.push_back(Waiting { task, chunks });
        // Worker 0 was busy, is done, and it is its turn.
        dispatcher.loads = vec![1, 0];
        freed_tx.send(0).unwrap();

        dispatcher.hand_out();
        assert_eq!(slots[0].len(), 1);
        assert_eq!(dispatcher.loads, [1, 0]);
        assert!(dispatcher.waiting.is_empty());
    }
}
