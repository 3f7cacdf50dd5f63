//! The four steps that turn audio windows into coded frames, for unary requests and sessions alike.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::try_join_all;
use lipsync::v1;
use lipsync_compositor::{composite, encode, face_patch};
use lipsync_core::{Priority, background_index};
use lipsync_registry::{BackgroundFrame, Model};
use lipsync_worker_pool::{Job, JobFrame, JobOutput, WorkerPool};
use tokio::time::Instant;

use crate::{cpu_pool::CpuPool, error::ServeError, request::OutputSpec};

/// Runs batches of frames.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Where networks run.
    pub workers: Arc<WorkerPool>,
    /// Where everything else runs that takes long.
    pub cpu: CpuPool,
}

/// The background frames of a batch, in order.
pub struct Backgrounds {
    start_frame_index: u64,
    indices: Vec<u32>,
    frames: Vec<Arc<BackgroundFrame>>,
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
        self.cpu
            .run(move || {
                let frames: Result<Vec<_>, _> =
                    indices.iter().map(|&i| model.background(i)).collect();
                Ok(Backgrounds {
                    start_frame_index,
                    frames: frames?,
                    indices,
                })
            })
            .await
    }

    /// Runs the generator on `audio`, `[n_frames, C, H, W]`.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`] when the queue is full, [`ServeError::QueueTimeout`], and what
    /// happens to the job.
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
        let mut handle = self.workers.submit(job)?;
        if let Some(max_wait) = urgency.max_wait {
            let bound = Instant::now() + max_wait;
            tokio::select! {
                biased;
                output = &mut handle => return finish(model, output?),
                () = tokio::time::sleep_until(bound) => {
                    if !handle.has_started() {
                        return Err(ServeError::QueueTimeout { waited: max_wait });
                    }
                }
            }
        }
        finish(model, handle.await?)
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
        let frames = backgrounds
            .frames
            .iter()
            .zip(&backgrounds.indices)
            .zip(faces);
        let jobs =
            frames
                .zip(backgrounds.start_frame_index..)
                .map(|(((frame, &index), face), place)| {
                    let frame = Arc::clone(frame);
                    self.cpu.run(move || {
                        let mut coded = composite_frame(&frame, &face, output)?;
                        coded.frame_index = place;
                        coded.background_index = index;
                        Ok(coded)
                    })
                });
        try_join_all(jobs).await
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

fn finish(model: &Model, output: JobOutput) -> Result<JobOutput, ServeError> {
    let n_frames = u64::try_from(output.faces.len()).unwrap_or(u64::MAX);
    model.record_use(n_frames, output.timings.compute);
    Ok(output)
}

fn composite_frame(
    frame: &BackgroundFrame,
    face: &[u8],
    output: OutputSpec,
) -> Result<v1::CompositedFrame, ServeError> {
    let picture = if output.region_only {
        face_patch(&frame.crop, face)?
    } else {
        composite(&frame.picture, &frame.crop, face)?
    };
    let px = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let rect = frame.crop.rect();
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
        generated: true,
        data: Bytes::from(encode(&picture, output.encoding)?),
        ..Default::default()
    })
}
