//! The producer of a session: the audio of one segment after the other becomes frames.

use std::sync::Arc;

use bytes::Bytes;
use lipsync::v1::{self, stream_composite_response::Message};
use lipsync_audio::{
    FeatureStream, WindowStream, decode_pcm,
    features::decode_features,
    windows::{STEP_FLOATS, frames_of_steps},
};
use lipsync_core::pts_us;

use super::{
    EndOnDrop,
    conversation::{Conversation, Next},
    inbox::Work,
    open::{AudioForm, Opening},
};
use crate::{
    clip::{StepsNeeded, encode, window_floats},
    core_state::Shared,
    error::{RETRY_AFTER, ServeError},
};

/// Frames of the first batch of a segment: few, so that something is seen soon.
const FIRST_BATCH_FRAMES: usize = 2;
/// Frames of the batches after it.
const BATCH_FRAMES: usize = 8;

/// Works until everything is done, the session fails, or the task is aborted.
pub(super) async fn run(shared: Arc<Shared>, opening: Opening, conversation: Arc<Conversation>) {
    let _guard = EndOnDrop(Arc::clone(&conversation));
    let producer = Producer {
        shared,
        opening: Arc::new(opening),
        conversation,
    };
    let mut segment: Option<Segment> = None;
    loop {
        let result = match producer.conversation.next_work().await {
            Next::Exhausted => {
                producer.conversation.end(None);
                return;
            }
            Next::Work(Work::Audio { segment_id, data }) => {
                let current = match segment.take().filter(|s| s.id == segment_id) {
                    Some(current) => Ok(current),
                    None => Segment::begin(segment_id, &producer.opening),
                };
                match current {
                    Ok(current) => producer
                        .feed(current, data)
                        .await
                        .map(|s| segment = Some(s)),
                    Err(error) => Err(error),
                }
            }
            Next::Work(Work::End { segment_id }) => {
                match segment.take().filter(|s| s.id == segment_id) {
                    Some(current) => producer.finish(current).await,
                    None => Ok(()),
                }
            }
        };
        if let Err(error) = result {
            producer.conversation.end(Some(error));
            return;
        }
    }
}

struct Producer {
    shared: Arc<Shared>,
    opening: Arc<Opening>,
    conversation: Arc<Conversation>,
}

/// A segment being worked on.
struct Segment {
    id: u64,
    features: Features,
    n_made: u64,
}

/// How windows come about.
enum Features {
    Pcm(Box<FeatureStream>),
    Steps(WindowStream),
    Windows,
}

impl Segment {
    fn begin(id: u64, opening: &Opening) -> Result<Self, ServeError> {
        let features = match opening.form {
            AudioForm::Pcm(format) => {
                Features::Pcm(Box::new(FeatureStream::new(format.rate_hz, 0)?))
            }
            AudioForm::Steps => Features::Steps(WindowStream::new(0)),
            AudioForm::Windows => Features::Windows,
        };
        Ok(Self {
            id,
            features,
            n_made: 0,
        })
    }

    /// Takes audio and gives the windows that it completes. Blocking.
    fn push(&mut self, opening: &Opening, data: &Bytes) -> Result<Vec<f32>, ServeError> {
        let model = &opening.model;
        let mut windows = Vec::new();
        match &mut self.features {
            Features::Pcm(stream) => {
                let AudioForm::Pcm(format) = opening.form else {
                    return Err(ServeError::internal(
                        "a stream of samples without their format",
                    ));
                };
                let mono = decode_pcm(data, format.encoding, format.n_channels)
                    .map_err(|e| ServeError::invalid("audio.pcm", e.to_string()))?;
                let encoder = StepsNeeded::with_encoder(model, "audio.pcm")?;
                stream.push(&mono, |patches| encode(encoder, patches), &mut windows)?;
            }
            Features::Steps(stream) => {
                let steps = decode_features(data, STEP_FLOATS, "steps")
                    .map_err(|e| ServeError::invalid("audio.steps", e.to_string()))?;
                stream.push(&steps, &mut windows)?;
            }
            Features::Windows => {
                windows = decode_features(data, window_floats(model), "windows")
                    .map_err(|e| ServeError::invalid("audio.windows", e.to_string()))?;
            }
        }
        Ok(windows)
    }

    /// Ends the audio and gives the last windows. Blocking.
    fn finish(&mut self, opening: &Opening) -> Result<Vec<f32>, ServeError> {
        let mut windows = Vec::new();
        match std::mem::replace(&mut self.features, Features::Windows) {
            Features::Pcm(stream) => {
                let encoder = StepsNeeded::with_encoder(&opening.model, "audio.pcm")?;
                stream.finish(|patches| encode(encoder, patches), &mut windows)?;
            }
            Features::Steps(stream) => {
                let n_frames = frames_of_steps(stream.n_steps());
                stream.finish(n_frames, &mut windows);
            }
            Features::Windows => {}
        }
        Ok(windows)
    }
}

impl Producer {
    /// Makes the frames that a piece of audio completes. It is a second at most, so that the windows
    /// of a long segment never lie in memory all at once.
    async fn feed(&self, mut segment: Segment, data: Bytes) -> Result<Segment, ServeError> {
        if data.is_empty() || self.conversation.is_interrupted(segment.id) {
            return Ok(segment);
        }
        let opening = Arc::clone(&self.opening);
        let pushed = self.shared.pipeline.cpu.run(move || {
            let windows = segment.push(&opening, &data)?;
            Ok((segment, windows))
        });
        let (mut segment, windows) = pushed.await?;
        self.make_frames(&mut segment, &windows).await?;
        Ok(segment)
    }

    async fn finish(&self, mut segment: Segment) -> Result<(), ServeError> {
        let opening = Arc::clone(&self.opening);
        let (mut segment, windows) = self
            .shared
            .pipeline
            .cpu
            .run(move || {
                let windows = segment.finish(&opening)?;
                Ok((segment, windows))
            })
            .await?;
        self.make_frames(&mut segment, &windows).await?;
        // Segments without audio make no frames, but notices.
        if self.conversation.room_for(segment.id).await.is_none() {
            return Ok(());
        }
        let end = v1::SegmentEnd {
            segment_id: segment.id,
            n_frames: segment.n_made,
        };
        self.conversation
            .push_unless_cleared(segment.id, Message::SegmentEnd(end));
        Ok(())
    }

    /// Makes the frames of some windows, unless the segment is cleared meanwhile.
    async fn make_frames(&self, segment: &mut Segment, windows: &[f32]) -> Result<(), ServeError> {
        let n_floats = window_floats(&self.opening.model);
        let mut rest = windows;
        while !rest.is_empty() {
            let n_frames = if segment.n_made == 0 {
                FIRST_BATCH_FRAMES
            } else {
                BATCH_FRAMES
            };
            let n_frames = n_frames
                .min(self.shared.limits.max_batch_frames)
                .min(rest.len() / n_floats);
            let (batch, later) = rest.split_at(n_frames * n_floats);
            rest = later;
            let Some(place) = self.conversation.room_for(segment.id).await else {
                return Ok(());
            };
            let made = tokio::select! {
                biased;
                () = self.conversation.interrupted(segment.id) => return Ok(()),
                made = self.make_batch(place, batch) => made?,
            };
            let fps = self.opening.model.fps();
            for mut frame in made {
                frame.segment_id = segment.id;
                frame.audio_time_us = Some(pts_us(segment.n_made, fps));
                self.shared.limits.check_answer(&frame)?;
                segment.n_made += 1;
                self.conversation
                    .push_unless_cleared(segment.id, Message::Frame(frame));
            }
        }
        Ok(())
    }

    async fn make_batch(
        &self,
        place: u64,
        windows: &[f32],
    ) -> Result<Vec<v1::CompositedFrame>, ServeError> {
        let pipeline = &self.shared.pipeline;
        let model = &self.opening.model;
        let n_frames = windows.len() / window_floats(model);
        let backgrounds = pipeline.backgrounds(model, place, n_frames).await?;
        let audio: Arc<[f32]> = windows.into();
        let output = loop {
            let job = pipeline.infer(
                model,
                &backgrounds,
                Arc::clone(&audio),
                self.opening.urgency,
            );
            match job.await {
                // A session was let in: it waits its turn. Its audio is bounded by its inbox.
                Err(ServeError::Overloaded { .. }) => tokio::time::sleep(RETRY_AFTER / 10).await,
                other => break other?,
            }
        };
        pipeline
            .composite(&backgrounds, output.faces, self.opening.output)
            .await
    }
}
