//! The four steps that turn audio windows into coded frames, for unary requests and sessions alike.

use std::{
    ops::Range,
    sync::{Arc, Weak},
    time::Duration,
};

use lipsync_compositor::FaceCrop;
use lipsync_core::{Priority, background_index, saturate::u64_of};
use lipsync_registry::{BackgroundFrame, Model, RegistryError};
use lipsync_worker_pool::{Claim, Face, FramesAhead, Job, JobFrame, JobOutput, Work, WorkerPool};
use tokio::time::Instant;

use crate::{
    caller::Caller,
    coding::{self, CodedFrame},
    cpu_pool::CpuPool,
    error::ServeError,
    order::OutputSpec,
    telemetry::{Book, Spent, Stage, Tally},
};

/// Spliced frames that one task codes at most, so that an abandoned request stops soon.
const MAX_FRAMES_PER_TASK: usize = 8;

/// Runs batches of frames.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Where networks run.
    pub workers: Arc<WorkerPool>,
    /// Where everything else runs that takes long.
    pub cpu: CpuPool,
    /// What the steps took.
    pub book: Arc<Book>,
    /// Whether addresses take turns where there are no tenants to take them. Not where one address stands for many
    /// clients.
    pub takes_turns_by_peer: bool,
}

/// The background frames of a batch, in order.
pub(crate) struct Backgrounds {
    model: Arc<Model>,
    start_frame_index: u64,
    indices: Vec<u32>,
    frames: Vec<Arc<BackgroundFrame>>,
    crops: Vec<FaceCrop>,
}

/// How a batch should be run.
#[derive(Debug, Clone)]
pub(crate) struct Urgency {
    /// Beside others that wait. A full queue is waited for in the name of a session: it was let in before, and
    /// has one job at a time.
    pub(crate) claim: Claim,
    /// Longest time in the queue.
    pub(crate) max_wait: Option<Duration>,
    /// Whether frames that cannot be made may be left out.
    pub(crate) allow_partial: bool,
    /// What the call comes to.
    pub(crate) tally: Arc<Tally>,
}

impl Pipeline {
    /// How urgent work of this caller is.
    pub(crate) fn urgency(&self, caller: &Caller, priority: Priority, work: Work) -> Urgency {
        // How long a session's frames may wait is for the session to say.
        let max_wait = caller.max_wait.filter(|_| work == Work::Unary);
        Urgency {
            claim: Claim {
                tenant: caller.takes_turns_as(self.takes_turns_by_peer),
                weight: caller.weight,
                priority,
                deadline: caller.deadline,
                due: None,
                max_wait,
                runs_alone: caller.runs_alone,
                work,
            },
            max_wait,
            allow_partial: false,
            tally: Arc::clone(&caller.tally),
        }
    }

    /// The same, for work of this caller.
    pub(crate) fn of(&self, caller: &Caller) -> Self {
        let whose = caller.takes_turns_as(self.takes_turns_by_peer);
        Self {
            cpu: self.cpu.of(whose),
            ..self.clone()
        }
    }

    /// The same, for a session whose frames have their time.
    pub(crate) fn live(&self) -> Self {
        Self {
            cpu: self.cpu.live(),
            ..self.clone()
        }
    }

    /// Reads the background frames of `n_frames` places from `start_frame_index` on.
    ///
    /// # Errors
    /// What the registry says about the model's files.
    pub(crate) async fn backgrounds(
        &self,
        model: &Arc<Model>,
        start_frame_index: u64,
        n_frames: usize,
    ) -> Result<Backgrounds, ServeError> {
        let indices = walk(model, start_frame_index, n_frames);
        let model = Arc::clone(model);
        let begun = Instant::now();
        let backgrounds = self
            .cpu
            .run(move || Ok(Backgrounds::load(model, start_frame_index, indices)?))
            .await?;
        self.book
            .stages
            .add(Stage::Background, n_frames, begun.elapsed());
        Ok(backgrounds)
    }

    /// Runs the generator on `audio`, `[n_frames, C, H, W]`.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`] when the queue is full and not waited for, [`ServeError::WaitTooLong`],
    /// [`ServeError::QueueTimeout`], and what happens to the job.
    pub(crate) async fn infer(
        &self,
        model: &Arc<Model>,
        backgrounds: &Backgrounds,
        audio: Arc<[f32]>,
        urgency: Urgency,
    ) -> Result<JobOutput, ServeError> {
        let Urgency {
            claim,
            max_wait,
            tally,
            allow_partial,
        } = urgency;
        let is_live = claim.work == Work::Live;
        let priority = claim.priority;
        let submitted = Instant::now().into_std();
        let finish = |output: JobOutput| {
            let output = self.finish(model, output);
            let wait = output.timings.queue;
            self.book.waited(priority, wait);
            tally.queued(wait);
            // Of a session there are too many: its segments are told.
            if !is_live {
                let n_frames = output.faces.len();
                let taken = submitted + wait;
                let made = taken + output.timings.infer;
                tally.spent(Spent::Stage(Stage::Queue), (submitted, taken), n_frames);
                tally.spent(Spent::Stage(Stage::Infer), (taken, made), n_frames);
            }
            output
        };
        let job = Job {
            generator: Arc::clone(model.generator()),
            frames: backgrounds.job_frames(),
            audio,
            ahead: backgrounds.ahead(model),
            allow_partial,
            claim,
        };
        let mut handle = if is_live {
            self.workers.submit_when_free(job).await?
        } else {
            self.workers.submit(job)?
        };
        if let Some(max_wait) = max_wait {
            let bound = Instant::now() + max_wait;
            tokio::select! {
                biased;
                output = &mut handle => return Ok(finish(output?)),
                () = tokio::time::sleep_until(bound) => {
                    if !handle.has_started() {
                        return Err(ServeError::QueueTimeout { waited: max_wait });
                    }
                }
            }
        }
        Ok(finish(handle.await?))
    }

    /// Pastes the faces and codes the pictures, all frames at once. Those without a face are left out.
    ///
    /// # Errors
    /// [`ServeError::Internal`]: sizes were checked before.
    pub(crate) async fn composite(
        &self,
        backgrounds: &Backgrounds,
        faces: Vec<Face>,
        output: OutputSpec,
    ) -> Result<Vec<CodedFrame>, ServeError> {
        let begun = Instant::now();
        let shots = backgrounds.places().zip(faces);
        let shots: Vec<_> = shots.filter(|(_, face)| !face.is_empty()).collect();
        let is_quick = output.region_only || coding::is_baked_so(&backgrounds.model, output);
        let coded = self
            .code(shots.into_iter(), is_quick, move |(place, face)| {
                place.generated(face, output)
            })
            .await?;
        self.book
            .stages
            .add(Stage::Composite, coded.len(), begun.elapsed());
        Ok(coded)
    }

    fn finish(&self, model: &Model, output: JobOutput) -> JobOutput {
        let n_frames = output.faces.len();
        let timings = &output.timings;
        let stages = &self.book.stages;
        stages.add(Stage::Queue, n_frames, timings.queue);
        stages.add(Stage::Infer, n_frames, timings.infer);
        let n_frames = u64_of(n_frames);
        model.record_use(n_frames, timings.compute);
        output
    }

    /// Frames without the network: the backgrounds of `n_frames` places from `start_frame_index` on,
    /// coded as `composite` codes frames, with `generated = false`.
    ///
    /// With `region_only` they are the face rectangles of the backgrounds.
    ///
    /// # Errors
    /// What the registry says about the model's files.
    pub async fn idle_frames(
        &self,
        model: &Arc<Model>,
        start_frame_index: u64,
        n_frames: usize,
        output: OutputSpec,
    ) -> Result<Vec<CodedFrame>, ServeError> {
        let indices = walk(model, start_frame_index, n_frames);
        model.read_ahead(start_frame_index.saturating_add(n_frames as u64), n_frames);
        let mut frames = self.background_frames(model, indices, output).await?;
        for (place, frame) in (start_frame_index..).zip(&mut frames) {
            frame.frame_index = place;
        }
        Ok(frames)
    }

    /// As [`Self::idle_frames`], of any backgrounds and without places on the timeline.
    ///
    /// # Errors
    /// What the registry says about the model's files.
    pub(crate) async fn background_frames(
        &self,
        model: &Arc<Model>,
        indices: Vec<u32>,
        output: OutputSpec,
    ) -> Result<Vec<CodedFrame>, ServeError> {
        let is_quick = coding::is_baked_so(model, output);
        let model = Arc::clone(model);
        self.code(indices.into_iter(), is_quick, move |&index| {
            coding::idle(&model, index, output)
        })
        .await
    }

    /// Codes frames on the cpu pool, in order. A quick one takes less time than it takes to start a
    /// task, so that a few of them share one.
    async fn code<T: Send + 'static>(
        &self,
        items: impl ExactSizeIterator<Item = T>,
        is_quick: bool,
        code: impl Fn(&T) -> Result<CodedFrame, ServeError> + Clone + Send + 'static,
    ) -> Result<Vec<CodedFrame>, ServeError> {
        let n_together = if is_quick {
            let n_each = items.len().div_ceil(self.cpu.n_slots());
            n_each.clamp(1, MAX_FRAMES_PER_TASK)
        } else {
            1
        };
        self.cpu.run_each(items, n_together, code).await
    }
}

/// What frames over these backgrounds will take when they are coded, roughly. Reads and decodes nothing.
///
/// # Errors
/// That there is no such background frame.
pub(crate) fn estimated_bytes(
    model: &Model,
    indices: &[u32],
    output: OutputSpec,
) -> Result<u64, ServeError> {
    indices.iter().try_fold(0_u64, |sum, &index| {
        let rect = model.face_rect(index)?;
        let (width, height) = if output.region_only {
            (rect.width, rect.height)
        } else {
            (model.width(), model.height())
        };
        Ok(sum.saturating_add(output.estimated_bytes(width, height)))
    })
}

/// The background frames of `n_frames` places from `start_frame_index` on.
pub(crate) fn walk(model: &Model, start_frame_index: u64, n_frames: usize) -> Vec<u32> {
    (start_frame_index..)
        .take(n_frames)
        .map(|place| background_index(place, model.n_frames()))
        .collect()
}

/// A background frame and where it is shown.
struct Place {
    model: Arc<Model>,
    frame_index: u64,
    background_index: u32,
    frame: Arc<BackgroundFrame>,
    crop: FaceCrop,
}

impl Place {
    fn generated(&self, face: &[u8], output: OutputSpec) -> Result<CodedFrame, ServeError> {
        let shot = coding::Shot {
            model: &self.model,
            background_index: self.background_index,
            frame: &self.frame,
            crop: &self.crop,
        };
        Ok(CodedFrame {
            frame_index: self.frame_index,
            ..coding::generated(&shot, face, output)?
        })
    }
}

/// Places of a model's timeline that may be asked for next, as long as it is in memory.
struct NextFrames {
    model: Weak<Model>,
    places: Range<u64>,
}

impl FramesAhead for NextFrames {
    fn background_index(&self, n: u32) -> Option<u32> {
        let place = self.places.start.checked_add(u64::from(n))?;
        let n_backgrounds = self.model.upgrade()?.n_frames();
        (self.places.contains(&place)).then(|| background_index(place, n_backgrounds))
    }

    fn crop(&self, background_index: u32) -> Option<Arc<[u8]>> {
        // What is wrong with a frame is said to the request that needs it.
        let crop = self.model.upgrade()?.face_crop(background_index).ok()?;
        Some(Arc::clone(crop.pixels()))
    }
}

impl Backgrounds {
    fn load(
        model: Arc<Model>,
        start_frame_index: u64,
        indices: Vec<u32>,
    ) -> Result<Self, RegistryError> {
        let frames = indices.iter().map(|&index| model.background(index));
        let frames: Vec<_> = frames.collect::<Result<_, _>>()?;
        let both = indices.iter().zip(&frames);
        let crops = both.map(|(&index, frame)| model.face_of(index, frame));
        let crops = crops.collect::<Result<_, _>>()?;
        // Whoever asks for a batch will most likely ask for the next one.
        let next = start_frame_index.saturating_add(indices.len() as u64);
        model.read_ahead(next, indices.len());
        Ok(Self {
            model,
            start_frame_index,
            indices,
            frames,
            crops,
        })
    }

    /// Frames of this batch.
    fn n_frames(&self) -> usize {
        self.frames.len()
    }

    /// What the next request of this length shows, for a generator that can prepare it.
    fn ahead(&self, model: &Arc<Model>) -> Option<Arc<dyn FramesAhead>> {
        model.generator().visual_cache()?;
        let n_frames = self.n_frames() as u64;
        Some(Arc::new(NextFrames {
            model: Arc::downgrade(model),
            places: self.start_frame_index.saturating_add(n_frames)
                ..self.start_frame_index.saturating_add(2 * n_frames),
        }))
    }

    fn job_frames(&self) -> Vec<JobFrame> {
        let crops = self.crops.iter().zip(&self.indices);
        crops
            .map(|(crop, &index)| JobFrame {
                crop: Arc::clone(crop.pixels()),
                background_index: Some(index),
            })
            .collect()
    }

    /// Which background frames they are, in order.
    pub(crate) fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The face of each frame, in order, as the network is given it and as [`Pipeline::composite`]
    /// expects its generated region back.
    pub(crate) fn crops(&self) -> impl ExactSizeIterator<Item = &FaceCrop> {
        self.crops.iter()
    }

    fn places(&self) -> impl ExactSizeIterator<Item = Place> {
        let frames = self.frames.iter().zip(&self.crops).zip(&self.indices);
        let start = self.start_frame_index;
        frames
            .enumerate()
            .map(move |(n, ((frame, crop), &background_index))| Place {
                model: Arc::clone(&self.model),
                frame_index: start.saturating_add(n as u64),
                background_index,
                frame: Arc::clone(frame),
                crop: crop.clone(),
            })
    }
}
