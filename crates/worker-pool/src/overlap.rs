//! Batches of a GPU, one behind the other: while the device computes one, the worker fills in the next and starts it,
//! and then takes the faces of the first while the device computes the second.
//!
//! Only what goes well is done so. A batch that cannot be started, or that fails, is run as batches of the CPU are
//! (`execute.rs`), and so is the one that was started behind it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use lipsync_engine::{Device, EngineError, FaceInput, Ticket};

use crate::{
    cost::thread_time,
    execute::{Attempt, Executor, Outcome, n_frames},
    task::Chunk,
};

/// A batch that a worker has taken.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    chunks: Vec<Chunk>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Not started.
    #[default]
    Waiting,
    Begun {
        ticket: Ticket,
        /// The executor's at that time. Another one: the batch was given up since.
        epoch: u64,
        at: Instant,
    },
    Failed {
        error: EngineError,
        at: Instant,
    },
}

impl Executor {
    /// Takes a batch, and starts it if the device runs batches one behind the other.
    pub(crate) fn begin(&mut self, mut chunks: Vec<Chunk>) -> Flight {
        let mut state = State::default();
        if self.may_begin(&chunks) {
            let at = Instant::now();
            chunks.retain(|chunk| chunk.task.start(at));
            state = self.start(&chunks, at);
        }
        Flight { chunks, state }
    }

    fn start(&mut self, chunks: &[Chunk], at: Instant) -> State {
        let Some(first) = chunks.first() else {
            return State::Waiting;
        };
        let (workspace, generator) = (&mut self.workspace, first.task.generator());
        // Unwind safe: after a panic the workspace is not looked at again.
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let inputs: Vec<FaceInput<'_>> = inputs(chunks).collect();
            generator.begin(workspace, &inputs)
        }));
        match begun {
            Ok(Ok(Some(ticket))) => State::Begun {
                ticket,
                epoch: self.epoch,
                at,
            },
            // Where memory is short, a run sees to some.
            Ok(Ok(None) | Err(EngineError::OutOfMemory { .. })) => State::Waiting,
            Ok(Err(error)) => State::Failed { error, at },
            Err(_) => {
                self.rebuild();
                State::Waiting
            }
        }
    }

    /// Whether a batch would be run at once, as it is.
    fn may_begin(&self, chunks: &[Chunk]) -> bool {
        let Some(first) = chunks.first() else {
            return false;
        };
        let healths = &self.ledger.healths;
        self.device != Device::Cpu
            && n_frames(chunks) <= self.ceiling.n_frames
            && !self.ledger.is_lost(self.device)
            && !healths.runs_singly(first.task.generator(), Instant::now())
    }

    /// Whether a batch was started, and not given up since.
    pub(crate) fn is_under_way(&self, flight: &Flight) -> bool {
        matches!(flight.state, State::Begun { epoch, .. } if epoch == self.epoch)
    }

    /// Waits for a batch that is under way; whether it is over before `stop` says that somebody waits no longer.
    pub(crate) fn wait(&mut self, flight: &mut Flight, stop: &dyn Fn() -> bool) -> bool {
        let (State::Begun { ticket, at, .. }, Some(first)) = (&flight.state, flight.chunks.first())
        else {
            return true;
        };
        let (workspace, generator) = (&mut self.workspace, first.task.generator());
        // Unwind safe: after a panic the workspace is not looked at again.
        let waited = catch_unwind(AssertUnwindSafe(|| {
            generator.wait(workspace, *ticket, stop)
        }));
        match waited {
            Ok(Ok(is_over)) => is_over,
            Ok(Err(error)) => {
                flight.state = State::Failed { error, at: *at };
                true
            }
            Err(_) => {
                self.rebuild();
                true
            }
        }
    }

    /// Takes the faces of a batch; one that is not under way is run now. Chunks that nobody wants any more may be
    /// missing from the outcomes.
    pub(crate) fn land(&mut self, flight: Flight) -> Vec<Outcome> {
        let Flight { chunks, state } = flight;
        let (ticket, at) = match state {
            State::Begun { ticket, epoch, at } if epoch == self.epoch => (Ok(ticket), at),
            State::Failed { error, at } => (Err(error), at),
            State::Begun { .. } | State::Waiting => return self.run(chunks),
        };
        let Some(first) = chunks.first() else {
            return Vec::new();
        };
        // What is said while several jobs run belongs to none of them.
        let entered = (chunks.len() == 1).then(|| first.task.span().clone().entered());
        let n_frames = n_frames(&chunks);
        let mut faces = Vec::with_capacity(n_frames);
        self.give_spare_faces(n_frames);
        let (workspace, generator) = (&mut self.workspace, first.task.generator());
        // Unwind safe: after a panic neither the workspace nor the faces are looked at again.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            generator.finish(workspace, ticket?, &mut faces)
        }));
        let attempt = Attempt {
            // The device was at the batch before until then.
            start: at.max(self.last_end),
            start_time: thread_time(),
            outcome,
            faces,
        };
        let result = self.conclude(&chunks, attempt);
        if result.is_err() {
            // What was started behind it was given up with it.
            self.epoch += 1;
        }
        drop(entered);
        let mut outcomes = Vec::with_capacity(chunks.len());
        self.settle(chunks, result, &mut outcomes);
        outcomes
    }
}

/// The inputs of all frames of a batch.
pub(crate) fn inputs(chunks: &[Chunk]) -> impl Iterator<Item = FaceInput<'_>> {
    let each = chunks.iter();
    each.flat_map(|chunk| chunk.task.inputs(chunk.frames.clone()))
}
