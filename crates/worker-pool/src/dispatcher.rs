//! The dispatcher: the one thread that takes jobs from the queue and hands batches to workers.
//!
//! It sleeps until something happens: a job comes, a worker has room again, a worker joins or leaves, the
//! deadline of a waiting job passes, a batch has been held back for long enough, or the pool is abandoned. It
//! never waits for anything else, and never runs a network. What goes next, and to whom, an [`Order`] decides.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, at, never, select};

use crate::{
    PoolError,
    order::{Assignment, Decision, Entry, JobId, NetworkId, Order, Part, policy::shares_batches},
    recovery::lose,
    roster::{Roster, SharedRoster},
    stats::Ledger,
    task::{Batch, Chunk, Task},
};

/// Notices that may wait for the dispatcher. Whoever finds no room waits for the dispatcher, which waits for
/// nobody.
pub(crate) const MAX_NOTICES: usize = 256;

/// The other ends of the dispatcher's channels.
#[derive(Debug)]
pub(crate) struct Channels {
    /// Accepted jobs, from `submit`. Disconnected: no more will come.
    pub(crate) queue: Receiver<Arc<Task>>,
    /// From the workers, and from the pool.
    pub(crate) notices: Receiver<Notice>,
    /// Disconnected by a shutdown that waits no longer; never has a message.
    pub(crate) abandon: Receiver<Infallible>,
}

/// What the dispatcher is told of workers, by their numbers.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Frames that failed are to be run again.
    Again {
        chunk: Chunk,
        /// Not before.
        at: Instant,
        /// What they met.
        error: PoolError,
    },
    /// It is done with a batch, which took so much of its time.
    Done { worker: usize, took: Duration },
    /// Batches have at most this many frames, or a part of what they may have.
    LimitBatches { max_frames: usize },
    /// It has joined.
    Joined,
    /// It is to leave.
    Leave {
        worker: usize,
        reply: Sender<Result<(), PoolError>>,
    },
    /// Its thread has ended.
    Ended(usize),
}

/// The state of the dispatcher thread.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    channels: Channels,
    order: Box<dyn Order>,
    roster: Arc<SharedRoster>,
    ledger: Arc<Ledger>,
    /// Jobs with frames to hand out, the oldest first. The open ones have a place in the queue each, which
    /// bounds them; ended ones are removed whenever something happens.
    waiting: BTreeMap<JobId, Waiting>,
    n_jobs: u64,
    /// Frames that failed and are run again, by when.
    failed: BTreeMap<(Instant, u64), Chunk>,
    /// When the order must be asked again.
    wake: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    task: Arc<Task>,
    /// The frame that the order counts from.
    first: usize,
    /// How often its frames have failed.
    n_tries: u32,
    /// Frames that have not been handed out.
    n_left: usize,
}

/// What the dispatcher woke up for.
enum Event {
    Job(Arc<Task>),
    NoMoreJobs,
    Notice(Notice),
    TimePassed,
    Abandoned,
}

impl Dispatcher {
    pub(crate) fn new(
        channels: Channels,
        order: Box<dyn Order>,
        roster: Arc<SharedRoster>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            channels,
            order,
            roster,
            ledger,
            waiting: BTreeMap::new(),
            n_jobs: 0,
            failed: BTreeMap::new(),
            wake: None,
        }
    }

    /// Runs until no more jobs can come and all have been handed out, or until abandoned. Then the workers
    /// are let go of.
    pub(crate) fn run(mut self) {
        let mut accepting = true;
        while accepting || !self.waiting.is_empty() || !self.failed.is_empty() {
            match self.next_event(accepting) {
                Event::Job(task) => self.enter(task),
                Event::NoMoreJobs => accepting = false,
                Event::Notice(notice) => self.heed(notice),
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
        let jobs = self.waiting.values();
        let deadlines = jobs.filter_map(|job| job.task.deadline());
        let again = self.failed.keys().map(|&(at, _)| at).next();
        let times = deadlines.chain(self.wake).chain(again);
        let time = times.min().map_or_else(never, at);
        select! {
            recv(queue) -> task => task.map_or(Event::NoMoreJobs, Event::Job),
            recv(self.channels.notices) -> notice => notice.map_or(Event::Abandoned, Event::Notice),
            recv(time) -> _ => Event::TimePassed,
            recv(self.channels.abandon) -> _ => Event::Abandoned,
        }
    }

    fn enter(&mut self, task: Arc<Task>) {
        let frames = 0..task.n_frames();
        self.enter_part(Chunk {
            task,
            frames,
            n_tries: 0,
        });
    }

    /// Has frames of a job wait.
    fn enter_part(&mut self, chunk: Chunk) {
        let Chunk {
            task,
            frames,
            n_tries,
        } = chunk;
        let device = task.device();
        let roster = self.roster.lock();
        if !roster.has(device) {
            // There was one when `submit` looked.
            drop(roster);
            return task.fail(PoolError::NoWorker { device });
        }
        let id = JobId(self.n_jobs);
        self.n_jobs += 1;
        let generator = task.generator();
        let entry = Entry {
            id,
            network: NetworkId::of(generator),
            device,
            n_frames: frames.len(),
            claim: task.claim().clone(),
            submitted_at: task.submitted_at(),
            frame_cost: self.ledger.costs.of(generator).map(|cost| cost.per_frame),
            macs: generator.macs(),
        };
        let n_left = entry.n_frames;
        if n_tries == 0 && !shares_batches(device) && n_left >= roster.on(device).count() {
            self.ledger.times(|times| times.n_wide += 1);
        }
        self.order.push(entry, Instant::now(), &roster);
        let waiting = Waiting {
            task,
            first: frames.start,
            n_tries,
            n_left,
        };
        self.waiting.insert(id, waiting);
    }

    fn heed(&mut self, notice: Notice) {
        match notice {
            Notice::Again { chunk, at, error } => self.put_off(chunk, at, error),
            Notice::Done { worker, took } => {
                self.roster.lock().note_done(worker);
                self.order.done(worker, took);
            }
            Notice::LimitBatches { max_frames } => self.order.limit_batches(max_frames),
            Notice::Joined => {}
            Notice::Leave { worker, reply } => {
                // Whoever asked may wait no longer.
                let _ = reply.send(self.let_leave(worker));
            }
            Notice::Ended(worker) => {
                let undone = self.roster.lock().vacate(worker);
                self.order.gone(worker);
                for chunk in undone {
                    chunk.task.fail(PoolError::Lost);
                }
            }
        }
    }

    /// Keeps frames that failed until they are run again. They are as many as the queue may have jobs, at most.
    fn put_off(&mut self, chunk: Chunk, at: Instant, error: PoolError) {
        if self.failed.len() >= self.ledger.snapshot().queue_capacity {
            return lose(&self.ledger, chunk, error);
        }
        self.n_jobs += 1;
        self.failed.insert((at, self.n_jobs), chunk);
    }

    /// Has those wait again whose pause is over.
    fn take_up(&mut self, now: Instant) {
        self.failed.retain(|_, chunk| chunk.task.wants_compute(now));
        while let Some(first) = self
            .failed
            .first_entry()
            .filter(|first| first.key().0 <= now)
        {
            let chunk = first.remove();
            self.ledger.recovery(|stats| stats.retries += 1);
            self.enter_part(chunk);
        }
    }

    /// Lets a worker go, unless jobs wait for a device that would be left without one.
    fn let_leave(&mut self, worker: usize) -> Result<(), PoolError> {
        // Jobs that were submitted before count.
        self.take_in();
        self.forget_ended(Instant::now());
        let mut roster = self.roster.lock();
        let device = roster.device_of(worker);
        let device = device.ok_or(PoolError::NoSuchWorker { worker })?;
        let is_last = roster.on(device).count() == 1;
        let waiting = self.waiting.values().map(|job| &job.task);
        let failed = self.failed.values().map(|chunk| &chunk.task);
        let mut jobs = waiting.chain(failed);
        if is_last && jobs.any(|task| task.device() == device) {
            return Err(PoolError::LastWorker { worker, device });
        }
        roster.dismiss(worker);
        Ok(())
    }

    fn take_in(&mut self) {
        while let Ok(task) = self.channels.queue.try_recv() {
            self.enter(task);
        }
    }

    /// Ends jobs whose deadline has passed, and forgets all that have ended.
    fn forget_ended(&mut self, now: Instant) {
        let order = &mut self.order;
        self.waiting.retain(|&id, job| {
            let is_open = job.task.wants_compute(now);
            if !is_open {
                order.forget(id);
            }
            is_open
        });
    }

    /// Hands out batches until the order says to wait.
    fn hand_out(&mut self) {
        // A worker reports room before it answers, so a job sent after an answer finds the room.
        while let Ok(notice) = self.channels.notices.try_recv() {
            self.heed(notice);
        }
        // What has come in the meantime may share a batch with what is here.
        self.take_in();
        let now = Instant::now();
        self.take_up(now);
        self.forget_ended(now);
        let roster = Arc::clone(&self.roster);
        let mut roster = roster.lock();
        self.wake = loop {
            match self.order.next(now, &roster) {
                Decision::Assign(assignment) => self.hand(assignment, &mut roster),
                Decision::Wait(until) => break until,
            }
        };
    }

    fn hand(&mut self, assignment: Assignment, roster: &mut MutexGuard<'_, Roster>) {
        let Assignment {
            worker,
            parts,
            closed,
        } = assignment;
        let chunks = parts.into_iter().filter_map(|part| self.take(part));
        let chunks = chunks.collect();
        if let Some(closed) = closed {
            self.ledger.close_batch(closed);
        }
        roster.hand(worker, Batch { chunks });
    }

    fn take(&mut self, Part { job, frames }: Part) -> Option<Chunk> {
        let waiting = self.waiting.get_mut(&job)?;
        let task = Arc::clone(&waiting.task);
        let (first, n_tries) = (waiting.first, waiting.n_tries);
        let n_frames = frames.len();
        waiting.n_left = waiting.n_left.saturating_sub(n_frames);
        let is_last = waiting.n_left == 0;
        if is_last {
            self.waiting.remove(&job);
        }
        // What was run before is in no queue.
        if n_tries == 0 {
            task.note_handed(n_frames);
            if is_last {
                // Before the last chunk goes, so that whoever sees it run finds the place free.
                task.leave_queue();
            }
        }
        Some(Chunk {
            task,
            frames: first + frames.start..first + frames.end,
            n_tries,
        })
    }

    fn abandon(mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let failed = std::mem::take(&mut self.failed);
        let failed = failed.into_values().map(|chunk| chunk.task);
        let waiting = waiting.into_values().map(|job| job.task).chain(failed);
        for task in waiting.chain(self.channels.queue.try_iter()) {
            task.fail(PoolError::ShuttingDown);
        }
    }
}

impl Drop for Dispatcher {
    /// Nobody hands out batches any more, whatever the reason.
    fn drop(&mut self) {
        self.roster.lock().close();
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use lipsync_engine::Device;

    use super::*;
    use crate::{
        order::{BatchLimits, FairOrder, Scheduling},
        tests::fake::{self, Fake},
    };

    #[test]
    fn room_that_was_reported_is_seen_before_the_next_chunk_goes() {
        let roster = Arc::new(SharedRoster::default());
        let mut slots = Vec::new();
        for _ in 0..2 {
            let mut roster = roster.lock();
            let seat = roster.reserve(Device::Cpu).unwrap();
            roster.admit(seat.number).unwrap();
            slots.push(seat.ends.batches);
        }
        let (_queue, queue) = bounded(1);
        let (_abandon, abandon) = bounded(0);
        let (notices_tx, notices) = bounded(1);
        let channels = Channels {
            queue,
            notices,
            abandon,
        };
        let order = FairOrder::new(BatchLimits {
            max_frames: 1,
            max_wait: Duration::ZERO,
            rules: Scheduling::default(),
        });
        let ledger = Arc::new(Ledger::new(100, None));
        let mut dispatcher = Dispatcher::new(
            channels,
            Box::new(order),
            Arc::clone(&roster),
            Arc::clone(&ledger),
        );
        ledger.admit(crate::Work::Unary).unwrap();
        let (task, _handle) = Task::accept(fake::job(&Arc::new(Fake::default()), 0..1), ledger);
        dispatcher.enter(task);
        // Worker 0 was busy, is done, and it is its turn.
        let chunks = Vec::new();
        roster.lock().hand(0, Batch { chunks });
        slots[0].recv().unwrap();
        let took = Duration::ZERO;
        notices_tx.send(Notice::Done { worker: 0, took }).unwrap();

        dispatcher.hand_out();
        let given: Vec<_> = slots[0].try_iter().map(|batch| batch.chunks).collect();
        assert_eq!(given.len(), 1);
        assert_eq!(given[0][0].frames, 0..1);
        assert!(slots[1].is_empty() && dispatcher.waiting.is_empty());
        let loads = |roster: &Roster| -> Vec<_> {
            roster.on(Device::Cpu).map(|worker| worker.load()).collect()
        };
        assert_eq!(loads(&roster.lock()), [1, 0]);
    }
}
