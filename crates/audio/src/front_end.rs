//! The whole front-end: speech at any rate to the windows of video frames.
//!
//! Two halves, with the encoder network between them: [`PatchStream`] turns samples into the
//! network's inputs, [`WindowStream`] its answers into windows. A caller that runs the network
//! elsewhere (in a batch with others, on another thread) uses the halves; [`FeatureStream`] joins
//! them around a closure. Whole clips are streams that get one push.

#[cfg(test)]
mod tests;

use lipsync_core::{family::PatchForm, frames_in};

use crate::{
    AudioError, PatchWindows, SpeechForm, WindowStream,
    chunks::ChunkCutter,
    cuts::frame_sample,
    fbank::FbankStream,
    mel::MelStream,
    resample::{Resampler, resampled_len},
    steps::{MIN_SAMPLES, StepCutter},
    wave::{self, WaveCutter},
};

/// Speech in, the encoder network's inputs out.
#[derive(Debug)]
pub struct PatchStream {
    form: SpeechForm,
    rate_hz: u32,
    resampler: Resampler,
    rows: Rows,
}

/// From samples at 16 kHz to patches.
#[derive(Debug)]
enum Rows {
    Mel(MelStream, StepCutter),
    Fbank(FbankStream, ChunkCutter),
    Wave(WaveCutter),
}

impl Rows {
    fn new(patch: PatchForm) -> Self {
        match patch {
            PatchForm::Mel { .. } => Self::Mel(MelStream::new(), StepCutter::new()),
            PatchForm::Fbank { .. } => Self::Fbank(FbankStream::new(), ChunkCutter::new()),
            PatchForm::Wave { .. } => Self::Wave(WaveCutter::new()),
        }
    }

    fn push(&mut self, samples: &[f32], patches: &mut Vec<f32>) {
        let mut rows = Vec::new();
        match self {
            Self::Mel(mel, cutter) => {
                mel.push(samples, &mut rows);
                cutter.push(&rows, patches);
            }
            Self::Fbank(fbank, cutter) => {
                fbank.push(samples, &mut rows);
                cutter.push(&rows, patches);
            }
            Self::Wave(cutter) => cutter.push(samples, patches),
        }
    }

    fn finish(self, patches: &mut Vec<f32>) {
        let mut rows = Vec::new();
        match self {
            Self::Mel(mel, mut cutter) => {
                mel.finish(&mut rows);
                cutter.push(&rows, patches);
                cutter.finish(patches);
            }
            Self::Fbank(fbank, mut cutter) => {
                fbank.finish(&mut rows);
                cutter.push(&rows, patches);
                cutter.finish(patches);
            }
            Self::Wave(cutter) => cutter.finish(patches),
        }
    }
}

impl PatchStream {
    /// An empty utterance at `rate_hz`.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub fn new(form: SpeechForm, rate_hz: u32) -> Result<Self, AudioError> {
        Ok(Self {
            form,
            rate_hz,
            resampler: Resampler::new(rate_hz)?,
            rows: Rows::new(form.step.patch),
        })
    }

    /// Takes mono samples and appends the patches that they complete: `[n, 80, 16]` f32, mel-major, of an AVE model,
    /// `[n, 67, 80]` of a wenet model, `[n, 32080]` of a HuBERT model.
    ///
    /// The samples are finite, as [`decode_pcm`](crate::decode_pcm) makes them.
    pub fn push(&mut self, samples: &[f32], patches: &mut Vec<f32>) {
        let mut resampled = Vec::new();
        self.resampler.push(samples, &mut resampled);
        self.rows.push(&resampled, patches);
    }

    /// Ends the utterance, appends its last patches and returns what its audio covers.
    ///
    /// An utterance too short for one step of AVE is padded with silent samples at 16 kHz; an empty one
    /// has no patches and no frames.
    pub fn finish(self, patches: &mut Vec<f32>) -> Covered {
        let Self {
            form,
            rate_hz,
            resampler,
            mut rows,
        } = self;
        let n_samples = resampler.n_in();
        if n_samples == 0 {
            return Covered::default();
        }
        let mut tail = Vec::new();
        resampler.finish(&mut tail);
        let least = match form.step.patch {
            PatchForm::Mel { .. } => MIN_SAMPLES,
            PatchForm::Fbank { .. } | PatchForm::Wave { .. } => 0,
        };
        let n_silent = least.saturating_sub(resampled_len(n_samples, rate_hz));
        // At most MIN_SAMPLES.
        tail.resize(tail.len() + usize::try_from(n_silent).unwrap_or(0), 0.0);
        rows.push(&tail, patches);
        rows.finish(patches);
        Covered {
            n_frames: frames_in(n_samples, rate_hz, form.fps().get()),
            n_steps: match form.step.patch {
                PatchForm::Mel { .. } | PatchForm::Fbank { .. } => None,
                PatchForm::Wave { .. } => Some(wave::n_steps(resampled_len(n_samples, rate_hz))),
            },
        }
    }

    /// Samples consumed so far.
    #[must_use]
    pub fn n_samples(&self) -> u64 {
        self.resampler.n_in()
    }
}

/// What an utterance's audio covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Covered {
    /// Frames.
    pub n_frames: u64,
    /// Steps, where its patches make more than those; the others are to be dropped.
    pub n_steps: Option<u64>,
}

/// Speech in, windows out, with the encoder network as a closure.
///
/// The closure gets whole patches, at least one, and answers the steps of each. Its error type
/// takes ours in. After any error the front-end is out of step: drop it. Where windows are the patches
/// themselves ([`of_mel`](Self::of_mel)), it is never called.
#[derive(Debug)]
pub struct FeatureStream {
    patches: PatchStream,
    windows: Windows,
}

/// What windows are made of.
#[derive(Debug)]
enum Windows {
    /// The encoder's steps.
    Steps(WindowStream),
    /// What the encoder would read.
    Patches(PatchWindows),
}

impl FeatureStream {
    /// An empty utterance at `rate_hz`, to make windows from `first_frame` on.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub fn new(form: SpeechForm, rate_hz: u32, first_frame: u64) -> Result<Self, AudioError> {
        Ok(Self {
            patches: PatchStream::new(form, rate_hz)?,
            windows: Windows::Steps(WindowStream::new(form, first_frame)),
        })
    }

    /// As [`new`](Self::new), for networks whose windows are mel rows.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub fn of_mel(rate_hz: u32, first_frame: u64) -> Result<Self, AudioError> {
        Ok(Self {
            patches: PatchStream::new(SpeechForm::AVE, rate_hz)?,
            windows: Windows::Patches(PatchWindows::new(first_frame)),
        })
    }

    /// Takes finite mono samples and appends the windows that they complete,
    /// [`SpeechForm::window_floats`] or, of mel rows, [`PATCH_FLOATS`](crate::steps::PATCH_FLOATS) each.
    ///
    /// These are final: later audio and the end of the utterance do not change them. A call with
    /// `end_of_utterance = false` pushes and does not finish.
    ///
    /// # Errors
    /// Errors of `encode`; [`AudioError::EncoderOutput`] when it does not answer each patch with
    /// one step.
    pub fn push<E: From<AudioError>>(
        &mut self,
        samples: &[f32],
        encode: impl FnMut(&[f32]) -> Result<Vec<f32>, E>,
        windows: &mut Vec<f32>,
    ) -> Result<(), E> {
        let mut patches = Vec::new();
        self.patches.push(samples, &mut patches);
        let form = self.patches.form;
        match &mut self.windows {
            Windows::Steps(stream) => Ok(stream.push(&encoded(form, &patches, encode)?, windows)?),
            Windows::Patches(stream) => {
                stream.push(&patches, windows);
                Ok(())
            }
        }
    }

    /// Ends the utterance and appends its last windows, up to `ceil(n_samples x fps / rate)` frames
    /// in all.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish<E: From<AudioError>>(
        self,
        encode: impl FnMut(&[f32]) -> Result<Vec<f32>, E>,
        windows: &mut Vec<f32>,
    ) -> Result<(), E> {
        let mut patches = Vec::new();
        let form = self.patches.form;
        let Covered { n_frames, n_steps } = self.patches.finish(&mut patches);
        match self.windows {
            Windows::Steps(mut stream) => {
                let mut steps = encoded(form, &patches, encode)?;
                if let Some(n_steps) = n_steps {
                    let n_left = n_steps.saturating_sub(stream.n_steps());
                    // They lie in memory, or there are more than that.
                    let n_left = usize::try_from(n_left).unwrap_or(usize::MAX);
                    steps.truncate(n_left.saturating_mul(form.step_floats()));
                }
                stream.push(&steps, windows)?;
                stream.finish(n_frames, windows);
            }
            Windows::Patches(stream) => stream.finish(&patches, n_frames, windows),
        }
        Ok(())
    }

    /// The next frame to come out.
    #[must_use]
    pub fn next_frame(&self) -> u64 {
        match &self.windows {
            Windows::Steps(stream) => stream.next_frame(),
            Windows::Patches(stream) => stream.next_frame(),
        }
    }

    /// Seconds of consumed audio whose frames have not come out yet.
    #[must_use]
    pub fn buffered_seconds(&self) -> f64 {
        let PatchStream { form, rate_hz, .. } = self.patches;
        let n_out = frame_sample(self.next_frame(), (rate_hz, form.fps()));
        let n_buffered = self.patches.n_samples().saturating_sub(n_out);
        n_buffered as f64 / f64::from(rate_hz)
    }
}

/// The steps of some patches.
fn encoded<E: From<AudioError>>(
    form: SpeechForm,
    patches: &[f32],
    mut encode: impl FnMut(&[f32]) -> Result<Vec<f32>, E>,
) -> Result<Vec<f32>, E> {
    if patches.is_empty() {
        return Ok(Vec::new());
    }
    let steps = encode(patches)?;
    let n_steps = patches.len() / form.patch_floats() * form.step.patch.n_steps();
    let expected = n_steps * form.step_floats();
    if steps.len() != expected {
        let actual = steps.len();
        return Err(AudioError::EncoderOutput { expected, actual }.into());
    }
    Ok(steps)
}
