//! How a worker runs a batch, and what it does when that does not work.
//!
//! - **No memory on the device:** the workspace's own is given back, then networks that nobody uses
//!   ([`MakeRoom`]); then the batch is run in halves, and these in halves, down to one frame; a frame for
//!   which there is no memory fails its job. Nothing is aborted, and results do not depend on it, since no
//!   frame depends on its neighbours.
//! - **Any other failure of a batch:** it is broken up. Each of several jobs is run alone, so that only the one
//!   whose fault it is fails; then each frame of one, where the fault may be the batch's. What still fails is run
//!   again after a pause (`recovery.rs`).
//! - **A network whose batches fail again and again,** and whose frames succeed one by one: from then on they are
//!   run so, and now and then a batch is tried.
//! - **A batch that nobody wants any more** ends after the frame that runs, where frames are run one by one.
//! - **A device that is lost** fails what it was given, and everything after it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_core::saturate::u64_of;
use lipsync_engine::{Device, EngineError, FaceInput, Generator, MakeRoom, Workspace, with_room};

use crate::{
    Face, PoolError, Recovery,
    arenas::Arenas,
    breaker::Batched,
    cost::thread_time,
    overlap::inputs,
    stats::{Ledger, WorkerFigures},
    task::{Chunk, Done, Run},
};

/// What became of a chunk.
pub(crate) type Outcome = (Chunk, Result<Done, PoolError>);

/// One worker's workspace, and how it is used.
pub(crate) struct Executor {
    pub(crate) worker: usize,
    pub(crate) device: Device,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) figures: Arc<WorkerFigures>,
    pub(crate) room: Arc<dyn MakeRoom>,
    pub(crate) workspace: Workspace,
    pub(crate) ceiling: Ceiling,
    pub(crate) arenas: Arenas,
    /// What is tried before something fails.
    pub(crate) recovery: Recovery,
    /// What runs have taken since somebody asked.
    pub(crate) spent: Duration,
    /// Counted up whenever what is under way on the device is given up (`overlap.rs`).
    pub(crate) epoch: u64,
    /// When the last run was over.
    pub(crate) last_end: Instant,
}

/// A run, before it is known what it is worth.
pub(crate) struct Attempt {
    pub(crate) start: Instant,
    /// What the thread had used before it.
    pub(crate) start_time: Duration,
    /// Outside, what a panic left.
    pub(crate) outcome: std::thread::Result<Result<(), EngineError>>,
    pub(crate) faces: Vec<Vec<u8>>,
}

impl Executor {
    /// Runs the chunks, of one network, that are still wanted; the others are not among the outcomes.
    pub(crate) fn run(&mut self, chunks: Vec<Chunk>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(chunks.len());
        let runs_singly = chunks.first().is_some_and(|chunk| {
            let healths = &self.ledger.healths;
            healths.runs_singly(chunk.task.generator(), Instant::now())
        });
        let max_frames = if runs_singly {
            1
        } else {
            self.ceiling.n_frames
        };
        for piece in pieces(chunks, max_frames) {
            self.run_piece(piece, &mut outcomes);
        }
        outcomes
    }

    pub(crate) fn run_piece(&mut self, mut chunks: Vec<Chunk>, outcomes: &mut Vec<Outcome>) {
        let now = Instant::now();
        chunks.retain(|chunk| chunk.task.start(now));
        if chunks.is_empty() {
            return;
        }
        let result = if self.ledger.is_lost(self.device) {
            Err(self.lost())
        } else {
            self.with_room(|worker| worker.attempt(&chunks))
        };
        self.settle(chunks, result, outcomes);
    }

    /// What a run of some chunks means for them. Where it failed, they are run again in smaller parts, if that may help.
    pub(crate) fn settle(
        &mut self,
        chunks: Vec<Chunk>,
        result: Result<Vec<Done>, PoolError>,
        outcomes: &mut Vec<Outcome>,
    ) {
        match result {
            Ok(done) => {
                self.ceiling.count_success();
                if n_frames(&chunks) > 1 && !done.is_empty() {
                    self.note_batch(chunks[0].task.generator(), Batched::Worked);
                }
                outcomes.extend(chunks.into_iter().zip(done.into_iter().map(Ok)));
            }
            Err(PoolError::DeviceLost { .. }) => {
                let lost = chunks.into_iter().map(|chunk| (chunk, Err(self.lost())));
                outcomes.extend(lost.collect::<Vec<_>>());
            }
            Err(PoolError::OutOfMemory { .. }) if n_frames(&chunks) > 1 => {
                let half = n_frames(&chunks).div_ceil(2);
                self.ceiling.lower_to(half);
                for piece in pieces(chunks, half) {
                    self.run_piece(piece, outcomes);
                }
            }
            Err(error) => self.break_up(chunks, error, outcomes),
        }
    }

    /// Does what needs memory on the worker's device, and again for as long as somebody frees some.
    pub(crate) fn with_room<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, PoolError>,
    ) -> Result<T, PoolError> {
        let (room, device) = (Arc::clone(&self.room), self.device);
        with_room(&*room, device, || attempt(self))
    }

    /// Runs all at once. Nothing comes of it, and it is no error, where nobody wanted it to the end.
    fn attempt(&mut self, chunks: &[Chunk]) -> Result<Vec<Done>, PoolError> {
        let Some(first) = chunks.first() else {
            return Ok(Vec::new());
        };
        // What is said while several jobs run belongs to none of them.
        let _entered = (chunks.len() == 1).then(|| first.task.span().enter());
        let n_frames = n_frames(chunks);
        let mut faces = Vec::with_capacity(n_frames);
        self.give_spare_faces(n_frames);
        let workspace = &mut self.workspace;
        // Whatever was under way there is given up.
        self.epoch += 1;
        let generator = first.task.generator();
        let (start, start_time) = (Instant::now(), thread_time());
        // Unwind safe: after a panic neither the workspace nor the faces are looked at again.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let inputs: Vec<FaceInput<'_>> = inputs(chunks).collect();
            let is_wanted = || is_wanted(chunks);
            generator.infer_while(workspace, &inputs, &mut faces, &is_wanted)
        }));
        let attempt = Attempt {
            start,
            start_time,
            outcome,
            faces,
        };
        self.conclude(chunks, attempt)
    }

    /// What came of a run: counts it, and says what is there for each chunk.
    pub(crate) fn conclude(
        &mut self,
        chunks: &[Chunk],
        attempt: Attempt,
    ) -> Result<Vec<Done>, PoolError> {
        let Attempt {
            start,
            start_time,
            outcome,
            faces,
        } = attempt;
        let Some(first) = chunks.first() else {
            return Ok(Vec::new());
        };
        let (generator, n_frames) = (first.task.generator(), n_frames(chunks));
        let run = Run {
            worker: self.worker,
            n_frames: faces.len(),
            start,
            end: Instant::now(),
        };
        self.last_end = run.end;
        self.note_run(generator, &run, start_time);
        let is_whole = faces.len() == n_frames;
        let result = match outcome {
            Ok(Ok(())) if is_whole || !is_wanted(chunks) => Ok(()),
            Ok(Ok(())) => Err(PoolError::Engine(EngineError::Input {
                what: "faces from the generator",
                expected: n_frames,
                actual: faces.len(),
            })),
            Ok(Err(error)) => Err(self.take_stock(error)),
            Err(panic) => {
                tracing::error!(
                    worker = self.worker,
                    panic = panic_message(&*panic),
                    "the generator panicked, the worker is rebuilt"
                );
                self.rebuild();
                Err(PoolError::Panicked)
            }
        };
        self.count_run(&result, &run, generator.macs());
        result?;
        if !is_whole {
            return Ok(Vec::new());
        }
        let mut faces = faces.into_iter().map(|bytes| self.lent(bytes));
        let done = |chunk: &Chunk| Done {
            faces: faces.by_ref().take(chunk.frames.len()).collect(),
            run,
        };
        Ok(chunks.iter().map(done).collect())
    }

    /// Takes a new workspace. What is under way in the old one is waited for there, and given up.
    pub(crate) fn rebuild(&mut self) {
        self.workspace = Workspace::new();
        self.epoch += 1;
    }

    /// Faces of a GPU are copied into memory that was used before (`face.rs`).
    pub(crate) fn give_spare_faces(&mut self, n_frames: usize) {
        if self.device != Device::Cpu {
            let spare = self.ledger.spare_faces.take(n_frames);
            self.workspace.give_faces(spare);
        }
    }

    fn lent(&self, bytes: Vec<u8>) -> Face {
        match self.device {
            Device::Cpu => bytes.into(),
            Device::Cuda(_) => self.ledger.spare_faces.lend(bytes),
        }
    }

    /// Takes note of what a network took and keeps; before it, this thread had used `start_time`.
    fn note_run(&mut self, generator: &Arc<dyn Generator>, run: &Run, start_time: Duration) {
        let mut cost = run.end - run.start;
        if self.device == Device::Cpu {
            cost = thread_time().saturating_sub(start_time);
            self.arenas.note(generator, run.end);
        }
        self.spent += cost;
        self.ledger.costs.note(generator, run.n_frames, cost);
        if run.n_frames > 0 {
            self.ledger.batch_frames.observe(u64_of(run.n_frames));
        }
    }

    fn count_run(&self, result: &Result<(), PoolError>, run: &Run, macs: u64) {
        let work = u64_of(run.n_frames).saturating_mul((macs / 1_000_000).max(1));
        self.figures.update(|stats| {
            stats.batches += 1;
            stats.busy += run.end - run.start;
            match result {
                Ok(()) => {
                    stats.frames += u64_of(run.n_frames);
                    stats.work = stats.work.saturating_add(work);
                }
                Err(PoolError::Panicked) => stats.restarts += 1,
                Err(PoolError::OutOfMemory { .. }) => stats.out_of_memory += 1,
                Err(PoolError::Engine(EngineError::DeviceFault { .. })) => stats.faults += 1,
                Err(_) => {}
            }
        });
    }

    /// Whether there is anything that may have to be given back.
    pub(crate) fn holds_memory(&self) -> bool {
        self.workspace.resident_bytes() > 0
    }

    /// Gives back the host's memory that no network needs any more. What is still needed comes with the next
    /// run.
    pub(crate) fn give_back(&mut self, now: Instant) {
        if let Some(needed) = self.arenas.forget(now)
            && self.workspace.resident_bytes() > needed
        {
            let n_bytes = self.workspace.resident_bytes();
            tracing::debug!(worker = self.worker, n_bytes, needed, "memory given back");
            self.workspace.release_host();
        }
    }

    /// What an error means for the device, and for the workspace, which is rebuilt where it may be broken
    /// or holds memory that is wanted.
    pub(crate) fn take_stock(&mut self, error: EngineError) -> PoolError {
        match error {
            EngineError::OutOfMemory { needed, free } => {
                self.rebuild();
                PoolError::OutOfMemory {
                    device: self.device,
                    needed,
                    free,
                }
            }
            EngineError::DeviceFault {
                device,
                reason,
                sticky: true,
            } => {
                tracing::error!(device, reason, "the device is lost");
                self.ledger.lose(self.device, reason);
                self.lost()
            }
            EngineError::DeviceFault { .. } => {
                tracing::error!(worker = self.worker, %error, "the workspace is rebuilt");
                self.rebuild();
                PoolError::Engine(error)
            }
            error => PoolError::Engine(error),
        }
    }

    pub(crate) fn lost(&self) -> PoolError {
        let device = self.device;
        PoolError::DeviceLost { device }
    }
}

/// The largest batch that the device has memory for, as far as a worker knows.
///
/// Without it, every large batch would first fail and then be halved. Memory that somebody else took may
/// come back, so the bound is doubled after a while.
#[derive(Debug)]
pub(crate) struct Ceiling {
    pub(crate) n_frames: usize,
    n_successes: u32,
}

/// Successes after which a larger batch is tried again.
const PATIENCE: u32 = 256;

impl Ceiling {
    /// No bound yet.
    pub(crate) fn none() -> Self {
        Self {
            n_frames: usize::MAX,
            n_successes: 0,
        }
    }

    pub(crate) fn lower_to(&mut self, n_frames: usize) {
        self.n_frames = self.n_frames.min(n_frames);
        self.n_successes = 0;
    }

    fn count_success(&mut self) {
        if self.n_frames == usize::MAX {
            return;
        }
        self.n_successes += 1;
        if self.n_successes >= PATIENCE {
            self.n_frames = self.n_frames.saturating_mul(2);
            self.n_successes = 0;
        }
    }
}

/// Whether somebody still wants the faces of one of them.
fn is_wanted(chunks: &[Chunk]) -> bool {
    let now = Instant::now();
    chunks.iter().any(|chunk| chunk.task.wants_compute(now))
}

pub(crate) fn n_frames(chunks: &[Chunk]) -> usize {
    chunks.iter().map(|chunk| chunk.frames.len()).sum()
}

/// Cuts chunks into groups of at most `max_frames` frames, in order.
fn pieces(chunks: Vec<Chunk>, max_frames: usize) -> Vec<Vec<Chunk>> {
    let mut pieces = vec![Vec::new()];
    let mut n_left = max_frames;
    for Chunk {
        task,
        mut frames,
        n_tries,
    } in chunks
    {
        while !frames.is_empty() {
            if n_left == 0 {
                pieces.push(Vec::new());
                n_left = max_frames;
            }
            let cut = frames.start + frames.len().min(n_left);
            n_left -= cut - frames.start;
            let piece = Chunk {
                task: Arc::clone(&task),
                frames: frames.start..cut,
                n_tries,
            };
            frames.start = cut;
            if let Some(last) = pieces.last_mut() {
                last.push(piece);
            }
        }
    }
    pieces
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
