//! The producer of a session: audio becomes slots, slots become frames.

use std::sync::Arc;

use bytes::Bytes;
use lipsync_session::{Batch, Kind, Next, Planned, Shot, Work};
use tokio::time::Instant;

use super::{
    Parts,
    blend::{blend, blend_faces},
    conversation::{Conversation, EndOnDrop},
    open::Opening,
    rest,
    segment::Segment,
};
use crate::{
    admission::Admission,
    answer_limit::AnswerLimit,
    coding::CodedFrame,
    error::ServeError,
    pipeline::{Pipeline, Urgency},
    telemetry::Stage,
};

/// Works until everything is done, the session fails, or the task is aborted.
pub(super) async fn run(parts: Parts, opening: Arc<Opening>, conversation: Arc<Conversation>) {
    let _guard = EndOnDrop(Arc::clone(&conversation));
    let pipeline = parts.pipeline.of(&opening.caller);
    let pipeline = if opening.is_realtime {
        pipeline.live()
    } else {
        pipeline
    };
    let mut producer = Producer {
        answers: parts.limits.answers,
        admission: parts.admission,
        pipeline,
        opening,
        conversation,
        segment: None,
        has_warned: false,
    };
    let end = producer.work().await.err();
    producer.conversation.end(end);
}

struct Producer {
    answers: AnswerLimit,
    /// Where frames are counted.
    admission: Arc<Admission>,
    /// As urgent as the session.
    pipeline: Pipeline,
    opening: Arc<Opening>,
    conversation: Arc<Conversation>,
    /// The one that audio comes for.
    segment: Option<Segment>,
    /// Audio that is odd is news once a session.
    has_warned: bool,
}

impl Producer {
    async fn work(&mut self) -> Result<(), ServeError> {
        loop {
            match self.conversation.next_task().await {
                Next::Listen(work) => self.listen(work).await?,
                Next::Make(batch) => self.make(batch).await?,
                // It is waited for in there.
                Next::Wait(_) => {}
                Next::Exhausted => return Ok(()),
            }
        }
    }

    /// Makes the slots that a piece of audio completes. It is a second at most, so that the windows
    /// of a long segment never lie in memory all at once.
    async fn listen(&mut self, work: Work) -> Result<(), ServeError> {
        match work {
            Work::Audio {
                segment_id,
                data,
                came,
            } => {
                let segment = match self.segment.take().filter(|s| s.id() == segment_id) {
                    Some(segment) => segment,
                    None => Segment::begin(segment_id, &self.opening),
                };
                let (segment, slots) = self.heard(segment, data).await?;
                if let Some(warning) = segment.warning().filter(|_| !self.has_warned) {
                    self.has_warned = true;
                    self.conversation.warn(warning);
                }
                self.segment = Some(segment);
                self.conversation.plan(slots, came);
            }
            Work::End { segment_id, came } => {
                let Some(segment) = self.segment.take().filter(|s| s.id() == segment_id) else {
                    return Ok(());
                };
                let slots = if segment.is_empty() {
                    vec![segment.end()]
                } else {
                    let cpu = &self.pipeline.cpu;
                    cpu.run(move || segment.finish()).await?
                };
                self.conversation.plan(slots, came);
            }
        }
        Ok(())
    }

    async fn heard(
        &self,
        mut segment: Segment,
        data: Bytes,
    ) -> Result<(Segment, Vec<Planned>), ServeError> {
        if data.is_empty() {
            return Ok((segment, Vec::new()));
        }
        let pipeline = &self.pipeline;
        let began = Instant::now();
        let heard = pipeline.cpu.run(move || {
            let slots = segment.push(&data)?;
            Ok((segment, slots))
        });
        let (segment, slots) = heard.await?;
        pipeline
            .book
            .stages
            .add(Stage::Audio, slots.len(), began.elapsed());
        Ok((segment, slots))
    }

    /// Makes frames, unless they are interrupted: then the job is cancelled.
    async fn make(&self, batch: Batch) -> Result<(), ServeError> {
        let began = Instant::now();
        let frames = tokio::select! {
            biased;
            () = self.conversation.interrupted(&batch) => return Ok(()),
            frames = self.frames(&batch) => frames?,
        };
        for frame in &frames {
            self.answers.check_frame(frame)?;
        }
        self.conversation.commit(batch, frames, began);
        Ok(())
    }

    async fn frames(&self, batch: &Batch) -> Result<Vec<CodedFrame>, ServeError> {
        let pipeline = &self.pipeline;
        let Opening {
            model,
            output,
            caller,
            ..
        } = &*self.opening;
        let n_frames = batch.shots.len();
        if !batch.needs_network() {
            return self.at_rest(batch).await;
        }
        let is_paced = self.opening.is_realtime;
        self.admission.spend(caller, n_frames, is_paced).await;
        let backgrounds = pipeline.backgrounds(model, batch.place, n_frames).await?;
        let windows = batch.shots.iter().filter_map(|shot| shot.window.as_deref());
        let audio: Arc<[f32]> = windows.flatten().copied().collect();
        let urgency = self.urgency(batch);
        let made = pipeline
            .infer(model, &backgrounds, audio, urgency.clone())
            .await?;
        let mut faces = made.faces;
        let is_faded = batch.shots.iter().any(Shot::is_faded);
        let resting = match model.rest_faces().filter(|_| is_faded) {
            Some(rest) => rest::faces((rest, model), &backgrounds, pipeline, Some(urgency)).await?,
            None => None,
        };
        let shots = batch.shots.iter().zip(backgrounds.crops());
        for (n, ((shot, crop), face)) in shots.zip(&mut faces).enumerate() {
            match resting.as_ref().and_then(|faces| faces.get(n)) {
                _ if !shot.is_faded() => {}
                Some(rest) => blend_faces(face, rest, shot.weight),
                None => blend(face, crop, shot.weight),
            }
        }
        let frames = pipeline.composite(&backgrounds, faces, *output).await?;
        Ok(frames)
    }

    /// Frames in which nobody speaks: the backgrounds, or the faces that the generator makes of silence. Where there is
    /// no time for the network, of those only what is kept.
    async fn at_rest(&self, batch: &Batch) -> Result<Vec<CodedFrame>, ServeError> {
        let pipeline = &self.pipeline;
        let Opening {
            model,
            output,
            caller,
            ..
        } = &*self.opening;
        let n_frames = batch.shots.len();
        if let Some(rest) = model.rest_faces() {
            let is_late = batch.shots.iter().any(|shot| shot.kind == Kind::Skipped);
            let urgency = (!is_late).then(|| self.urgency(batch));
            let backgrounds = pipeline.backgrounds(model, batch.place, n_frames).await?;
            if !is_late && rest::lacks(rest, &backgrounds) {
                let is_paced = self.opening.is_realtime;
                self.admission.spend(caller, n_frames, is_paced).await;
            }
            let of = (rest, model);
            if let Some(faces) = rest::faces(of, &backgrounds, pipeline, urgency).await? {
                return pipeline.composite(&backgrounds, faces, *output).await;
            }
        }
        pipeline
            .idle_frames(model, batch.place, n_frames, *output)
            .await
    }

    fn urgency(&self, batch: &Batch) -> Urgency {
        let mut urgency = self.opening.urgency.clone();
        urgency.claim.due = batch.due;
        urgency
    }
}
