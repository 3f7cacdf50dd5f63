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
    order::lanes::Group,
    order::policy::{Chunks, Closed, is_slow, shared_frames, shares_batches, turn_frames},
    order::waiting::WaitingJobs,
    stats::Ledger,
    task::{Batch, Task},
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
        Self {
            channels,
            limits,
            ledger,
            groups: Group::of_devices(devices),
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
        let group = &mut self.groups[place];
        let n_frames = task.n_frames();
        if shares_batches(device) {
            return self
                .waiting
                .push(task, Chunks::unsplit(n_frames), place, false);
        }
        let pace = self.ledger.paces.of(task.generator());
        let max_frames = self.limits.max_frames.min(turn_frames(pace));
        let chunks = Chunks::new(n_frames, group.workers.len(), max_frames);
        let is_slow = is_slow(pace);
        group.note_job(is_slow, Instant::now());
        self.waiting.push(task, chunks, place, is_slow);
    }

    fn free(&mut self, worker: usize) {
        for group in &mut self.groups {
            group.free(worker);
        }
    }

    /// Hands out batches, oldest job first but in turns, until nothing waits but what is held back or has only full
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
        let n_idle = group.n_idle();
        let is_shared = shares_batches(group.device);
        if is_shared && n_idle == 0 {
            let held = self.waiting.hold_until(place, max_frames, max_wait, now);
            if let Some(until) = held {
                return Step::Hold(until);
            }
        }
        let is_slow = self.waiting.is_slow(place);
        let Some(worker) = group.take_worker(is_slow, now) else {
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

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use crossbeam_channel::bounded;
    use lipsync_engine::Generator;

    use super::*;
    use crate::{
        JobHandle,
        order::policy::{MAX_LOAD, TURN},
        tests::fake::{self, Fake},
    };

    /// A dispatcher without threads, and what it hands to its workers on the CPU.
    struct Stage {
        dispatcher: Dispatcher,
        slots: Vec<Receiver<Batch>>,
        freed: Sender<usize>,
        ledger: Arc<Ledger>,
        _ends: (Sender<Arc<Task>>, Sender<Infallible>),
        handles: Vec<JobHandle>,
    }

    impl Stage {
        fn new(n_workers: usize, max_frames: usize) -> Self {
            let (queue_tx, queue) = bounded(1);
            let (abandon_tx, abandon) = bounded(0);
            let (freed_tx, freed) = bounded(n_workers * MAX_LOAD);
            let (senders, slots) = (0..n_workers).map(|_| bounded(MAX_LOAD)).unzip();
            let channels = Channels {
                queue,
                freed,
                abandon,
                workers: senders,
            };
            let limits = BatchLimits {
                max_frames,
                max_wait: Duration::ZERO,
            };
            let devices = vec![Device::Cpu; n_workers];
            let ledger = Arc::new(Ledger::new(100, &devices));
            Self {
                dispatcher: Dispatcher::new(channels, &devices, limits, Arc::clone(&ledger)),
                slots,
                freed: freed_tx,
                ledger,
                _ends: (queue_tx, abandon_tx),
                handles: Vec::new(),
            }
        }

        fn enter(&mut self, network: &Arc<Fake>, ids: Range<u32>) {
            self.ledger.admit().unwrap();
            let (task, handle) = Task::accept(fake::job(network, ids), Arc::clone(&self.ledger));
            self.handles.push(handle);
            self.dispatcher.enter(task);
        }

        /// What workers are given now: for each, the first frame and the number of each chunk.
        fn hand_out(&mut self) -> Vec<Vec<(usize, usize)>> {
            self.dispatcher.hand_out();
            let chunk = |batch: Batch| {
                let frames = &batch.chunks[0].frames;
                (frames.start, frames.len())
            };
            let given = |slot: &Receiver<Batch>| slot.try_iter().map(chunk).collect();
            self.slots.iter().map(given).collect()
        }
    }

    #[test]
    fn room_that_was_reported_is_seen_before_the_next_chunk_goes() {
        let mut stage = Stage::new(2, 1);
        stage.enter(&Arc::default(), 0..1);
        // Worker 0 was busy, is done, and it is its turn.
        stage.dispatcher.groups[0].loads = vec![1, 0];
        stage.freed.send(0).unwrap();

        assert_eq!(stage.hand_out(), [vec![(0, 1)], vec![]]);
        assert_eq!(stage.dispatcher.groups[0].loads, [1, 0]);
        assert!(stage.dispatcher.waiting.is_empty());
    }

    #[test]
    fn a_slow_network_leaves_workers_to_others_and_has_nothing_queued_behind_it() {
        let mut stage = Stage::new(4, 64);
        let (slow, quick) = (Arc::new(Fake::default()), Arc::new(Fake::default()));
        let network: Arc<dyn Generator> = Arc::clone(&slow) as _;
        stage.ledger.paces.note(&network, 1, 5 * TURN);
        stage.enter(&quick, 0..1);
        assert_eq!(stage.hand_out(), [vec![(0, 1)], vec![], vec![], vec![]]);
        stage.enter(&slow, 0..8);
        // Two of four workers, a frame each.
        let alone = |n| vec![(n, 1)];
        assert_eq!(stage.hand_out(), [vec![], alone(0), alone(1), vec![]]);
        // The idle worker first; then what is quick queues, and nowhere else.
        stage.enter(&quick, 0..4);
        let [queued, idle] = [vec![(1, 1)], vec![(0, 1), (2, 1)]];
        assert_eq!(stage.hand_out(), [queued, vec![], vec![], idle]);
        stage.freed.send(1).unwrap();
        assert_eq!(stage.hand_out(), [vec![], alone(2), vec![], vec![]]);
    }

    #[test]
    fn chunks_are_cut_by_what_a_frame_takes() {
        let mut stage = Stage::new(2, 64);
        let network: Arc<dyn Generator> = Arc::new(Fake::default());
        let fake = Arc::new(Fake::default());
        stage.enter(&fake, 0..32);
        assert_eq!(stage.hand_out(), [vec![(0, 16)], vec![(16, 16)]]);
        let known: Arc<dyn Generator> = Arc::clone(&fake) as _;
        stage.ledger.paces.note(&known, 1, TURN / 3);
        stage.ledger.paces.note(&network, 1, TURN);
        for worker in [0, 1] {
            stage.freed.send(worker).unwrap();
        }
        stage.enter(&fake, 0..32);
        assert_eq!(
            stage.hand_out(),
            [vec![(0, 3), (6, 3)], vec![(3, 3), (9, 3)]]
        );
    }

    #[test]
    fn alone_a_slow_network_has_all_workers() {
        let mut stage = Stage::new(3, 64);
        let slow = Arc::new(Fake::default());
        let network: Arc<dyn Generator> = Arc::clone(&slow) as _;
        stage.ledger.paces.note(&network, 1, 5 * TURN);
        stage.enter(&slow, 0..9);
        let alone = |n| vec![(n, 1)];
        assert_eq!(stage.hand_out(), [alone(0), alone(1), alone(2)]);
        stage.freed.send(2).unwrap();
        assert_eq!(stage.hand_out(), [vec![], vec![], alone(3)]);
    }
}
