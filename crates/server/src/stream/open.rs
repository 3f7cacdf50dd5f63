//! The first message of a session, checked.

use std::sync::Arc;

use lipsync::v1;
use lipsync_audio::{
    cuts::{STEP_CONTEXT_RIGHT, look_ahead_ms},
    windows::STEP_FLOATS,
};
use lipsync_compositor::Encoding;
use lipsync_registry::Model;

use crate::{
    clip::{StepsNeeded, window_floats},
    config::SessionLimits,
    core_state::Shared,
    error::ServeError,
    metadata::RequestHeaders,
    pipeline::Urgency,
    request::{
        OutputSpec, PcmFormat, parse_model_id, parse_pcm_format, parse_priority, parse_start,
        unknown_value,
    },
};

/// Bytes of audio that may wait in one session, whatever its form.
const MAX_BUFFERED_BYTES: usize = 32 << 20;

/// How a session's audio comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AudioForm {
    /// Samples.
    Pcm(PcmFormat),
    /// f32 LE feature steps.
    Steps,
    /// f32 LE windows.
    Windows,
}

/// A session that may begin.
#[derive(Debug)]
pub(super) struct Opening {
    /// Pinned for the session's life.
    pub(super) model: Arc<Model>,
    pub(super) form: AudioForm,
    pub(super) output: OutputSpec,
    pub(super) urgency: Urgency,
    pub(super) start_frame_index: u64,
}

impl Opening {
    /// Checks everything, then loads the model.
    pub(super) async fn from_proto(
        shared: &Arc<Shared>,
        headers: &RequestHeaders,
        open: v1::OpenSession,
    ) -> Result<Self, ServeError> {
        headers.check_model_id(&open.model_id)?;
        let model_id = parse_model_id(&open.model_id)?;
        refuse_later_features(&open)?;
        let form = AudioForm::from_proto(&open)?;
        let output = OutputSpec::from_proto(open.output, &shared.output)?;
        let priority = parse_priority(open.priority, headers)?;
        let start_frame_index = parse_start(open.start_frame_index)?;
        let model = shared.registry.model(&model_id).await?.model;
        match form {
            AudioForm::Pcm(_) => {
                StepsNeeded::with_encoder(&model, "open.audio_input")?;
            }
            AudioForm::Steps => StepsNeeded::given(&model, "open.audio_input")?,
            AudioForm::Windows => {}
        }
        // The size of a coded frame is known, and checked, when it is made.
        let is_raw = matches!(output.encoding, Encoding::Rgb | Encoding::I420);
        if is_raw && !output.region_only {
            let n_bytes = output.estimated_bytes(model.width(), model.height());
            shared.limits.check_answer_bytes(n_bytes)?;
        }
        let urgency = Urgency {
            priority,
            deadline: headers.deadline,
            max_wait: None,
        };
        Ok(Self {
            model,
            form,
            output,
            urgency,
            start_frame_index,
        })
    }

    /// What the client is told.
    pub(super) fn opened(&self, session: &SessionLimits) -> v1::Opened {
        let px = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let look_ahead_ms = match self.form {
            AudioForm::Pcm(format) => look_ahead_ms(format.rate_hz),
            // The step of the frame's own time and those after it.
            AudioForm::Steps => {
                (STEP_CONTEXT_RIGHT + 1) * 1000 / u64::from(self.model.fps().max(1))
            }
            AudioForm::Windows => 0,
        };
        v1::Opened {
            fps: self.model.fps(),
            width: px(self.model.width()),
            height: px(self.model.height()),
            audio_kind: self.model.audio_kind().to_string(),
            look_ahead_ms: u32::try_from(look_ahead_ms).unwrap_or(u32::MAX),
            max_buffered_audio_s: self.max_buffered_audio_s(session),
            max_unsent_ms: session.max_unsent_ms,
        }
    }

    /// `session.max_buffered_audio_s`, or less where that would be more bytes than one session may
    /// hold: whole windows take up to 13 MB a second.
    pub(super) fn max_buffered_audio_s(&self, session: &SessionLimits) -> u32 {
        let n_s = (MAX_BUFFERED_BYTES / self.bytes_per_s()).max(1);
        session
            .max_buffered_audio_s
            .min(u32::try_from(n_s).unwrap_or(u32::MAX))
    }

    /// Bytes of a second of audio in this form; whole items, at least one.
    pub(super) fn bytes_per_s(&self) -> usize {
        let items_per_s = match self.form {
            AudioForm::Pcm(format) => format.rate_hz,
            AudioForm::Steps | AudioForm::Windows => self.model.fps(),
        };
        let items_per_s = usize::try_from(items_per_s).unwrap_or(usize::MAX).max(1);
        self.item_bytes().saturating_mul(items_per_s)
    }

    /// Bytes of a sample of each channel, a step or a window.
    pub(super) fn item_bytes(&self) -> usize {
        match self.form {
            AudioForm::Pcm(format) => format.item_bytes(),
            AudioForm::Steps => STEP_FLOATS * size_of::<f32>(),
            AudioForm::Windows => window_floats(&self.model) * size_of::<f32>(),
        }
    }
}

impl AudioForm {
    fn from_proto(open: &v1::OpenSession) -> Result<Self, ServeError> {
        match v1::AudioInput::try_from(open.audio_input) {
            Ok(v1::AudioInput::Unspecified | v1::AudioInput::Pcm) => {
                parse_pcm_format("open.", open.sample_rate_hz, open.channels, open.encoding)
                    .map(Self::Pcm)
            }
            Ok(v1::AudioInput::Steps) => Ok(Self::Steps),
            Ok(v1::AudioInput::Windows) => Ok(Self::Windows),
            Err(_) => Err(unknown_value("open.audio_input", open.audio_input)),
        }
    }
}

fn refuse_later_features(open: &v1::OpenSession) -> Result<(), ServeError> {
    match v1::Pacing::try_from(open.pacing) {
        Ok(v1::Pacing::Unspecified | v1::Pacing::Asap) => {}
        Ok(v1::Pacing::Realtime) => {
            return Err(ServeError::Unimplemented {
                what: "open.pacing: PACING_REALTIME",
            });
        }
        Err(_) => return Err(unknown_value("open.pacing", open.pacing)),
    }
    if open.idle_frames {
        return Err(ServeError::Unimplemented {
            what: "open.idle_frames",
        });
    }
    if open.audio_echo {
        return Err(ServeError::Unimplemented {
            what: "open.audio_echo",
        });
    }
    Ok(())
}
