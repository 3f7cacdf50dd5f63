//! What makes windows of sound for a model: the form of its speech, and its audio encoder. Blocking, where it runs that.

use std::cell::RefCell;

use lipsync_audio::{AudioError, FeatureStream, SpeechForm};
use lipsync_core::{
    Fps,
    family::{NoSteps, WindowSource},
};
use lipsync_engine::{AudioEncoder, Workspace};
use lipsync_registry::Model;

use crate::error::ServeError;

/// What a model must have so that the server can make windows for it.
#[derive(Debug)]
pub(crate) struct StepsNeeded;

impl StepsNeeded {
    /// The server knows how windows are made of this model's feature steps.
    ///
    /// # Errors
    /// [`ServeError::Invalid`] naming `field`, [`ServeError::BrokenModel`].
    pub(crate) fn given(model: &Model, field: &str) -> Result<SpeechForm, ServeError> {
        let (audio, fps) = (model.audio_form(), model.fps());
        match audio.steps_at(fps) {
            Ok(step) => Ok(SpeechForm::new(step, model.audio_shape())),
            Err(NoSteps::WholeWindows) => Err(ServeError::invalid(
                field,
                format!("a model of audio kind {} takes whole windows", audio.kind),
            )),
            Err(NoSteps::Sound) => Err(ServeError::invalid(
                field,
                format!(
                    "a model of audio kind {} takes sound or whole windows, no feature steps",
                    audio.kind
                ),
            )),
            Err(NoSteps::OtherFps(steps)) => Err(other_fps("feature steps", steps, fps)),
        }
    }
}

fn other_fps(what: &str, made: Fps, fps: Fps) -> ServeError {
    let reason = format!("its {what} are made {made} times a second, its fps is {fps}");
    ServeError::BrokenModel { reason }
}

/// What makes windows of sound for a model.
#[derive(Clone, Copy)]
pub(crate) enum Ear<'a> {
    /// The model's audio encoder.
    Encoder(SpeechForm, &'a dyn AudioEncoder),
    /// Nothing but the spectrogram.
    Mel,
}

impl<'a> Ear<'a> {
    /// That of a model.
    ///
    /// # Errors
    /// As [`StepsNeeded::given`]; [`ServeError::Invalid`] also where a model has no audio encoder and needs one.
    pub(crate) fn of(model: &'a Model, field: &str) -> Result<Self, ServeError> {
        let (audio, fps) = (model.audio_form(), model.fps());
        if audio.source == WindowSource::Mel {
            return if audio.is_mel_at(fps) {
                Ok(Self::Mel)
            } else {
                Err(other_fps("windows", audio.fps, fps))
            };
        }
        let form = StepsNeeded::given(model, field)?;
        let encoder = model.audio_encoder().ok_or_else(|| {
            let text = "this model has no audio encoder: send feature steps or windows";
            ServeError::invalid(field, text)
        })?;
        Ok(Self::Encoder(form, &**encoder))
    }

    /// The form of its speech. Mel rows are cut as those of AVE are.
    pub(crate) fn form(self) -> SpeechForm {
        match self {
            Self::Encoder(form, _) => form,
            Self::Mel => SpeechForm::AVE,
        }
    }

    /// An empty utterance.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub(crate) fn stream(
        self,
        rate_hz: u32,
        first_frame: u64,
    ) -> Result<FeatureStream, AudioError> {
        match self {
            Self::Encoder(form, _) => FeatureStream::new(form, rate_hz, first_frame),
            Self::Mel => FeatureStream::of_mel(rate_hz, first_frame),
        }
    }

    /// The steps of some patches, for a stream that asks for them.
    ///
    /// # Errors
    /// [`ServeError::Internal`]: patches are well-formed by construction.
    pub(crate) fn encode(self, patches: &[f32]) -> Result<Vec<f32>, ServeError> {
        match self {
            Self::Encoder(_, encoder) => encode(encoder, patches),
            Self::Mel => Ok(Vec::new()),
        }
    }
}

thread_local! {
    /// The memory for encoder runs, kept by each thread of the cpu pool.
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::new());
}

/// What a thread keeps of that, bytes. An AVE encoder needs a tenth; no model may make every thread keep
/// gigabytes.
const MAX_KEPT_BYTES: u64 = 32 << 20;

/// Runs the encoder on this thread, which waits where the encoder is on a GPU.
///
/// # Errors
/// [`ServeError::Internal`]: patches are well-formed by construction. What a GPU reports.
fn encode(encoder: &dyn AudioEncoder, patches: &[f32]) -> Result<Vec<f32>, ServeError> {
    WORKSPACE.with_borrow_mut(|workspace| {
        let steps = encoder.encode(workspace, patches);
        if workspace.resident_bytes() > MAX_KEPT_BYTES {
            workspace.release_host();
        }
        Ok(steps?)
    })
}
