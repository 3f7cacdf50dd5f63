//! Triangular mel bands on Slaney's scale, each of unit area.
//!
//! Source: Slaney's Auditory Toolbox, as `librosa.filters.mel(htk=False, norm="slaney")` computes it.

use super::{N_MELS, WINDOW};
use crate::FEATURE_RATE_HZ;

const LOWEST_HZ: f64 = 55.0;
const HIGHEST_HZ: f64 = 7_600.0;

/// Below 1 kHz the scale is linear, `200 / 3` Hz a mel; above, 27 mels span a factor of 6.4.
const LINEAR_HZ_PER_MEL: f64 = 200.0 / 3.0;
const LOG_FROM_HZ: f64 = 1_000.0;
const LOG_FROM_MEL: f64 = LOG_FROM_HZ / LINEAR_HZ_PER_MEL;

fn log_step() -> f64 {
    6.4f64.ln() / 27.0
}

fn hz_to_mel(hz: f64) -> f64 {
    if hz < LOG_FROM_HZ {
        hz / LINEAR_HZ_PER_MEL
    } else {
        LOG_FROM_MEL + (hz / LOG_FROM_HZ).ln() / log_step()
    }
}

fn mel_to_hz(mel: f64) -> f64 {
    if mel < LOG_FROM_MEL {
        mel * LINEAR_HZ_PER_MEL
    } else {
        LOG_FROM_HZ * ((mel - LOG_FROM_MEL) * log_step()).exp()
    }
}

/// The 80 bands.
pub(super) struct MelFilters {
    bands: Vec<Band>,
}

/// One band: its weights where they are not zero.
struct Band {
    first_bin: usize,
    weights: Vec<f64>,
}

impl MelFilters {
    pub(super) fn new() -> Self {
        let (low, high) = (hz_to_mel(LOWEST_HZ), hz_to_mel(HIGHEST_HZ));
        let step = (high - low) / (N_MELS + 1) as f64;
        let edge_hz = |i: usize| mel_to_hz(low + step * i as f64);
        let band = |i| Band::new([edge_hz(i), edge_hz(i + 1), edge_hz(i + 2)]);
        Self {
            bands: (0..N_MELS).map(band).collect(),
        }
    }

    /// The bands' magnitudes of a spectrum's `WINDOW / 2 + 1` magnitudes.
    pub(super) fn apply(&self, magnitudes: &[f64]) -> impl Iterator<Item = f64> {
        self.bands.iter().map(|band| {
            let bins = &magnitudes[band.first_bin..];
            band.weights.iter().zip(bins).map(|(w, m)| w * m).sum()
        })
    }
}

impl Band {
    /// A triangle over `[low, centre, high]` Hz.
    fn new([low, centre, high]: [f64; 3]) -> Self {
        let weight = |bin: usize| {
            let hz = bin as f64 * f64::from(FEATURE_RATE_HZ) / WINDOW as f64;
            let rising = (hz - low) / (centre - low);
            let falling = (high - hz) / (high - centre);
            rising.min(falling).max(0.0) * 2.0 / (high - low)
        };
        let all: Vec<f64> = (0..=WINDOW / 2).map(weight).collect();
        let first_bin = all.iter().position(|w| *w > 0.0).unwrap_or(0);
        let n_weights = all.iter().filter(|w| **w > 0.0).count();
        Self {
            first_bin,
            weights: all[first_bin..first_bin + n_weights].to_vec(),
        }
    }
}
