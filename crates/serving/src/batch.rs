//! Unary calls: from an order to an answer.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_core::{Fps, ModelId};
use lipsync_registry::{Lease, Model, Registry};
use lipsync_session::Warning;
use lipsync_worker_pool::{Face, JobTimings, Work as JobWork};

use crate::{
    admission::{Admission, Admitted, Upload, Work},
    ahead::Ahead,
    answer_limit::AnswerLimit,
    caller::Caller,
    clip::{ClipWindows, least_frames, windows_of_clip},
    coding::CodedFrame,
    error::ServeError,
    gate::Ticket,
    models::{Used, model_for},
    order::{BackgroundOrder, BatchOrder, Clip},
    pipeline::{Backgrounds, Pipeline, Urgency, estimated_bytes, walk},
    rates::Charge,
    residents::InUse,
    telemetry::{CallTimes, Spent, Stage},
    visuals,
};

/// What unary calls are served with.
#[derive(Clone)]
pub struct Batches {
    /// The gate.
    pub admission: Arc<Admission>,
    /// Models.
    pub registry: Registry,
    /// Network and pixels.
    pub pipeline: Pipeline,
    /// The most frames of one call.
    pub max_frames: usize,
    /// The largest answer.
    pub answers: AnswerLimit,
}

/// The answer to a [`BatchOrder`].
#[derive(Debug)]
pub struct BatchAnswer {
    /// In order.
    pub frames: Vec<BatchFrame>,
    /// Frames that could not be made, in order; none unless the order allows it.
    pub failed: Vec<FailedFrame>,
    /// What took how long.
    pub timings: Timings,
    /// What was odd about the speech.
    pub warnings: Vec<Warning>,
}

/// A frame and its time.
#[derive(Debug)]
pub struct BatchFrame {
    /// The frame.
    pub coded: CodedFrame,
    /// When it is shown, counted from the first frame of the answer, microseconds.
    pub pts_us: u64,
    /// The place in the given audio that it belongs to, microseconds.
    pub audio_time_us: u64,
}

/// A frame that could not be made.
#[derive(Debug)]
pub struct FailedFrame {
    /// Its place among those that were asked for.
    pub index: usize,
    /// Why.
    pub error: ServeError,
}

/// Where the time of a call went.
#[derive(Debug, Clone, Default)]
pub struct Timings {
    /// Until a worker took the first chunk.
    pub queue: Duration,
    /// The network.
    pub infer: Duration,
    /// Pasting faces and coding pictures.
    pub composite: Duration,
    /// From the whole order to the answer.
    pub total: Duration,
    /// Waiting for the model to be loaded.
    pub model_load: Duration,
    /// Audio and background frames.
    pub prepare: Duration,
    /// The largest executed batch that frames of this call were in.
    pub batch_frames: usize,
    /// Who made them.
    pub workers: Vec<usize>,
}

/// The answer to a [`BackgroundOrder`].
#[derive(Debug)]
pub struct BackgroundAnswer {
    /// In the order in which they were asked for.
    pub frames: Vec<CodedFrame>,
    /// How many the model has.
    pub n_background_frames: u32,
}

/// An answer, and what it holds of the server.
#[derive(Debug)]
pub struct Served<T> {
    /// The answer.
    pub answer: T,
    /// Its place, until it has the form in which it is sent.
    pub place: Admitted,
    /// Its estimated size, until it is written.
    pub room: Ticket,
}

/// All that a worker needs to begin, and what it took to get it.
struct Prepared {
    /// Of frames a second; given back where no worker takes them.
    charge: Option<Charge>,
    _in_use: Option<InUse>,
    model: Arc<Model>,
    load_time: Duration,
    windows: ClipWindows,
    backgrounds: Backgrounds,
    place: Admitted,
    room: Ticket,
    prepare: Duration,
}

impl Batches {
    /// Makes the frames of an order whose message is whole. It takes its place when its model is there: who waits
    /// for a slow load takes nobody's, and gives way to others where there is no room for its `upload`.
    ///
    /// Nothing here looks at the deadline but the workers: whoever waits for the answer drops it.
    ///
    /// # Errors
    /// That the server is full or drains, and what is wrong with the order, the model or a device.
    pub async fn serve(
        &self,
        caller: &Caller,
        upload: Option<&Upload>,
        order: BatchOrder,
    ) -> Result<Served<BatchAnswer>, ServeError> {
        let used = self.model(caller, &order.model_id, upload).await?;
        self.serve_with(caller, used, order).await
    }

    /// As [`serve`](Self::serve), for a piece of a clip of which `n_left` frames are still to come, the piece's
    /// included. What is made of the audio ahead of the next pieces is kept in `ahead`.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub async fn serve_piece(
        &self,
        caller: &Caller,
        order: BatchOrder,
        ahead: &mut Ahead,
        n_left: usize,
    ) -> Result<Served<BatchAnswer>, ServeError> {
        let used = self.model(caller, &order.model_id, None).await?;
        self.serve_from(caller, used, order, Some((ahead, n_left)))
            .await
    }

    /// The same with the order's model, for callers that have to look at it first.
    ///
    /// # Errors
    /// As [`serve`](Self::serve), but for the model.
    pub async fn serve_with(
        &self,
        caller: &Caller,
        used: Used,
        order: BatchOrder,
    ) -> Result<Served<BatchAnswer>, ServeError> {
        self.serve_from(caller, used, order, None).await
    }

    async fn serve_from(
        &self,
        caller: &Caller,
        used: Used,
        order: BatchOrder,
        ahead: Option<(&mut Ahead, usize)>,
    ) -> Result<Served<BatchAnswer>, ServeError> {
        let arrived = Instant::now();
        let (output, priority) = (order.output, order.priority);
        self.admission.check_shed(priority)?;
        let allow_partial = order.allow_partial;
        let pipeline = self.pipeline.of(caller);
        let Prepared {
            charge,
            _in_use,
            model,
            load_time,
            windows,
            backgrounds,
            place,
            room,
            prepare,
        } = self.prepare(caller, used, order, ahead).await?;
        let mut timings = Timings {
            model_load: load_time,
            prepare,
            ..Timings::default()
        };
        let (mut frames, mut failed) = (Vec::new(), Vec::new());
        if windows.n_frames > 0 {
            let urgency = Urgency {
                allow_partial,
                ..pipeline.urgency(caller, priority, JobWork::Unary)
            };
            let audio = windows.data;
            let made =
                charged(charge, pipeline.infer(&model, &backgrounds, audio, urgency)).await?;
            timings.add_job(made.timings);
            let made_places = places(&made.faces);
            failed = failed_frames(&made.failed);
            let begun = Instant::now();
            let coded = pipeline.composite(&backgrounds, made.faces, output).await?;
            let what = Spent::Stage(Stage::Composite);
            caller.tally.passed(what, begun, coded.len());
            let coded = made_places.into_iter().zip(coded);
            frames = stamped(coded, windows.first_frame, model.fps());
            timings.composite = begun.elapsed();
        }
        timings.total = load_time + arrived.elapsed();
        caller.tally.made(frames.len());
        let figures = self.pipeline.book.model(model.id(), &caller.tenant);
        figures.answered.add(frames.len(), timings.told());
        let answer = BatchAnswer {
            frames,
            failed,
            timings,
            warnings: windows.warnings,
        };
        Ok(Served {
            answer,
            place,
            room,
        })
    }

    async fn prepare(
        &self,
        caller: &Caller,
        used: Used,
        order: BatchOrder,
        ahead: Option<(&mut Ahead, usize)>,
    ) -> Result<Prepared, ServeError> {
        let start = order.start_frame_index;
        let Lease { model, load_time } = used.lease;
        caller.tally.loaded(load_time);
        let place = self.admission.admit(caller, Work::Batch)?;
        let begun = Instant::now();
        let pipeline = self.pipeline.of(caller);
        // A tenant whose frames are used up has no audio listened to either. How many frames there are is known then.
        let n_least = least_frames(&model, &order.clip, order.n_frames);
        let expected = self
            .admission
            .charge(caller, n_least.min(self.max_frames))?;
        let windows = match (order.n_frames, ahead) {
            (Some(n_frames), Some((ahead, n_left))) => match ahead.take(&model, n_frames) {
                Some(windows) => windows,
                None => {
                    let n_to_make = ahead.n_to_make(n_frames, n_left.min(self.max_frames));
                    let made = self.windows(&pipeline, &model, order.clip, Some(n_to_make));
                    ahead.put(&model, made.await?, n_frames)
                }
            },
            (n_frames, _) => {
                let made = self.windows(&pipeline, &model, order.clip, n_frames);
                made.await?
            }
        };
        drop(expected);
        let (tally, stage) = (&caller.tally, Spent::Stage);
        tally.passed(stage(Stage::Audio), begun, windows.n_frames);
        let charge = self.admission.charge(caller, windows.n_frames)?;
        let indices = walk(&model, start, windows.n_frames);
        let room = self.reserve(caller, estimated_bytes(&model, &indices, order.output)?)?;
        let reading = Instant::now();
        let backgrounds = pipeline.backgrounds(&model, start, windows.n_frames);
        let backgrounds = backgrounds.await?;
        tally.passed(stage(Stage::Background), reading, windows.n_frames);
        if let Some(visuals) = &order.visuals {
            visuals::check(&pipeline.cpu, visuals, backgrounds.crops()).await?;
        }
        Ok(Prepared {
            charge,
            _in_use: used.in_use,
            model,
            load_time,
            windows,
            backgrounds,
            place,
            room,
            prepare: begun.elapsed(),
        })
    }

    /// Codes background frames as they are.
    ///
    /// # Errors
    /// As [`Self::serve`].
    pub async fn serve_backgrounds(
        &self,
        caller: &Caller,
        upload: Option<&Upload>,
        order: BackgroundOrder,
    ) -> Result<Served<BackgroundAnswer>, ServeError> {
        let BackgroundOrder {
            model_id,
            indices,
            output,
        } = order;
        let used = self.model(caller, &model_id, upload).await?;
        let model = used.lease.model;
        let place = self.admission.admit(caller, Work::Batch)?;
        let n_background_frames = model.n_frames();
        if let Some(index) = indices.iter().find(|&&index| index >= n_background_frames) {
            return Err(ServeError::invalid(
                "background_indices",
                format!("the model has {n_background_frames} background frames, found {index}"),
            ));
        }
        let room = self.reserve(caller, estimated_bytes(&model, &indices, output)?)?;
        let pipeline = self.pipeline.of(caller);
        let frames = pipeline.background_frames(&model, indices, output).await?;
        caller.tally.made(frames.len());
        Ok(Served {
            answer: BackgroundAnswer {
                frames,
                n_background_frames,
            },
            place,
            room,
        })
    }

    /// A model, loaded if need be. Who waits for that is told when the server drains.
    ///
    /// # Errors
    /// [`ServeError::Draining`], [`ServeError::UnknownModel`], [`ServeError::BrokenModel`], quotas of the tenant.
    pub async fn model(
        &self,
        caller: &Caller,
        id: &ModelId,
        upload: Option<&Upload>,
    ) -> Result<Used, ServeError> {
        let finding = model_for(caller, id, &self.registry, &self.admission);
        let loading = self.admission.unless_draining(finding);
        waiting(upload, loading).await?
    }

    async fn windows(
        &self,
        pipeline: &Pipeline,
        model: &Arc<Model>,
        clip: Clip,
        n_wanted: Option<usize>,
    ) -> Result<ClipWindows, ServeError> {
        let begun = Instant::now();
        let Pipeline { cpu, book, .. } = pipeline;
        let (model, max_frames) = (Arc::clone(model), self.max_frames);
        let windows = cpu.run(move || windows_of_clip(&model, &clip, n_wanted, max_frames));
        let windows = windows.await?;
        book.stages
            .add(Stage::Audio, windows.n_frames, begun.elapsed());
        Ok(windows)
    }

    fn reserve(&self, caller: &Caller, n_bytes: u64) -> Result<Ticket, ServeError> {
        self.answers.check(n_bytes)?;
        self.admission.reserve(caller, n_bytes)
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("max_frames", &self.max_frames)
            .finish_non_exhaustive()
    }
}

/// Has frames made that were counted, and gives them back where no worker has taken them on.
async fn charged<T>(
    mut charge: Option<Charge>,
    making: impl Future<Output = Result<T, ServeError>>,
) -> Result<T, ServeError> {
    if let Some(charge) = &mut charge {
        charge.begin();
    }
    let made = making.await;
    let is_refused = matches!(
        made,
        Err(ServeError::Overloaded { .. } | ServeError::QueueTimeout { .. })
    );
    charge
        .filter(|_| is_refused)
        .into_iter()
        .for_each(Charge::give_back);
    made
}

/// Waits for something that is not the server's own work, in the name of an upload if there is one.
pub async fn waiting<T>(upload: Option<&Upload>, waiting: impl Future<Output = T>) -> T {
    match upload {
        Some(upload) => upload.waiting(waiting).await,
        None => waiting.await,
    }
}

/// The places of the frames that have a face.
fn places(faces: &[Face]) -> Vec<u64> {
    let made = (0..).zip(faces).filter(|(_, face)| !face.is_empty());
    made.map(|(n, _)| n).collect()
}

fn failed_frames(failed: &[lipsync_worker_pool::FailedFrame]) -> Vec<FailedFrame> {
    let failed = failed.iter().map(|failed| FailedFrame {
        index: failed.frame,
        error: ServeError::of_frame(&failed.error),
    });
    failed.collect()
}

fn stamped(
    coded: impl Iterator<Item = (u64, CodedFrame)>,
    first_frame: u64,
    fps: Fps,
) -> Vec<BatchFrame> {
    let frames = coded.map(|(n, coded)| BatchFrame {
        coded,
        pts_us: fps.pts_us(n),
        audio_time_us: fps.pts_us(first_frame + n),
    });
    frames.collect()
}

impl Timings {
    fn told(&self) -> CallTimes {
        CallTimes {
            queue: self.queue,
            prepare: self.prepare,
            infer: self.infer,
            composite: self.composite,
            total: self.total,
        }
    }

    fn add_job(&mut self, job: JobTimings) {
        self.queue = job.queue;
        self.infer = job.infer;
        self.batch_frames = job.batch_frames;
        self.workers = job.workers;
    }
}
