//! Helpers of several tests of this crate.

use lipsync_core::{Fps, family::StepForm};

use crate::{AudioError, FeatureStream, SpeechForm};

/// Frames a second of AVE models.
pub(crate) const FPS: u32 = AVE_FPS.get();
pub(crate) const AVE_FPS: Fps = SpeechForm::AVE.fps();
/// Floats of a step of AVE models.
pub(crate) const STEP_FLOATS: usize = SpeechForm::AVE.step_floats();
/// Floats of a window of AVE models.
pub(crate) const WINDOW_FLOATS: usize = SpeechForm::AVE.window_floats();

/// White noise, a pure function of the place.
pub(crate) fn noise(n_samples: usize) -> Vec<f32> {
    let sample = |i: usize| {
        let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 29)) >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..n_samples).map(sample).collect()
}

/// Models of the kind wenet, with windows of 16 and of 8 steps.
pub(crate) const WENET: [SpeechForm; 2] = [
    SpeechForm::new(StepForm::WENET, [256, 16, 32]),
    SpeechForm::new(StepForm::WENET, [128, 16, 32]),
];

/// Models of the kind HuBERT, likewise.
pub(crate) const HUBERT: [SpeechForm; 2] = [
    SpeechForm::new(StepForm::HUBERT, [32, 32, 32]),
    SpeechForm::new(StepForm::HUBERT, [16, 32, 32]),
];

/// [`fake_encoder`] of another form.
pub(crate) fn fake_encoder_of(
    form: SpeechForm,
) -> impl FnMut(&[f32]) -> Result<Vec<f32>, AudioError> {
    move |patches| {
        let steps = patches.chunks_exact(form.patch_floats());
        Ok(steps
            .flat_map(|patch| {
                let digest = patch.iter().fold(0u32, |sum, v| {
                    sum.wrapping_mul(31).wrapping_add(v.to_bits())
                });
                let digest = (digest >> 8) as f32;
                let n_floats = form.step.patch.n_steps() * form.step_floats();
                (0..n_floats).map(move |i| digest + i as f32)
            })
            .collect())
    }
}

/// A stand-in for the network: every value of a step depends on all of its patch and nothing else.
pub(crate) fn fake_encoder(patches: &[f32]) -> Result<Vec<f32>, AudioError> {
    fake_encoder_of(SpeechForm::AVE)(patches)
}

/// The windows of a whole utterance.
pub(crate) fn windows_of(samples: &[f32], rate_hz: u32) -> Vec<f32> {
    let mut stream = FeatureStream::new(SpeechForm::AVE, rate_hz, 0).unwrap();
    let mut windows = Vec::new();
    stream.push(samples, fake_encoder, &mut windows).unwrap();
    stream.finish(fake_encoder, &mut windows).unwrap();
    windows
}
