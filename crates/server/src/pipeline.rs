//! The four steps that turn audio windows into coded frames, for unary requests and sessions alike.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::try_join_all;
use lipsync::v1;
use lipsync_compositor::{FaceCrop, Picture, composite, encode, face_patch};
use lipsync_core::{Priority, background_index};
use lipsync_registry::{Model, RegistryError};
use lipsync_worker_pool::{Job, JobFrame, JobOutput, WorkerPool};
use tokio::time::Instant;

use crate::{
    cpu_pool::CpuPool,
    error::ServeError,
    request::OutputSpec,
    stages::{Stage, StageClocks},
};

/// Runs batches of frames.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Where networks run.
    pub workers: Arc<WorkerPool>,
    /// Where everything else runs that takes long.
    pub cpu: CpuPool,
    /// What the steps took.
    pub clocks: Arc<StageClocks>,
}

/// The background frames of a batch, in order.
pub struct Backgrounds {
    start_frame_index: u64,
    indices: Vec<u32>,
    frames: Vec<Arc<Background>>,
}

/// A background frame, decoded, and its face.
struct Background {
    picture: Arc<Picture>,
    crop: FaceCrop,
}

impl Background {
    fn load(model: &Model, index: u32) -> Result<Self, RegistryError> {
        Ok(Self {
            crop: model.face_crop(index)?,
            picture: model.picture(index)?,
        })
    }
}

/// How a batch should be run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Urgency {
    /// Its level.
    pub priority: Priority,
    /// When nobody waits for it any more.
    pub deadline: Option<std::time::Instant>,
    /// Longest time in the queue.
    pub max_wait: Option<Duration>,
    /// A full queue is waited for: sessions were let in before, and have one job at a time.
    pub waits_for_room: bool,
}

impl Pipeline {
    /// Reads the background frames of `n_frames` places from `start_frame_index` on.
    ///
    /// # Errors
    /// What the registry says about the model's files.
    pub async fn backgrounds(
        &self,
        model: &Arc<Model>,
        start_frame_index: u64,
        n_frames: usize,
    ) -> Result<Backgrounds, ServeError> {
        let n_backgrounds = model.n_frames();
        let indices: Vec<u32> = (start_frame_index..)
            .take(n_frames)
            .map(|i| background_index(i, n_backgrounds))
            .collect();
        let model = Arc::clone(model);
        let begun = Instant::now();
        let backgrounds = self
            .cpu
            .run(move || {
                let frames: Result<Vec<_>, _> = indices
                    .iter()
                    .map(|&index| Background::load(&model, index).map(Arc::new))
                    .collect();
                // Whoever asks for a batch will most likely ask for the next one.
                let next = start_frame_index.saturating_add(n_frames as u64);
                model.read_ahead(next, n_frames);
                Ok(Backgrounds {
                    start_frame_index,
                    frames: frames?,
                    indices,
                })
            })
            .await?;
        self.clocks
            .add(Stage::Background, n_frames, begun.elapsed());
        Ok(backgrounds)
    }

    /// Runs the generator on `audio`, `[n_frames, C, H, W]`.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`] when the queue is full and not waited for,
    /// [`ServeError::QueueTimeout`], and what happens to the job.
    pub async fn infer(
        &self,
        model: &Arc<Model>,
        backgrounds: &Backgrounds,
        audio: Arc<[f32]>,
        urgency: Urgency,
    ) -> Result<JobOutput, ServeError> {
        let job = Job {
            generator: Arc::clone(model.generator()),
            frames: backgrounds.job_frames(),
            audio,
            priority: urgency.priority,
            deadline: urgency.deadline,
        };
        let mut handle = if urgency.waits_for_room {
            self.workers.submit_when_free(job).await?
        } else {
            self.workers.submit(job)?
        };
        if let Some(max_wait) = urgency.max_wait {
            let bound = Instant::now() + max_wait;
            tokio::select! {
                biased;
                output = &mut handle => return Ok(self.finish(model, output?)),
                () = tokio::time::sleep_until(bound) => {
                    if !handle.has_started() {
                        return Err(ServeError::QueueTimeout { waited: max_wait });
                    }
                }
            }
        }
        Ok(self.finish(model, handle.await?))
    }

    /// Pastes the faces and codes the pictures, all frames at once.
    ///
    /// # Errors
    /// [`ServeError::Internal`]: sizes were checked before.
    pub async fn composite(
        &self,
        backgrounds: &Backgrounds,
        faces: Vec<Vec<u8>>,
        output: OutputSpec,
    ) -> Result<Vec<v1::CompositedFrame>, ServeError> {
        let jobs = backgrounds.places().zip(faces).map(|(place, face)| {
            self.cpu
                .run(move || Ok(place.stamp(composite_frame(&place.frame, &face, output)?)))
        });
        let begun = Instant::now();
        let coded = try_join_all(jobs).await?;
        self.clocks
            .add(Stage::Composite, coded.len(), begun.elapsed());
        Ok(coded)
    }

    fn finish(&self, model: &Model, output: JobOutput) -> JobOutput {
        let n_frames = output.faces.len();
        let timings = &output.timings;
        self.clocks.add(Stage::Queue, n_frames, timings.queue);
        self.clocks.add(Stage::Infer, n_frames, timings.infer);
        let n_frames = u64::try_from(n_frames).unwrap_or(u64::MAX);
        model.record_use(n_frames, timings.compute);
        output
    }

    /// Frames without the network: the backgrounds of `n_frames` places from `start_frame_index` on,
    /// coded as [`Self::composite`] codes frames, with `generated = false`.
    ///
    /// With `region_only` they are the face rectangles of the backgrounds. `pts_us`, `audio_time_us`
    /// and `segment_id` are the caller's to fill in.
    ///
    /// # Errors
    /// What the registry says about the model's files.
    pub async fn idle_frames(
        &self,
        model: &Arc<Model>,
        start_frame_index: u64,
        n_frames: usize,
        output: OutputSpec,
    ) -> Result<Vec<v1::CompositedFrame>, ServeError> {
        let backgrounds = self.backgrounds(model, start_frame_index, n_frames).await?;
        let jobs = backgrounds.places().map(|place| {
            self.cpu
                .run(move || Ok(place.stamp(idle_frame(&place.frame, output)?)))
        });
        try_join_all(jobs).await
    }
}

/// A background frame and where it is shown.
struct Place {
    frame_index: u64,
    background_index: u32,
    frame: Arc<Background>,
}

impl Place {
    fn stamp(&self, coded: v1::CompositedFrame) -> v1::CompositedFrame {
        v1::CompositedFrame {
            frame_index: self.frame_index,
            background_index: self.background_index,
            ..coded
        }
    }
}

impl Backgrounds {
    /// Frames of this batch.
    #[must_use]
    pub fn n_frames(&self) -> usize {
        self.frames.len()
    }

    fn job_frames(&self) -> Vec<JobFrame> {
        let frames = self.frames.iter().zip(&self.indices);
        frames
            .map(|(frame, &index)| JobFrame {
                crop: Arc::clone(frame.crop.pixels()),
                background_index: Some(index),
            })
            .collect()
    }

    /// The face of each frame, in order, as the network is given it and as [`Pipeline::composite`]
    /// expects its generated region back.
    pub fn crops(&self) -> impl ExactSizeIterator<Item = &FaceCrop> {
        self.frames.iter().map(|frame| &frame.crop)
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let frames = self.frames.iter().zip(&self.indices);
        frames
            .zip(self.start_frame_index..)
            .map(|((frame, &background_index), frame_index)| Place {
                frame_index,
                background_index,
                frame: Arc::clone(frame),
            })
    }

    /// What their coded form will take, roughly.
    #[must_use]
    pub fn estimated_bytes(&self, output: OutputSpec) -> u64 {
        self.frames
            .iter()
            .map(|frame| {
                if output.region_only {
                    let rect = frame.crop.rect();
                    output.estimated_bytes(rect.width, rect.height)
                } else {
                    output.estimated_bytes(frame.picture.width(), frame.picture.height())
                }
            })
            .sum()
    }
}

fn composite_frame(
    frame: &Background,
    face: &[u8],
    output: OutputSpec,
) -> Result<v1::CompositedFrame, ServeError> {
    let picture = if output.region_only {
        face_patch(&frame.crop, face)?
    } else {
        composite(&frame.picture, &frame.crop, face)?
    };
    let coded = code(&picture, &frame.crop, output)?;
    Ok(v1::CompositedFrame {
        generated: true,
        ..coded
    })
}

fn idle_frame(frame: &Background, output: OutputSpec) -> Result<v1::CompositedFrame, ServeError> {
    if output.region_only {
        let face = frame.picture.cut(frame.crop.rect())?;
        code(&face, &frame.crop, output)
    } else {
        code(&frame.picture, &frame.crop, output)
    }
}

/// Codes a picture; all fields that the pixels and the face's place determine are filled in.
fn code(
    picture: &Picture,
    crop: &FaceCrop,
    output: OutputSpec,
) -> Result<v1::CompositedFrame, ServeError> {
    let px = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let rect = crop.rect();
    Ok(v1::CompositedFrame {
        format: output.wire_format().into(),
        width: px(picture.width()),
        height: px(picture.height()),
        region: Some(v1::Rect {
            x: px(rect.x),
            y: px(rect.y),
            width: px(rect.width),
            height: px(rect.height),
        }),
        data: Bytes::from(encode(picture, output.encoding)?),
        ..Default::default()
    })
}
