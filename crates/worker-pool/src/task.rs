//! An accepted job, shared by the threads that work on it.
//!
//! Its state is `Some` while the job is open. Whoever ends the job, be it the worker with the last
//! chunk, an error, the deadline, the dropped handle or the shutdown, takes the state out under the
//! lock, and only then counts the verdict and sends the reply. So a job ends exactly once, without
//! any order between these being needed, and who has a reply sees it counted.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use lipsync_core::{saturate::u32_of, sync::lock};
use lipsync_engine::{Device, FaceInput, Generator};
use tokio::sync::oneshot;
use tracing::Span;

use crate::{
    Claim, Job, JobHandle, JobOutput, JobTimings, PoolError,
    ahead::Ahead,
    stats::{Ledger, Verdict},
};

/// An accepted job.
#[derive(Debug)]
pub(crate) struct Task {
    job: Job,
    window_floats: usize,
    ahead: Option<Arc<Ahead>>,
    submitted_at: Instant,
    span: Span,
    ledger: Arc<Ledger>,
    state: Mutex<Option<Open>>,
}

/// What an open job holds.
#[derive(Debug)]
struct Open {
    reply: oneshot::Sender<Result<JobOutput, PoolError>>,
    /// Whether the job has its place in the queue.
    queued: bool,
    /// Whether a worker has taken a chunk of it.
    started: bool,
    /// One a frame; empty until generated.
    faces: Vec<Vec<u8>>,
    n_missing: usize,
    /// Start of the earliest chunk and end of the latest, among those done.
    ran: Option<(Instant, Instant)>,
    compute: Duration,
    batch_frames: usize,
    workers: Vec<usize>,
}

/// Frames of a task that are run together.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) task: Arc<Task>,
    pub(crate) frames: Range<usize>,
}

/// What a worker runs at once: chunks of one network, not more than one a task.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) chunks: Vec<Chunk>,
}

/// A chunk that was run.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) faces: Vec<Vec<u8>>,
    pub(crate) run: Run,
}

/// The run that a chunk was a part of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) worker: usize,
    /// Frames of all chunks.
    pub(crate) n_frames: usize,
    pub(crate) start: Instant,
    pub(crate) end: Instant,
}

impl Task {
    /// Wraps a checked job whose place in the queue the ledger has counted.
    pub(crate) fn accept(job: Job, ledger: Arc<Ledger>) -> (Arc<Self>, JobHandle) {
        let (reply, receiver) = oneshot::channel();
        let n_frames = job.frames.len();
        let task = Arc::new(Self {
            window_floats: job.window_floats(),
            ahead: Ahead::after(&job).map(Arc::new),
            job,
            submitted_at: Instant::now(),
            span: Span::current(),
            ledger,
            state: Mutex::new(Some(Open {
                reply,
                queued: true,
                started: false,
                faces: vec![Vec::new(); n_frames],
                n_missing: n_frames,
                ran: None,
                compute: Duration::ZERO,
                batch_frames: 0,
                workers: Vec::new(),
            })),
        });
        let handle = JobHandle::new(Arc::downgrade(&task), receiver);
        (task, handle)
    }

    pub(crate) fn n_frames(&self) -> usize {
        self.job.frames.len()
    }

    pub(crate) fn generator(&self) -> &Arc<dyn Generator> {
        &self.job.generator
    }

    /// Where the network runs.
    pub(crate) fn device(&self) -> Device {
        self.job.generator.device()
    }

    pub(crate) fn submitted_at(&self) -> Instant {
        self.submitted_at
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.job.claim
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.job.claim.deadline
    }

    /// What may be prepared when the job is done.
    pub(crate) fn ahead(&self) -> Option<Arc<Ahead>> {
        self.ahead.clone()
    }

    /// The span in which the job was submitted.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The inputs of some frames; `frames` lies within the job.
    pub(crate) fn inputs(&self, frames: Range<usize>) -> Vec<FaceInput<'_>> {
        let n = self.window_floats;
        frames
            .map(|i| FaceInput {
                crop: &self.job.frames[i].crop,
                frame: self.job.frames[i].background_index,
                audio: &self.job.audio[i * n..(i + 1) * n],
            })
            .collect()
    }

    /// Whether the job still wants its frames; ends it if its deadline has passed.
    pub(crate) fn wants_compute(&self, now: Instant) -> bool {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.fail(PoolError::Expired);
        }
        self.lock().is_some()
    }

    /// As [`Self::wants_compute`], from a worker that will begin if so.
    pub(crate) fn start(&self, now: Instant) -> bool {
        let wanted = self.wants_compute(now);
        if let Some(open) = self.lock().as_mut() {
            open.started = true;
        }
        wanted
    }

    /// Whether a worker has taken a chunk, or the job has ended.
    pub(crate) fn has_started(&self) -> bool {
        self.lock().as_ref().is_none_or(|open| open.started)
    }

    /// Gives the place in the queue back, once.
    pub(crate) fn leave_queue(&self) {
        let held = self
            .lock()
            .as_mut()
            .is_some_and(|open| std::mem::take(&mut open.queued));
        if held {
            self.ledger.leave_queue();
        }
    }

    /// Adds the faces of `frames`; the last ones complete the job.
    pub(crate) fn add(&self, frames: Range<usize>, done: Done) {
        let mut state = self.lock();
        let Some(open) = state.as_mut() else { return };
        open.add(frames, done);
        if open.n_missing > 0 {
            return;
        }
        let done = state.take();
        drop(state);
        self.settle(done, Verdict::Completed, |open| {
            open.into_output(self.submitted_at)
        });
    }

    pub(crate) fn fail(&self, error: PoolError) {
        self.end(Verdict::Failed, error);
    }

    pub(crate) fn cancel(&self) {
        self.end(Verdict::Cancelled, PoolError::Lost);
    }

    /// Undoes the acceptance of a job that did not get into the queue.
    pub(crate) fn withdraw(&self) {
        self.end(Verdict::Withdrawn, PoolError::Lost);
    }

    fn end(&self, verdict: Verdict, error: PoolError) {
        let open = self.lock().take();
        self.settle(open, verdict, |open| (open.reply, Err(error)));
    }

    /// Counts and answers; called with what was taken from the state, and without its lock.
    fn settle(
        &self,
        taken: Option<Open>,
        verdict: Verdict,
        answer: impl FnOnce(Open) -> (oneshot::Sender<Reply>, Reply),
    ) {
        let Some(open) = taken else { return };
        self.ledger.settle(verdict, open.queued);
        let (reply, result) = answer(open);
        // Nobody listens if the handle is being dropped at this very moment.
        let _ = reply.send(result);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        lock(&self.state)
    }
}

type Reply = Result<JobOutput, PoolError>;

impl Drop for Task {
    /// No thread has the job any more. An open one was lost with the thread that had it.
    fn drop(&mut self) {
        self.fail(PoolError::Lost);
    }
}

impl Run {
    /// The part of its time that fell to `n_frames` of its frames.
    fn share_of(&self, n_frames: usize) -> Duration {
        let [part, all] = [n_frames, self.n_frames].map(u32_of);
        (self.end - self.start) * part / all.max(1)
    }
}

impl Open {
    fn add(&mut self, frames: Range<usize>, Done { faces, run }: Done) {
        let n_frames = frames.len();
        self.n_missing -= n_frames;
        self.batch_frames = self.batch_frames.max(run.n_frames);
        for (slot, face) in self.faces[frames].iter_mut().zip(faces) {
            *slot = face;
        }
        let (start, end) = self.ran.unwrap_or((run.start, run.end));
        self.ran = Some((start.min(run.start), end.max(run.end)));
        self.compute += run.share_of(n_frames);
        if let Err(place) = self.workers.binary_search(&run.worker) {
            self.workers.insert(place, run.worker);
        }
    }

    fn into_output(self, submitted_at: Instant) -> (oneshot::Sender<Reply>, Reply) {
        let (start, end) = self.ran.unwrap_or((submitted_at, submitted_at));
        let timings = JobTimings {
            queue: start - submitted_at,
            infer: end - start,
            compute: self.compute,
            batch_frames: self.batch_frames,
            workers: self.workers,
        };
        let faces = self.faces;
        (self.reply, Ok(JobOutput { faces, timings }))
    }
}
