//! Speech-like sound, made up: the same samples on every machine.
//!
//! A buzz whose pitch wanders, through three resonances that glide from vowel to vowel, with hisses
//! between them and pauses after a few. It says nothing, but gives an audio encoder the range of
//! inputs that speech gives it.

use std::f32::consts::TAU;

use lipsync_core::SplitMix64;

/// Samples per second.
pub const RATE_HZ: u32 = 16_000;

const SEED: u64 = 1;
const RATE: f32 = 16_000.0;
/// Vowels: centres of the first three formants, Hz, after Peterson and Barney (1952).
const VOWELS: [[f32; 3]; 6] = [
    [730.0, 1090.0, 2440.0],
    [530.0, 1840.0, 2480.0],
    [270.0, 2290.0, 3010.0],
    [570.0, 840.0, 2410.0],
    [300.0, 870.0, 2240.0],
    [660.0, 1720.0, 2410.0],
];
const GAINS: [f32; 3] = [1.0, 0.6, 0.3];
/// Syllables before each pause.
const SYLLABLES: u64 = 5;

/// The first `n_samples` of it, mono, within -1..1.
#[must_use]
pub fn speech_like(n_samples: usize) -> Vec<f32> {
    let mut voice = Voice::new();
    let mut samples = Vec::with_capacity(n_samples);
    for number in 0.. {
        if samples.len() >= n_samples {
            break;
        }
        voice.say_syllable(&mut samples);
        if number % SYLLABLES == SYLLABLES - 1 {
            let n_silent = voice.n_samples(0.15, 0.45);
            samples.resize(samples.len() + n_silent, 0.0);
        }
    }
    samples.truncate(n_samples);
    samples
}

struct Voice {
    random: SplitMix64,
    formants: [f32; 3],
    filters: [Resonator; 3],
    phase: f32,
}

impl Voice {
    fn new() -> Self {
        Self {
            random: SplitMix64::new(SEED),
            formants: VOWELS[0],
            filters: [Resonator::default(); 3],
            phase: 0.0,
        }
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.random.next_unit()
    }

    /// A duration between two, seconds, in samples.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "durations are positive and below a second"
    )]
    fn n_samples(&mut self, low: f32, high: f32) -> usize {
        (self.between(low, high) * RATE) as usize
    }

    /// A hiss of up to 80 ms, then a vowel of up to 280.
    fn say_syllable(&mut self, samples: &mut Vec<f32>) {
        for _ in 0..self.n_samples(0.0, 0.08) {
            let hiss = self.between(-0.08, 0.08);
            samples.push(hiss);
        }
        let n = self.n_samples(0.1, 0.28);
        let pitch_hz = self.between(95.0, 230.0);
        let vowel = self.random.next_u64() % VOWELS.len() as u64;
        let target = VOWELS[usize::try_from(vowel).unwrap_or(0)];
        for i in 0..n {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand samples")]
            let along = i as f32 / n as f32;
            let loudness = 0.25 * (along * TAU / 2.0).sin();
            let excitation = self.excite(pitch_hz * (1.0 + 0.1 * (along * TAU).sin()));
            let mut sound = 0.0;
            for (i, filter) in self.filters.iter_mut().enumerate() {
                self.formants[i] += (target[i] - self.formants[i]) * 0.002;
                sound += GAINS[i] * filter.step(excitation, self.formants[i]);
            }
            samples.push((loudness * sound).clamp(-1.0, 1.0));
        }
    }

    /// One pulse a period, and a little breath.
    fn excite(&mut self, pitch_hz: f32) -> f32 {
        self.phase += pitch_hz / RATE;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
            1.0
        } else {
            self.between(-0.02, 0.02)
        }
    }
}

/// A two-pole filter that rings at one frequency.
#[derive(Debug, Clone, Copy, Default)]
struct Resonator {
    before: [f32; 2],
}

impl Resonator {
    fn step(&mut self, input: f32, hz: f32) -> f32 {
        const RADIUS: f32 = 0.97;
        let turn = 2.0 * RADIUS * (TAU * hz / RATE).cos();
        let output = input + turn * self.before[0] - RADIUS * RADIUS * self.before[1];
        self.before = [output, self.before[0]];
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight seconds.
    const N: usize = 128_000;

    #[test]
    fn it_has_the_loudness_and_the_pauses_of_speech() {
        let samples = speech_like(N);
        assert_eq!(samples.len(), N);
        assert!(samples.iter().all(|s| s.abs() <= 1.0));
        let levels: Vec<f32> = samples
            .chunks(640)
            .map(|frame| (frame.iter().map(|s| s * s).sum::<f32>() / 640.0).sqrt())
            .collect();
        let loud = levels.iter().filter(|&&level| level > 0.03).count();
        let silent = levels.iter().filter(|&&level| level < 1e-4).count();
        assert!(loud > levels.len() / 2, "{loud} of {}", levels.len());
        assert!(silent > 10, "{silent} of {}", levels.len());
    }

    #[test]
    fn a_longer_one_starts_with_a_shorter_one() {
        assert_eq!(speech_like(5000)[..], speech_like(9000)[..5000]);
    }
}
