//! A job, as its sender sees it.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use lipsync_core::{Priority, TenantId, Weight};
use lipsync_engine::Generator;
use tokio::sync::oneshot;

use crate::{Face, PoolError, task::Task};

/// The picture side of one frame.
#[derive(Debug, Clone)]
pub struct JobFrame {
    /// The face crop: `crop_px x crop_px x 3`, u8, BGR, row-major, interleaved.
    pub crop: Arc<[u8]>,
    /// The background frame that the crop is of, for what the engine may keep of it
    /// ([`FaceInput::frame`](lipsync_engine::FaceInput)); `None`: it keeps nothing.
    pub background_index: Option<u32>,
}

/// Background frames that may be asked for after a job.
pub trait FramesAhead: Send + Sync {
    /// The `n`th background frame from the end of the job on; `None` where there are no more.
    fn background_index(&self, n: u32) -> Option<u32>;

    /// Its face crop, as in [`JobFrame`]; may read and decode. `None` where that fails.
    fn crop(&self, background_index: u32) -> Option<Arc<[u8]>>;
}

/// What a job may claim beside others that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// On whose behalf the job is computed: whoever takes turns with others. Where there are no tenants, that is an
    /// address.
    pub tenant: TenantId,
    /// What that tenant gets beside others.
    pub weight: Weight,
    /// How urgent its sender says it is.
    pub priority: Priority,
    /// When the answer is of no use any more. What has not been started by then never is, and the
    /// job fails with [`PoolError::Expired`].
    pub deadline: Option<Instant>,
    /// When the first frame of a live session is to be shown. Nothing ends then; it orders the jobs of a tenant.
    pub due: Option<Instant>,
    /// Longest time in the queue that its sender accepts. A call that is expected to wait for longer is refused at
    /// once.
    pub max_wait: Option<Duration>,
    /// Whether its frames share no batch with those of other jobs, where jobs share them.
    pub runs_alone: bool,
    /// What waits for it.
    pub work: Work,
}

/// What waits for a job's frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Work {
    /// A call that is answered with all frames at once.
    #[default]
    Unary,
    /// A live session, whose frames have their time.
    Live,
}

/// Some frames to be generated, with all that this takes.
#[derive(Clone)]
pub struct Job {
    /// The network; kept alive until the job has ended.
    pub generator: Arc<dyn Generator>,
    /// The frames, in order.
    pub frames: Vec<JobFrame>,
    /// The audio windows of all frames: `n_frames x C x H x W` f32, row-major, finite.
    pub audio: Arc<[f32]>,
    /// What workers that have nothing else to do prepare when the job is done. They stop as soon as
    /// there is a job for them.
    pub ahead: Option<Arc<dyn FramesAhead>>,
    /// Whether it is of use without some of its frames: those that fail are then [named](JobOutput::failed), and the
    /// job completes without them.
    pub allow_partial: bool,
    /// Whose it is, and how urgent.
    pub claim: Claim,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("n_frames", &self.frames.len())
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// Whether the buffers have the lengths that the generator asks for.
    pub(crate) fn check(&self) -> Result<(), PoolError> {
        let n_frames = self.frames.len();
        expect_len("frames (at least)", n_frames.max(1), n_frames)?;
        let crop_bytes = self.generator.geometry().crop_bytes();
        for JobFrame { crop, .. } in &self.frames {
            expect_len("bytes of a face crop", crop_bytes, crop.len())?;
        }
        let audio_floats = self.window_floats().saturating_mul(n_frames);
        expect_len("floats of audio windows", audio_floats, self.audio.len())
    }

    /// Floats of one audio window.
    pub(crate) fn window_floats(&self) -> usize {
        let [c, h, w] = self.generator.audio_shape();
        c.saturating_mul(h).saturating_mul(w)
    }
}

fn expect_len(what: &'static str, expected: usize, actual: usize) -> Result<(), PoolError> {
    if expected == actual {
        return Ok(());
    }
    Err(PoolError::BadJob {
        what,
        expected,
        actual,
    })
}

/// What a completed job gives.
#[derive(Debug, Clone)]
pub struct JobOutput {
    /// One generated region a frame, in the order of the job's frames. Those of [failed](Self::failed) frames are empty.
    pub faces: Vec<Face>,
    /// Frames that could not be made, ascending; none unless the job [allows](Job::allow_partial) it.
    pub failed: Vec<FailedFrame>,
    /// Where the time went.
    pub timings: JobTimings,
}

/// A frame that could not be made.
#[derive(Debug, Clone)]
pub struct FailedFrame {
    /// Its place in the job.
    pub frame: usize,
    /// What it met last.
    pub error: Arc<PoolError>,
}

/// Where the time of a job went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobTimings {
    /// From `submit` to the start of the first chunk.
    pub queue: Duration,
    /// From the start of the first chunk to the end of the last.
    pub infer: Duration,
    /// Time in the generator summed over the chunks; more than `infer` where chunks overlapped. Of a
    /// batch that was shared with other jobs, the part that fell to this one's frames.
    pub compute: Duration,
    /// Frames of the largest batch that was run, those of other jobs included.
    pub batch_frames: usize,
    /// The workers that ran a chunk, ascending, each once.
    pub workers: Vec<usize>,
}

/// The answer to a submitted job, as a future.
///
/// Dropping it cancels the job: chunks that have not been started never are, running ones end after their
/// frame on the CPU, and their results are dropped. The future needs no particular runtime. Deadlines are noticed while a job is
/// in the queue, when a worker takes a chunk of it and, on the CPU, between its frames; a sender that must answer on the dot races
/// the future against a timer of its own and drops it.
///
/// # Errors
/// [`PoolError::Expired`], [`PoolError::Panicked`], [`PoolError::Engine`],
/// [`PoolError::OutOfMemory`], [`PoolError::DeviceLost`], [`PoolError::ShuttingDown`] or
/// [`PoolError::Lost`]; the first that struck a chunk of the job.
#[derive(Debug)]
#[must_use = "dropping the handle cancels the job"]
pub struct JobHandle {
    /// Weak, so that a job that every thread has let go of is noticed as lost.
    task: Weak<Task>,
    reply: oneshot::Receiver<Result<JobOutput, PoolError>>,
}

impl JobHandle {
    pub(crate) fn new(
        task: Weak<Task>,
        reply: oneshot::Receiver<Result<JobOutput, PoolError>>,
    ) -> Self {
        Self { task, reply }
    }

    /// Whether a worker has taken a part of the job, or the job has ended: it does not wait in the
    /// queue any more.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.task.upgrade().is_none_or(|task| task.has_started())
    }
}

impl Future for JobHandle {
    type Output = Result<JobOutput, PoolError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply)
            .poll(cx)
            .map(|reply| reply.unwrap_or(Err(PoolError::Lost)))
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if let Some(task) = self.task.upgrade() {
            task.cancel();
        }
    }
}
