//! The workers of a pool: which there are, and how each is reached.
//!
//! A worker has a seat: a number that names it in statistics, in answers and as a thread. A seat that its
//! worker has left stays on the roster with its figures, and the next worker that joins for the same device
//! takes it, its figures going on. So totals never fall, and there are never more seats than there once were
//! workers at the same time.
//!
//! ```text
//! reserve ──▶ Joining ──admit──▶ Here ──dismiss──▶ Leaving ──the thread ends──▶ Gone ──reserve──▶ ...
//! ```

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, Weak},
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use lipsync_core::sync::lock;
use lipsync_engine::{Device, Generator};

use crate::{
    PoolError,
    cost::is_same,
    order::policy::MAX_LOAD,
    stats::{WorkerFigures, WorkerStats},
    task::{Batch, Chunk},
    warm_up::{self, WarmUp},
};

/// The roster of a pool that runs.
#[derive(Debug, Default)]
pub(crate) struct SharedRoster(Mutex<Roster>);

impl SharedRoster {
    /// Held for a decision and never while anything is waited for.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Roster> {
        lock(&self.0)
    }
}

/// All seats, and what their workers were made ready for.
#[derive(Default)]
pub(crate) struct Roster {
    seats: Vec<WorkerHandle>,
    /// Networks that workers were warmed up for. Whoever joins is warmed up for them, too.
    warmed: Vec<Weak<dyn Generator>>,
    /// The pool ends: nobody joins any more.
    is_closed: bool,
}

/// A worker, seen from the pool.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    number: usize,
    device: Device,
    state: State,
    /// Batches handed to it that it has not reported as done.
    load: usize,
    /// While it is to stay.
    line: Option<Line>,
    /// The second end of its channel: what waits there is failed when the pool is abandoned.
    slot: Receiver<Batch>,
    figures: Arc<WorkerFigures>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It gets ready, and is given no batches yet.
    Joining,
    Here,
    /// It finishes its batches.
    Leaving,
    /// Its thread has ended.
    Gone,
}

/// What reaches a worker. Once this is dropped it finishes its batches and ends.
#[derive(Debug)]
struct Line {
    batches: Sender<Batch>,
    warm_ups: Sender<WarmUp>,
    /// Never has a message: it tells the worker not to begin anything of its own.
    _stays: Sender<Infallible>,
}

/// The worker's ends of a [`Line`].
#[derive(Debug)]
pub(crate) struct LineEnds {
    /// Disconnected: nothing more will come.
    pub(crate) batches: Receiver<Batch>,
    pub(crate) warm_ups: Receiver<WarmUp>,
    /// Disconnected as soon as the worker is to end; that of `batches` cannot be seen without taking one.
    pub(crate) stays: Receiver<Infallible>,
}

/// A seat for a worker that has no thread yet.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) number: usize,
    pub(crate) device: Device,
    pub(crate) figures: Arc<WorkerFigures>,
    pub(crate) ends: LineEnds,
}

impl WorkerHandle {
    fn new(number: usize, device: Device, figures: Arc<WorkerFigures>) -> (Self, LineEnds) {
        let (batches_tx, batches) = bounded(MAX_LOAD);
        let (warm_ups_tx, warm_ups) = bounded(warm_up::MAX_WAITING);
        let (stays_tx, stays) = bounded(0);
        let handle = Self {
            number,
            device,
            state: State::Joining,
            load: 0,
            line: Some(Line {
                batches: batches_tx,
                warm_ups: warm_ups_tx,
                _stays: stays_tx,
            }),
            slot: batches.clone(),
            figures,
            thread: None,
        };
        let ends = LineEnds {
            batches,
            warm_ups,
            stays,
        };
        (handle, ends)
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Batches that it holds, running or next.
    pub(crate) fn load(&self) -> usize {
        self.load
    }

    fn is_staffed(&self) -> bool {
        self.state != State::Gone
    }

    fn let_go(&mut self) {
        self.line = None;
        if self.is_staffed() {
            self.state = State::Leaving;
        }
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster")
            .field("seats", &self.seats)
            .finish_non_exhaustive()
    }
}

impl Roster {
    /// Takes a seat for a worker that joins: one that was left, or a new one.
    ///
    /// # Errors
    /// [`PoolError::ShuttingDown`]
    pub(crate) fn reserve(&mut self, device: Device) -> Result<Seat, PoolError> {
        if self.is_closed {
            return Err(PoolError::ShuttingDown);
        }
        let is_free = |seat: &WorkerHandle| seat.device == device && !seat.is_staffed();
        let free = self.seats.iter().position(is_free);
        let number = free.unwrap_or(self.seats.len());
        let figures = match free {
            Some(number) => Arc::clone(&self.seats[number].figures),
            None => Arc::new(WorkerFigures::new(device)),
        };
        let (handle, ends) = WorkerHandle::new(number, device, Arc::clone(&figures));
        match free {
            Some(number) => self.seats[number] = handle,
            None => self.seats.push(handle),
        }
        Ok(Seat {
            number,
            device,
            figures,
            ends,
        })
    }

    /// The thread of a worker that was given this seat.
    pub(crate) fn set_thread(&mut self, number: usize, thread: JoinHandle<()>) {
        self.seats[number].thread = Some(thread);
    }

    /// From now on the worker is given batches.
    ///
    /// # Errors
    /// [`PoolError::ShuttingDown`]: it was let go of in the meantime.
    pub(crate) fn admit(&mut self, number: usize) -> Result<(), PoolError> {
        let seat = &mut self.seats[number];
        if seat.line.is_none() {
            return Err(PoolError::ShuttingDown);
        }
        seat.state = State::Here;
        Ok(())
    }

    /// From now on the worker is given nothing; it ends when its batches are done.
    pub(crate) fn dismiss(&mut self, number: usize) {
        self.seats[number].let_go();
    }

    /// The worker's thread has ended, or never began; gives what it has left undone, which is nothing unless
    /// it panicked.
    pub(crate) fn vacate(&mut self, number: usize) -> Vec<Chunk> {
        let seat = &mut self.seats[number];
        if seat.line.is_some() && seat.thread.is_some() {
            tracing::error!(worker = number, "a worker has ended unasked");
        }
        seat.line = None;
        seat.state = State::Gone;
        seat.load = 0;
        // It is at its end, so nobody has to wait for it.
        seat.thread = None;
        seat.take_waiting()
    }

    /// The workers of a device that are given batches, by number.
    pub(crate) fn on(&self, device: Device) -> impl Iterator<Item = &WorkerHandle> {
        let is_there =
            move |seat: &&WorkerHandle| seat.device == device && seat.state == State::Here;
        self.seats.iter().filter(is_there)
    }

    pub(crate) fn has(&self, device: Device) -> bool {
        self.on(device).next().is_some()
    }

    /// Whether all workers were let go of, for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The device of a worker that is given batches.
    pub(crate) fn device_of(&self, number: usize) -> Option<Device> {
        let seat = self.seats.get(number)?;
        (seat.state == State::Here).then_some(seat.device)
    }

    /// Hands a batch to a worker that [`Self::on`] gave and that holds fewer than [`MAX_LOAD`].
    pub(crate) fn hand(&mut self, number: usize, batch: Batch) {
        let seat = &mut self.seats[number];
        if let Some(line) = &seat.line {
            seat.load += 1;
            // Neither blocks nor fails: the channel has room for every batch in `load`, and its other end is
            // beside this one.
            let _ = line.batches.send(batch);
        }
    }

    /// A worker is done with a batch.
    pub(crate) fn note_done(&mut self, number: usize) {
        let seat = &mut self.seats[number];
        seat.load = seat.load.saturating_sub(1);
    }

    /// Takes note that a network is made ready on its device, and gives what reaches each worker there.
    pub(crate) fn warm_up(&mut self, generator: &Arc<dyn Generator>) -> Vec<Sender<WarmUp>> {
        self.warmed.retain(|network| network.strong_count() > 0);
        let mut known = self.warmed.iter();
        if !known.any(|network| is_same(network, generator)) {
            self.warmed.push(Arc::downgrade(generator));
        }
        let device = generator.device();
        let workers = self.seats.iter().filter(|seat| seat.device == device);
        workers
            .filter_map(|seat| self.warm_ups_of(seat.number))
            .collect()
    }

    /// The networks that a worker must get ready for when it joins. It hears of later ones as the others do.
    pub(crate) fn warmed_for(&self, number: usize) -> Vec<Arc<dyn Generator>> {
        let device = self.seats[number].device;
        let networks = self.warmed.iter().filter_map(Weak::upgrade);
        networks.filter(|of| of.device() == device).collect()
    }

    /// Where a worker takes warm-ups, unless it was let go of.
    pub(crate) fn warm_ups_of(&self, number: usize) -> Option<Sender<WarmUp>> {
        Some(self.seats[number].line.as_ref()?.warm_ups.clone())
    }

    /// The figures of each seat, and whether somebody is in it.
    pub(crate) fn figures(&self) -> Vec<WorkerStats> {
        let stats = |seat: &WorkerHandle| WorkerStats {
            is_here: seat.is_staffed(),
            ..seat.figures.snapshot()
        };
        self.seats.iter().map(stats).collect()
    }

    /// Lets go of all workers. Nobody joins any more.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.seats.iter_mut().for_each(WorkerHandle::let_go);
    }

    /// What waits at the workers, taken from them.
    pub(crate) fn take_waiting(&self) -> Vec<Chunk> {
        self.seats
            .iter()
            .flat_map(WorkerHandle::take_waiting)
            .collect()
    }

    /// The threads that nobody has taken yet.
    pub(crate) fn take_threads(&mut self) -> Vec<JoinHandle<()>> {
        let seats = self.seats.iter_mut();
        seats.filter_map(|seat| seat.thread.take()).collect()
    }
}

impl WorkerHandle {
    fn take_waiting(&self) -> Vec<Chunk> {
        self.slot
            .try_iter()
            .flat_map(|batch| batch.chunks)
            .collect()
    }
}
