//! Which samples make which steps of a HuBERT model.
//!
//! The network hears a whole clip at once, and every feature depends on all of it. A stream cannot wait for that. So the
//! clip is cut into patches: each makes 20 steps (0.8 s) and hears 0.8 s before them and 0.4 s behind them, silence where
//! the clip has nothing. Whole clips are cut the same way, so a stream gives their numbers, bit for bit; how far those
//! are from the network's on the whole clip depends on the network. Each patch is brought to a mean of 0 and a deviation of 1, as the
//! training scripts do with whole clips, but quiet ones are raised by 40 dB at most.
//!
//! A step is two features, each of 400 samples, 320 apart. A clip of `n` samples has `(n - 80) / 640` steps, and at least one.
//!
//! Source: `hubert.py` of Ultralight-Digital-Human, and `Wav2Vec2FeatureExtractor` of Hugging Face's transformers.

use lipsync_core::family::{PatchForm, STEP_OVERHANG, STEP_SAMPLES};

/// Steps before, of and behind a patch.
const FORM: [usize; 3] = match PatchForm::HUBERT {
    PatchForm::Wave {
        n_left,
        n_steps,
        n_right,
    } => [n_left, n_steps, n_right],
    PatchForm::Mel { .. } | PatchForm::Fbank { .. } => unreachable!(),
};
const PATCH_SAMPLES: usize = PatchForm::HUBERT.n_floats();
/// The least deviation that becomes 1.
const LEAST_DEVIATION: f64 = 0.01;

/// Steps of a clip of `n_samples` at 16 kHz.
#[must_use]
pub fn n_steps(n_samples: u64) -> u64 {
    (n_samples.saturating_sub(STEP_OVERHANG as u64) / STEP_SAMPLES as u64).max(1)
}

/// Samples in, encoder inputs out.
#[derive(Debug)]
pub struct WaveCutter {
    /// Samples from the next patch's first one on.
    recent: Vec<f32>,
    n_samples: u64,
    next_patch: u64,
}

impl WaveCutter {
    /// An empty clip.
    #[must_use]
    pub fn new() -> Self {
        Self {
            recent: vec![0.0; FORM[0] * STEP_SAMPLES],
            n_samples: 0,
            next_patch: 0,
        }
    }

    /// Takes finite samples at 16 kHz and appends the patches that they complete.
    pub fn push(&mut self, samples: &[f32], patches: &mut Vec<f32>) {
        self.n_samples += samples.len() as u64;
        self.recent.extend_from_slice(samples);
        let mut start = 0;
        while let Some(patch) = self.recent.get(start..start + PATCH_SAMPLES) {
            append(patch, patches);
            start += FORM[1] * STEP_SAMPLES;
            self.next_patch += 1;
        }
        self.recent.drain(..start);
    }

    /// Ends the clip and appends its last patches. The last one may make more than the clip's [`n_steps`].
    pub fn finish(mut self, patches: &mut Vec<f32>) {
        while self.next_patch * (FORM[1] as u64) < n_steps(self.n_samples) {
            let mut patch = self.recent.clone();
            patch.resize(PATCH_SAMPLES, 0.0);
            append(&patch, patches);
            let n_step = self.recent.len().min(FORM[1] * STEP_SAMPLES);
            self.recent.drain(..n_step);
            self.next_patch += 1;
        }
    }
}

impl Default for WaveCutter {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends samples with a mean of 0 and a deviation of 1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "about 1; f32 is what the network reads"
)]
fn append(samples: &[f32], patches: &mut Vec<f32>) {
    let n = samples.len() as f64;
    let wide = || samples.iter().map(|&x| f64::from(x));
    let mean = wide().sum::<f64>() / n;
    let variance = wide().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let deviation = variance.sqrt().max(LEAST_DEVIATION);
    patches.extend(wide().map(|x| ((x - mean) / deviation) as f32));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn steps_are_those_of_the_training_script() {
        // Its features: (n - 80) / 320, of which pairs are taken.
        for n in [0, 79, 400, 719, 720, 1_359, 1_360, 16_000, 160_123] {
            let n_features = u64::saturating_sub(n, 80) / 320;
            assert_eq!(n_steps(n), (n_features / 2).max(1), "{n}");
        }
    }

    #[test]
    fn patches_are_the_samples_around_their_steps_however_they_arrive() {
        for n in [1, 700, 12_800, 19_280, 19_281, 40_000] {
            let samples = noise(n);
            // Steps -20 on.
            let mut padded = vec![0.0; 20 * 640];
            padded.extend_from_slice(&samples);
            let n_patches = usize::try_from(n_steps(n as u64)).unwrap().div_ceil(20);
            padded.resize(n_patches * 12_800 + PATCH_SAMPLES, 0.0);
            let mut expected = Vec::new();
            for c in 0..n_patches {
                append(&padded[c * 12_800..][..PATCH_SAMPLES], &mut expected);
            }
            for n_chunk in [77, 50_000] {
                let mut cutter = WaveCutter::new();
                let mut patches = Vec::new();
                for chunk in samples.chunks(n_chunk) {
                    cutter.push(chunk, &mut patches);
                    assert!(cutter.recent.len() < PATCH_SAMPLES, "memory is bounded");
                }
                cutter.finish(&mut patches);
                assert!(patches == expected, "{n} by {n_chunk}");
            }
        }
    }

    #[test]
    fn loud_and_quiet_speech_are_brought_to_one_level() {
        let deviation = |scale: f32| {
            let samples: Vec<f32> = noise(40_000).iter().map(|x| x * scale + 0.1).collect();
            let mut patches = Vec::new();
            append(&samples, &mut patches);
            let mean = patches.iter().sum::<f32>() / 40_000.0;
            assert!(mean.abs() < 1e-3, "{mean}");
            (patches.iter().map(|x| x * x).sum::<f32>() / 40_000.0).sqrt()
        };
        assert!((deviation(1.0) - 1.0).abs() < 1e-3);
        assert!((deviation(0.1) - 1.0).abs() < 1e-3);
        // 0.001 times the deviation of noise over 0.01.
        assert!((deviation(0.001) - 0.028_9).abs() < 1e-3);
    }
}
