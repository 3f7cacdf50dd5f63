//! The whole front-end: speech at any rate to the windows of video frames.
//!
//! Two halves, with the encoder network between them: [`PatchStream`] turns samples into the
//! network's inputs, [`WindowStream`] its answers into windows. A caller that runs the network
//! elsewhere (in a batch with others, on another thread) uses the halves; [`FeatureStream`] joins
//! them around a closure. Whole clips are streams that get one push.

#[cfg(test)]
mod tests;

use lipsync_core::frames_in;

use crate::{
    AudioError, FPS, PatchWindows, WindowStream,
    cuts::frame_sample,
    mel::MelStream,
    resample::{Resampler, resampled_len},
    steps::{MIN_SAMPLES, PATCH_FLOATS, StepCutter},
    windows::STEP_FLOATS,
};

/// Speech in, the encoder network's inputs out.
#[derive(Debug)]
pub struct PatchStream {
    rate_hz: u32,
    resampler: Resampler,
    mel: MelStream,
    cutter: StepCutter,
}

impl PatchStream {
    /// An empty utterance at `rate_hz`.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub fn new(rate_hz: u32) -> Result<Self, AudioError> {
        Ok(Self {
            rate_hz,
            resampler: Resampler::new(rate_hz)?,
            mel: MelStream::new(),
            cutter: StepCutter::new(),
        })
    }

    /// Takes mono samples and appends the patches that they complete: `[n, 80, 16]` f32, mel-major.
    ///
    /// The samples are finite, as [`decode_pcm`](crate::decode_pcm) makes them.
    pub fn push(&mut self, samples: &[f32], patches: &mut Vec<f32>) {
        let mut resampled = Vec::new();
        self.resampler.push(samples, &mut resampled);
        let mut rows = Vec::new();
        self.mel.push(&resampled, &mut rows);
        self.cutter.push(&rows, patches);
    }

    /// Ends the utterance, appends its last patches and returns the frames that its audio covers.
    ///
    /// An utterance too short for one step is padded with silent samples at 16 kHz; an empty one
    /// has no patches and no frames.
    pub fn finish(self, patches: &mut Vec<f32>) -> u64 {
        let Self {
            rate_hz,
            resampler,
            mut mel,
            mut cutter,
        } = self;
        let n_samples = resampler.n_in();
        if n_samples == 0 {
            return 0;
        }
        let mut tail = Vec::new();
        resampler.finish(&mut tail);
        let n_silent = MIN_SAMPLES.saturating_sub(resampled_len(n_samples, rate_hz));
        // At most MIN_SAMPLES.
        tail.resize(tail.len() + usize::try_from(n_silent).unwrap_or(0), 0.0);
        let mut rows = Vec::new();
        mel.push(&tail, &mut rows);
        mel.finish(&mut rows);
        cutter.push(&rows, patches);
        cutter.finish(patches);
        frames_in(n_samples, rate_hz, FPS)
    }

    /// Samples consumed so far.
    #[must_use]
    pub fn n_samples(&self) -> u64 {
        self.resampler.n_in()
    }
}

/// Speech in, windows out, with the encoder network as a closure.
///
/// The closure gets `[n, 80, 16]` patches, `n >= 1`, and answers `[n, 512]` steps. Its error type
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
    pub fn new(rate_hz: u32, first_frame: u64) -> Result<Self, AudioError> {
        Ok(Self {
            patches: PatchStream::new(rate_hz)?,
            windows: Windows::Steps(WindowStream::new(first_frame)),
        })
    }

    /// As [`new`](Self::new), for networks whose windows are mel rows.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub fn of_mel(rate_hz: u32, first_frame: u64) -> Result<Self, AudioError> {
        Ok(Self {
            patches: PatchStream::new(rate_hz)?,
            windows: Windows::Patches(PatchWindows::new(first_frame)),
        })
    }

    /// Takes finite mono samples and appends the windows that they complete,
    /// [`WINDOW_FLOATS`](crate::windows::WINDOW_FLOATS) or [`PATCH_FLOATS`] each.
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
        match &mut self.windows {
            Windows::Steps(stream) => Ok(stream.push(&encoded(&patches, encode)?, windows)?),
            Windows::Patches(stream) => {
                stream.push(&patches, windows);
                Ok(())
            }
        }
    }

    /// Ends the utterance and appends its last windows, up to `ceil(n_samples x 25 / rate)` frames
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
        let n_frames = self.patches.finish(&mut patches);
        match self.windows {
            Windows::Steps(mut stream) => {
                stream.push(&encoded(&patches, encode)?, windows)?;
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
        let n_out = frame_sample(self.next_frame(), self.patches.rate_hz);
        let n_buffered = self.patches.n_samples().saturating_sub(n_out);
        n_buffered as f64 / f64::from(self.patches.rate_hz)
    }
}

/// The steps of some patches.
fn encoded<E: From<AudioError>>(
    patches: &[f32],
    mut encode: impl FnMut(&[f32]) -> Result<Vec<f32>, E>,
) -> Result<Vec<f32>, E> {
    if patches.is_empty() {
        return Ok(Vec::new());
    }
    let steps = encode(patches)?;
    let expected = patches.len() / PATCH_FLOATS * STEP_FLOATS;
    if steps.len() != expected {
        let actual = steps.len();
        return Err(AudioError::EncoderOutput { expected, actual }.into());
    }
    Ok(steps)
}
