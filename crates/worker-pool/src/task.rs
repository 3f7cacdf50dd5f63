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
    Claim, Face, FailedFrame, Job, JobHandle, JobOutput, JobTimings, PoolError,
    ahead::Ahead,
    recovery::is_networks_fault,
    stats::{Ledger, Verdict},
};

/// An accepted job.
#[derive(Debug)]
pub(crate) struct Task {
    job: Job,
    window_floats: usize,
    /// What a frame is expected to take, as the backlog counts it.
    frame_cost: Duration,
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
    faces: Vec<Face>,
    n_missing: usize,
    /// Those that are given up, of a job that may answer in part.
    failed: Vec<FailedFrame>,
    /// Whether a part of it was run again.
    has_failed: bool,
    /// Frames that no worker has been handed; they are in the backlog.
    n_waiting: usize,
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
    /// How often they have failed.
    pub(crate) n_tries: u32,
}

/// What a worker runs at once: chunks of one network, not more than one a task.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) chunks: Vec<Chunk>,
}

/// A chunk that was run.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) faces: Vec<Face>,
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
        let cost = ledger.costs.of(&job.generator);
        let frame_cost = cost.map_or(Duration::ZERO, |cost| cost.per_frame);
        let device = job.generator.device();
        ledger.backlog.add(device, &job.claim, n_frames, frame_cost);
        let task = Arc::new(Self {
            window_floats: job.window_floats(),
            frame_cost,
            ahead: Ahead::after(&job).map(Arc::new),
            job,
            submitted_at: Instant::now(),
            span: Span::current(),
            ledger,
            state: Mutex::new(Some(Open {
                reply,
                queued: true,
                started: false,
                faces: vec![Face::default(); n_frames],
                n_missing: n_frames,
                failed: Vec::new(),
                has_failed: false,
                n_waiting: n_frames,
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
        let begins = self
            .lock()
            .as_mut()
            .is_some_and(|open| !std::mem::replace(&mut open.started, true));
        if begins {
            let waited = now.saturating_duration_since(self.submitted_at);
            self.ledger.times(|times| {
                times.n_begun += 1;
                times.waited += waited;
            });
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
            self.ledger.leave_queue(self.job.claim.work);
        }
    }

    /// Whether the job is of use without some of its frames.
    pub(crate) fn may_be_partial(&self) -> bool {
        self.job.allow_partial
    }

    /// A part of the job has failed, and is run again.
    pub(crate) fn note_failure(&self) {
        if let Some(open) = self.lock().as_mut() {
            open.has_failed = true;
        }
    }

    /// Frames were handed to a worker for the first time.
    pub(crate) fn note_handed(&self, n_frames: usize) {
        if let Some(open) = self.lock().as_mut() {
            let n_frames = n_frames.min(open.n_waiting);
            open.n_waiting -= n_frames;
            self.leave_backlog(n_frames);
        }
    }

    fn leave_backlog(&self, n_frames: usize) {
        let backlog = &self.ledger.backlog;
        backlog.take(self.device(), self.claim(), n_frames, self.frame_cost);
    }

    /// Adds the faces of `frames`; the last ones complete the job.
    pub(crate) fn add(&self, frames: Range<usize>, done: Done) {
        self.advance(|open| open.add(frames, done));
    }

    /// Goes without `frames`, and completes the job if they were the last.
    pub(crate) fn miss(&self, frames: Range<usize>, error: PoolError) {
        let error = Arc::new(error);
        self.advance(|open| {
            open.n_missing -= frames.len();
            open.has_failed = true;
            open.failed.extend(frames.map(|frame| FailedFrame {
                frame,
                error: Arc::clone(&error),
            }));
        });
    }

    fn advance(&self, act: impl FnOnce(&mut Open)) {
        let mut state = self.lock();
        let Some(open) = state.as_mut() else { return };
        act(open);
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
        let by_network = is_networks_fault(&error);
        self.end(Verdict::Failed { by_network }, error);
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
        self.leave_backlog(open.n_waiting);
        let is_whole = open.failed.len() < self.n_frames();
        let says = match verdict {
            Verdict::Completed => Some(is_whole),
            Verdict::Failed { by_network: true } => Some(false),
            _ => None,
        };
        if matches!(verdict, Verdict::Completed) && open.has_failed && open.failed.is_empty() {
            self.ledger.recovery(|stats| stats.recovered += 1);
        }
        if matches!(verdict, Verdict::Completed) {
            let lasted = self.submitted_at.elapsed();
            self.ledger.times(|times| {
                times.n_done += 1;
                times.lasted += lasted;
            });
        }
        self.ledger.note_job(self.generator(), says);
        let queued = open.queued.then_some(self.job.claim.work);
        self.ledger.settle(verdict, queued);
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
        let (faces, mut failed) = (self.faces, self.failed);
        failed.sort_by_key(|failed| failed.frame);
        let output = JobOutput {
            faces,
            failed,
            timings,
        };
        (self.reply, Ok(output))
    }
}
