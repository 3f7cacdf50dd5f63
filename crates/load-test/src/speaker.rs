//! One user's requests.

use std::sync::Arc;

use bytes::Bytes;
use lipsync::{
    client::Client,
    session::{AudioFormat, SessionBuilder},
    v1::{
        FeatureSteps, FeatureWindows, InferBatchCompositeRequest, OutputOptions, Pcm, Priority,
        infer_batch_composite_request,
    },
};

use crate::{args::Input, check::Expected, model::Model, track::Track};

/// Makes one user's requests. The same position on the timeline always gives the same request.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// The model that the user talks through.
    pub model: Arc<Model>,
    /// The user's audio.
    pub track: Arc<Track>,
    /// The form in which it is sent.
    pub input: Input,
    /// Where in the track the user's timeline starts, in frames; different for each user.
    pub offset_frames: u64,
    /// Frames of audio around the requested ones.
    pub context_frames: u32,
    /// The output options.
    pub output: OutputOptions,
    /// How urgent the requests say they are.
    pub priority: Priority,
}

impl Speaker {
    /// The unary request for frames `first..first + n`.
    #[must_use]
    pub fn request(&self, first: u64, n: u32) -> InferBatchCompositeRequest {
        use infer_batch_composite_request::Audio;
        let context = match self.input {
            Input::Windows => 0,
            Input::Pcm | Input::Steps => self.context_frames,
        };
        // The track has no beginning, so there is always audio before the first frame.
        let data = self.track.cut(
            self.offset_frames + first,
            u64::from(n) + 2 * u64::from(context),
            self.model.fps,
        );
        let audio = match self.input {
            Input::Windows => Audio::Windows(FeatureWindows { data }),
            Input::Steps => Audio::Steps(FeatureSteps {
                data,
                first_frame: context,
                end_of_utterance: None,
            }),
            Input::Pcm => Audio::Pcm(Pcm {
                samples: data,
                sample_rate_hz: self.track.rate_hz(),
                first_frame: context,
                ..Pcm::default()
            }),
        };
        InferBatchCompositeRequest {
            model_id: self.model.id.clone(),
            audio: Some(audio),
            frame_count: n,
            start_frame_index: first,
            output: Some(self.output),
            priority: self.priority.into(),
            allow_partial: false,
        }
    }

    /// A session for the user's audio.
    pub fn session(&self, client: &Client) -> SessionBuilder {
        let format = match self.input {
            Input::Pcm => AudioFormat::mono_s16(self.track.rate_hz()),
            Input::Steps => AudioFormat::Steps {
                n_floats: self.track.bytes_per_unit() / 4,
            },
            Input::Windows => AudioFormat::Windows {
                n_floats: self.track.bytes_per_unit() / 4,
            },
        };
        client
            .session(&self.model.id)
            .audio(format)
            .output(self.output)
            .priority(self.priority)
    }

    /// The audio of frames `first..first + n` in a session.
    #[must_use]
    pub fn audio(&self, first: u64, n: u64) -> Bytes {
        let first = self.offset_frames + first;
        self.track.cut(first, n, self.model.fps)
    }

    /// The expected answers.
    #[must_use]
    pub fn expected(&self) -> Expected {
        // The face rectangle's size is the server's own affair.
        let size = (!self.output.region_only && self.model.width > 0)
            .then_some((self.model.width, self.model.height));
        Expected {
            format: self.output.format(),
            size,
        }
    }
}
