//! Triangular bands, even on Kaldi's mel scale.
//!
//! Source: `mel-computations.cc` of Kaldi, as `torchaudio.compliance.kaldi` computes it.

use super::{FFT, N_BANDS};
use crate::FEATURE_RATE_HZ;

const LOWEST_HZ: f64 = 20.0;
const HIGHEST_HZ: f64 = FEATURE_RATE_HZ as f64 / 2.0;

fn mel(hz: f64) -> f64 {
    1_127.0 * (hz / 700.0).ln_1p()
}

/// The 80 bands.
pub(super) struct BandFilters {
    bands: Vec<Band>,
}

/// One band: its weights where they are not zero.
struct Band {
    first_bin: usize,
    weights: Vec<f64>,
}

impl BandFilters {
    pub(super) fn new() -> Self {
        let (low, high) = (mel(LOWEST_HZ), mel(HIGHEST_HZ));
        let step = (high - low) / (N_BANDS + 1) as f64;
        let edge = |i: usize| low + step * i as f64;
        let band = |i| Band::new([edge(i), edge(i + 1), edge(i + 2)]);
        Self {
            bands: (0..N_BANDS).map(band).collect(),
        }
    }

    /// The bands' powers of a spectrum's `FFT / 2 + 1` powers. The last bin belongs to no band.
    pub(super) fn apply(&self, powers: &[f64]) -> impl Iterator<Item = f64> {
        self.bands.iter().map(|band| {
            let bins = &powers[band.first_bin..];
            band.weights.iter().zip(bins).map(|(w, p)| w * p).sum()
        })
    }
}

impl Band {
    /// A triangle over `[low, centre, high]` mel.
    fn new([low, centre, high]: [f64; 3]) -> Self {
        let weight = |bin: usize| {
            let at = mel(bin as f64 * f64::from(FEATURE_RATE_HZ) / FFT as f64);
            let rising = (at - low) / (centre - low);
            let falling = (high - at) / (high - centre);
            rising.min(falling).max(0.0)
        };
        let all: Vec<f64> = (0..FFT / 2).map(weight).collect();
        let first_bin = all.iter().position(|w| *w > 0.0).unwrap_or(0);
        let n_weights = all.iter().filter(|w| **w > 0.0).count();
        Self {
            first_bin,
            weights: all[first_bin..first_bin + n_weights].to_vec(),
        }
    }
}
