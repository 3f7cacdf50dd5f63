//! How workers come into a pool that runs, and go again.

use std::{
    convert::Infallible,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use lipsync_engine::{Device, MakeRoom, Workspace};

use crate::{
    PoolError, Recovery, WorkerPool,
    arenas::Arenas,
    dispatcher::Notice,
    execute::{Ceiling, Executor},
    pool::MAX_PAUSE,
    roster::{Seat, SharedRoster},
    stats::Ledger,
    warm_up::WarmUp,
    worker::Worker,
};

/// What a worker needs to begin.
#[derive(Clone)]
pub(crate) struct Hiring {
    pub(crate) roster: Arc<SharedRoster>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) room: Arc<dyn MakeRoom>,
    pub(crate) recovery: Recovery,
    pub(crate) notices: Sender<Notice>,
    /// Connected while a thread of the pool runs; never has a message.
    pub(crate) ended: Sender<Infallible>,
}

impl Hiring {
    /// Starts the thread `lipsync-worker-N` of a worker, which is given no batches before it is admitted.
    /// Gives its number.
    pub(crate) fn hire(&self, device: Device) -> Result<usize, PoolError> {
        let seat = self.roster.lock().reserve(device)?;
        let number = seat.number;
        let thread = self.begin(seat);
        let mut roster = self.roster.lock();
        match thread {
            Ok(thread) => roster.set_thread(number, thread),
            Err(error) => {
                drop(roster.vacate(number));
                return Err(error);
            }
        }
        Ok(number)
    }

    fn begin(&self, seat: Seat) -> Result<JoinHandle<()>, PoolError> {
        let Self {
            ledger,
            room,
            notices,
            recovery,
            ..
        } = self.clone();
        let Seat {
            number,
            device,
            figures,
            ends,
        } = seat;
        let end = End {
            worker: number,
            notices: notices.clone(),
        };
        let name = format!("lipsync-worker-{number}");
        spawn(name, &self.ended, move || {
            // Dropped last: whoever hears of the end finds the worker's memory given back.
            let _end = end;
            // Made on the worker's own thread: a workspace never leaves it.
            let executor = Executor {
                worker: number,
                device,
                ledger,
                figures,
                room,
                workspace: Workspace::new(),
                ceiling: Ceiling::none(),
                arenas: Arenas::default(),
                recovery,
                spent: Duration::ZERO,
                epoch: 0,
                last_end: Instant::now(),
            };
            Worker::new(ends, notices, executor).run();
        })
    }
}

/// Tells the dispatcher that a worker's thread has ended, whatever the reason.
struct End {
    worker: usize,
    notices: Sender<Notice>,
}

impl Drop for End {
    fn drop(&mut self) {
        // The dispatcher may have ended already.
        let _ = self.notices.send(Notice::Ended(self.worker));
    }
}

/// Starts a thread that keeps `ended` connected while it runs.
pub(crate) fn spawn(
    name: String,
    ended: &Sender<Infallible>,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, PoolError> {
    let ended = ended.clone();
    let run = move || {
        body();
        drop(ended);
    };
    let thread = thread::Builder::new().name(name);
    thread.spawn(run).map_err(PoolError::Spawn)
}

impl WorkerPool {
    /// Adds a worker for `device`, and gives its number: the lowest that a worker of this device has left, or
    /// a new one. Blocks until the worker is ready for all networks that [`warm_up`](Self::warm_up) was
    /// called for and that are still in memory; before that it is given no jobs.
    ///
    /// Jobs that wait already are not split anew, but the worker takes its part of them.
    ///
    /// # Errors
    /// - [`PoolError::DeviceLost`], and what a warm-up met: the worker has left again.
    /// - [`PoolError::Spawn`]: the operating system refuses a thread.
    /// - [`PoolError::ShuttingDown`]
    pub fn join_worker(&self, device: Device) -> Result<usize, PoolError> {
        if self.ledger.is_lost(device) {
            return Err(PoolError::DeviceLost { device });
        }
        let hiring = self.hiring()?;
        let worker = hiring.hire(device)?;
        let ready = self.get_ready(worker);
        let joined = ready.and_then(|()| self.roster.lock().admit(worker));
        if let Err(error) = joined {
            self.roster.lock().dismiss(worker);
            return Err(error);
        }
        // A dispatcher that has ended has let go of the worker, too.
        let _ = hiring.notices.send(Notice::Joined);
        Ok(worker)
    }

    /// Lets a worker go: it is given nothing any more, finishes the batches that it holds, at most two, gives
    /// its memory back and ends. Returns before that; [`is_here`](crate::WorkerStats::is_here) tells when it
    /// has. What it counted stays in the statistics.
    ///
    /// The last worker of a device stays while jobs wait for that device. Where none wait it may go; jobs for
    /// the device are then refused with [`PoolError::NoWorker`] until another worker joins.
    ///
    /// # Errors
    /// [`PoolError::LastWorker`], [`PoolError::NoSuchWorker`] and [`PoolError::ShuttingDown`].
    pub fn leave_worker(&self, worker: usize) -> Result<(), PoolError> {
        let (reply, answer) = bounded(1);
        let notice = Notice::Leave { worker, reply };
        let sent = self.hiring()?.notices.send(notice);
        sent.map_err(|_| PoolError::ShuttingDown)?;
        loop {
            match answer.recv_timeout(MAX_PAUSE) {
                Ok(answer) => return answer,
                // A dispatcher that has ended reads nothing, and the notice may still lie there.
                Err(RecvTimeoutError::Timeout) if !self.roster.lock().is_closed() => {}
                Err(_) => return Err(PoolError::ShuttingDown),
            }
        }
    }

    /// Workers that a device has now.
    #[must_use]
    pub fn n_workers_on(&self, device: Device) -> usize {
        self.roster.lock().on(device).count()
    }

    /// Warms a worker up that joins. It hears of networks that come in the meantime as the others do.
    fn get_ready(&self, worker: usize) -> Result<(), PoolError> {
        let networks = self.roster.lock().warmed_for(worker);
        for network in networks {
            let line = self.roster.lock().warm_ups_of(worker);
            let line = line.ok_or(PoolError::ShuttingDown)?;
            if !WarmUp::have_done(&network, self.max_batch_frames, vec![line])? {
                return Err(PoolError::ShuttingDown);
            }
        }
        Ok(())
    }
}
