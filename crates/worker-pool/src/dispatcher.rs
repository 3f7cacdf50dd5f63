//! The dispatcher: the one thread that takes jobs from the queue and hands batches to workers.
//!
//! It sleeps until something happens: a job comes, a worker has room again, the deadline of a
//! waiting job passes, a batch has been held back for long enough, or the pool is abandoned. It
//! never waits for anything else, and never runs a network. Which worker and which frames is decided
//! in `policy.rs`, what shares a batch in `waiting.rs`.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, at, never, select};
use lipsync_engine::Device;

use crate::{
    PoolError,
    policy::{Chunks, Closed, MAX_LOAD, RoundRobin, shared_frames, shares_batches},
    stats::Ledger,
    task::{Batch, Task},
    waiting::WaitingJobs,
};

/// The other ends of the dispatcher's channels.
#[derive(Debug)]
pub(crate) struct Channels {
    /// Accepted jobs, from `submit`. Disconnected: no more will come.
    pub(crate) queue: Receiver<Arc<Task>>,
    /// From the workers: the index of one that is done with a batch.
    pub(crate) freed: Receiver<usize>,
    /// Disconnected by a shutdown that waits no longer; never has a message.
    pub(crate) abandon: Receiver<Infallible>,
    /// To the workers, each with room for `MAX_LOAD` batches.
    pub(crate) workers: Vec<Sender<Batch>>,
}

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) max_frames: usize,
    /// For others to join, while all workers of the device are busy.
    pub(crate) max_wait: Duration,
}

/// The state of the dispatcher thread.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    channels: Channels,
    limits: BatchLimits,
    ledger: Arc<Ledger>,
    groups: Vec<Group>,
    waiting: WaitingJobs,
    /// When a batch that is held back must go.
    wake: Option<Instant>,
}

/// The workers of one device.
#[derive(Debug)]
struct Group {
    device: Device,
    /// Their indices in the pool.
    workers: Vec<usize>,
    /// Batches handed to each that it has not reported as done.
    loads: Vec<usize>,
    policy: RoundRobin,
}

/// What the dispatcher woke up for.
enum Event {
    Job(Arc<Task>),
    NoMoreJobs,
    Freed(usize),
    TimePassed,
    Abandoned,
}

/// What becomes of the oldest waiting job of a model.
enum Step {
    /// Its batch goes to this worker of the pool.
    Send(usize, Batch),
    /// It waits for others to join, at most until then.
    Hold(Instant),
    /// No worker has room.
    Full,
}

impl Dispatcher {
    /// A dispatcher over workers of the given devices.
    pub(crate) fn new(
        channels: Channels,
        devices: &[Device],
        limits: BatchLimits,
        ledger: Arc<Ledger>,
    ) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (worker, &device) in devices.iter().enumerate() {
            match groups.iter_mut().find(|group| group.device == device) {
                Some(group) => group.workers.push(worker),
                None => groups.push(Group {
                    device,
                    workers: vec![worker],
                    loads: Vec::new(),
                    policy: RoundRobin::default(),
                }),
            }
        }
        for group in &mut groups {
            group.loads = vec![0; group.workers.len()];
        }
        Self {
            channels,
            limits,
            ledger,
            groups,
            waiting: WaitingJobs::default(),
            wake: None,
        }
    }

    /// Runs until no more jobs can come and all have been handed out, or until abandoned. Dropping
    /// the channels on return lets the workers end; that of `_dispatching`, which has no messages, tells them
    /// to leave what they prepare.
    pub(crate) fn run(mut self, _dispatching: Sender<Infallible>) {
        let mut accepting = true;
        while accepting || !self.waiting.is_empty() {
            match self.next_event(accepting) {
                Event::Job(task) => self.enter(task),
                Event::NoMoreJobs => accepting = false,
                Event::Freed(worker) => self.free(worker),
                Event::TimePassed => {}
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
        let times = self.waiting.deadline().into_iter().chain(self.wake);
        let time = times.min().map_or_else(never, at);
        select! {
            recv(queue) -> task => task.map_or(Event::NoMoreJobs, Event::Job),
            recv(self.channels.freed) -> worker => worker.map_or(Event::Abandoned, Event::Freed),
            recv(time) -> _ => Event::TimePassed,
            recv(self.channels.abandon) -> _ => Event::Abandoned,
        }
    }

    fn enter(&mut self, task: Arc<Task>) {
        let device = task.device();
        let Some(place) = self.groups.iter().position(|g| g.device == device) else {
            // `submit` has looked already.
            return task.fail(PoolError::NoWorker { device });
        };
        let n_frames = task.n_frames();
        let chunks = if shares_batches(device) {
            Chunks::unsplit(n_frames)
        } else {
            let n_workers = self.groups[place].workers.len();
            Chunks::new(n_frames, n_workers, self.limits.max_frames)
        };
        self.waiting.push(task, chunks, place);
    }

    fn free(&mut self, worker: usize) {
        for group in &mut self.groups {
            if let Some(place) = group.workers.iter().position(|&w| w == worker) {
                group.loads[place] -= 1;
            }
        }
    }

    /// Hands out batches, oldest job first, until nothing waits but what is held back or has only full
    /// workers.
    fn hand_out(&mut self) {
        // A worker reports room before it answers, so a job sent after an answer finds the room.
        while let Ok(worker) = self.channels.freed.try_recv() {
            self.free(worker);
        }
        // What has come in the meantime may share a batch with what is here.
        while let Ok(task) = self.channels.queue.try_recv() {
            self.enter(task);
        }
        let now = Instant::now();
        self.waiting.forget_ended(now);
        self.wake = None;
        let mut held: Vec<Arc<Task>> = Vec::new();
        let mut place = 0;
        while place < self.waiting.len() && self.groups.iter().any(Group::has_room) {
            let task = self.waiting.task(place);
            // Jobs behind one that is held back are part of what it waits for.
            if held.iter().any(|first| first.has_same_generator(task)) {
                place += 1;
                continue;
            }
            match self.step(place, now) {
                // Neither blocks nor fails: the channel has room for every batch in `loads`, and the
                // pool, which outlives this thread, holds its other end.
                Step::Send(worker, batch) => drop(self.channels.workers[worker].send(batch)),
                Step::Hold(until) => {
                    self.wake = Some(self.wake.map_or(until, |wake| wake.min(until)));
                    held.push(Arc::clone(self.waiting.task(place)));
                    place += 1;
                }
                Step::Full => place += 1,
            }
        }
    }

    fn step(&mut self, place: usize, now: Instant) -> Step {
        let BatchLimits {
            max_frames,
            max_wait,
        } = self.limits;
        let group = &mut self.groups[self.waiting.group(place)];
        if !group.has_room() {
            return Step::Full;
        }
        let n_idle = group.loads.iter().filter(|&&load| load == 0).count();
        let is_shared = shares_batches(group.device);
        if is_shared && n_idle == 0 {
            let held = self.waiting.hold_until(place, max_frames, max_wait, now);
            if let Some(until) = held {
                return Step::Hold(until);
            }
        }
        let Some(worker) = group.take_worker() else {
            return Step::Full;
        };
        if !is_shared {
            return Step::Send(worker, self.waiting.take_alone(place));
        }
        let n_waiting = self.waiting.n_frames_like(place);
        let n_frames = shared_frames(n_waiting, n_idle, max_frames);
        let (batch, is_full) = self.waiting.take_shared(place, n_frames);
        self.ledger.close_batch(match (is_full, n_idle) {
            (true, _) => Closed::Full,
            (false, 0) => Closed::WaitOver,
            (false, _) => Closed::Idle,
        });
        Step::Send(worker, batch)
    }

    fn abandon(self) {
        let waiting = self.waiting.into_tasks();
        for task in waiting.chain(self.channels.queue.try_iter()) {
            task.fail(PoolError::ShuttingDown);
        }
    }
}

impl Group {
    fn has_room(&self) -> bool {
        self.loads.iter().any(|&load| load < MAX_LOAD)
    }

    /// The worker whose turn it is, with one batch more.
    fn take_worker(&mut self) -> Option<usize> {
        let place = self.policy.choose(&self.loads, MAX_LOAD)?;
        self.loads[place] += 1;
        Some(self.workers[place])
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;
    use crate::tests::fake;

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
        let limits = BatchLimits {
            max_frames: 1,
            max_wait: Duration::ZERO,
        };
        let devices = [Device::Cpu; 2];
        let ledger = Arc::new(Ledger::new(1, &devices));
        let mut dispatcher = Dispatcher::new(channels, &devices, limits, Arc::clone(&ledger));
        ledger.admit().unwrap();
        let job = fake::job(&Arc::default(), 0..1);
        let (task, _handle) = Task::accept(job, ledger);
        dispatcher.enter(task);
        // Worker 0 was busy, is done, and it is its turn.
        dispatcher.groups[0].loads = vec![1, 0];
        freed_tx.send(0).unwrap();

        dispatcher.hand_out();
        assert_eq!(slots[0].len(), 1);
        assert_eq!(dispatcher.groups[0].loads, [1, 0]);
        assert!(dispatcher.waiting.is_empty());
    }
}
