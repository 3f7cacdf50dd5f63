//! The filter banks that wenet encoders are trained on: Kaldi's, of 16-bit samples.
//!
//! Row `r` of 80 bands is made of the 400 samples (25 ms) from `160 r` on, at 16 kHz, where a clip has 320 ms of
//! silence before it and 350 ms behind it. The samples become 16-bit integers, as the training scripts have them.
//! Then, for each row by itself: the mean is taken off, pre-emphasis `y[n] = x[n] - 0.97 x[n-1]` with `x[-1] = x[0]`, the
//! povey window (Hann to the power of 0.85), 512 points of FFT, powers, 80 triangles over 20 to 8,000 Hz that are even on
//! Kaldi's mel scale, the logarithm. A row of digital silence is `ln(2^-23)` throughout. All in f64, rounded to f32 at the
//! end.
//!
//! Source: `wenet_infer.py` and `FeaturePipeline.py` of Ultralight-Digital-Human, with
//! `torchaudio.compliance.kaldi.fbank(dither=0, energy_floor=0)`.

mod filters;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use lipsync_core::family::PatchForm;
use realfft::{RealFftPlanner, RealToComplex};

use filters::BandFilters;

use crate::spectrum::{Spectrum, drain_windows};

/// Bands of a row.
pub const N_BANDS: usize = match PatchForm::WENET {
    PatchForm::Fbank { n_bands, .. } => n_bands,
    PatchForm::Mel { .. } | PatchForm::Wave { .. } => unreachable!(),
};
/// Samples between rows, at 16 kHz.
pub const HOP: usize = 160;
/// Samples that a row is made of, at 16 kHz.
pub const WINDOW: usize = 400;
/// Samples of silence before a clip.
pub const LEAD: usize = 32 * HOP;
/// Samples of silence behind a clip.
pub const TAIL: usize = 35 * HOP;

const FFT: usize = 512;
const PRE_EMPHASIS: f64 = 0.97;
/// The least power of a band: the distance from 1 to the next f32.
const FLOOR: f64 = 1.0 / 8_388_608.0;
/// What a sample of 1.0 becomes.
const FULL_SCALE: f32 = 32_767.0;

/// Rows of a clip: `1 + (n_samples + 10,320) / 160`.
#[must_use]
pub fn n_rows(n_samples: u64) -> u64 {
    1 + (n_samples + (LEAD + TAIL - WINDOW) as u64) / HOP as u64
}

/// The rows of a whole clip at 16 kHz: `[n_rows, 80]` f32, row-major.
#[must_use]
pub fn filter_banks(samples: &[f32]) -> Vec<f32> {
    let mut rows = Vec::new();
    let mut stream = FbankStream::new();
    stream.push(samples, &mut rows);
    stream.finish(&mut rows);
    rows
}

/// Samples at 16 kHz in, rows out.
pub struct FbankStream {
    /// Samples still needed, the oldest first.
    recent: Vec<f64>,
    row: RowMaker,
}

impl FbankStream {
    /// An empty clip.
    #[must_use]
    pub fn new() -> Self {
        Self {
            recent: vec![0.0; LEAD],
            row: RowMaker::new(),
        }
    }

    /// Takes finite samples and appends the rows that they complete, 80 values each.
    pub fn push(&mut self, samples: &[f32], rows: &mut Vec<f32>) {
        self.recent.extend(samples.iter().map(|&x| sixteen_bits(x)));
        self.drain_rows(rows);
    }

    /// Ends the clip and appends its last rows.
    pub fn finish(mut self, rows: &mut Vec<f32>) {
        self.recent.resize(self.recent.len() + TAIL, 0.0);
        self.drain_rows(rows);
    }

    fn drain_rows(&mut self, rows: &mut Vec<f32>) {
        drain_windows(&mut self.recent, (WINDOW, HOP), |samples| {
            self.row.append(samples, rows);
        });
    }
}

impl Default for FbankStream {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FbankStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FbankStream")
            .field("n_recent", &self.recent.len())
            .finish_non_exhaustive()
    }
}

/// A sample as a 16-bit integer, cut towards zero; louder ones are cut off.
fn sixteen_bits(sample: f32) -> f64 {
    let scaled = (sample * FULL_SCALE).trunc();
    f64::from(scaled.clamp(-32_768.0, 32_767.0))
}

/// Tables that all instances share.
struct Tables {
    fft: Arc<dyn RealToComplex<f64>>,
    povey: Vec<f64>,
    filters: BandFilters,
}

impl Tables {
    fn shared() -> &'static Self {
        static TABLES: OnceLock<Tables> = OnceLock::new();
        TABLES.get_or_init(|| {
            let step = std::f64::consts::TAU / (WINDOW - 1) as f64;
            let povey = |i| (0.5 - 0.5 * (step * i as f64).cos()).powf(0.85);
            Self {
                fft: RealFftPlanner::new().plan_fft_forward(FFT),
                povey: (0..WINDOW).map(povey).collect(),
                filters: BandFilters::new(),
            }
        })
    }
}

/// Makes one row, and owns the memory for it.
struct RowMaker {
    tables: &'static Tables,
    spectrum: Spectrum,
    powers: Vec<f64>,
}

impl RowMaker {
    fn new() -> Self {
        let tables = Tables::shared();
        let spectrum = Spectrum::new(&tables.fft);
        Self {
            tables,
            powers: vec![0.0; spectrum.n_bins()],
            spectrum,
        }
    }

    /// Appends the row of 400 samples.
    fn append(&mut self, samples: &[f64], rows: &mut Vec<f32>) {
        let mean = samples.iter().sum::<f64>() / WINDOW as f64;
        let mut previous = samples.first().map_or(0.0, |first| first - mean);
        let bins = self.spectrum.of(|windowed| {
            let (windowed, padding) = windowed.split_at_mut(WINDOW);
            for ((out, sample), weight) in windowed.iter_mut().zip(samples).zip(&self.tables.povey)
            {
                let sample = sample - mean;
                *out = (sample - PRE_EMPHASIS * previous) * weight;
                previous = sample;
            }
            padding.fill(0.0);
        });
        for (power, bin) in self.powers.iter_mut().zip(bins) {
            *power = bin.norm_sqr();
        }
        let bands = self.tables.filters.apply(&self.powers);
        rows.extend(bands.map(level));
    }
}

/// The network's value of a band's power.
#[expect(
    clippy::cast_possible_truncation,
    reason = "between -16 and 40; f32 is what the network reads"
)]
fn level(power: f64) -> f32 {
    power.max(FLOOR).ln() as f32
}
