//! Helpers of several tests of this crate.

use crate::{AudioError, FeatureStream, steps::PATCH_FLOATS, windows::STEP_FLOATS};

/// White noise, a pure function of the place.
pub(crate) fn noise(n_samples: usize) -> Vec<f32> {
    let sample = |i: usize| {
        let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 29)) >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..n_samples).map(sample).collect()
}

/// A stand-in for the network: every value of a step depends on all of its patch and nothing else.
pub(crate) fn fake_encoder(patches: &[f32]) -> Result<Vec<f32>, AudioError> {
    let step = |patch: &[f32]| {
        let digest = patch.iter().fold(0u32, |sum, v| {
            sum.wrapping_mul(31).wrapping_add(v.to_bits())
        });
        let digest = (digest >> 8) as f32;
        (0..STEP_FLOATS).map(move |i| digest + i as f32)
    };
    Ok(patches.chunks_exact(PATCH_FLOATS).flat_map(step).collect())
}

/// The windows of a whole utterance.
pub(crate) fn windows_of(samples: &[f32], rate_hz: u32) -> Vec<f32> {
    let mut stream = FeatureStream::new(rate_hz, 0).unwrap();
    let mut windows = Vec::new();
    stream.push(samples, fake_encoder, &mut windows).unwrap();
    stream.finish(fake_encoder, &mut windows).unwrap();
    windows
}
