//! The mel spectrogram that AVE encoders are trained on.
//!
//! Row `r` of 80 bands is centred on sample `200 r` at 16 kHz and made of the 800 samples around
//! it, with zeros outside the clip: pre-emphasis `y[n] = x[n] - 0.97 x[n-1]`,
//! *periodic* Hann window, magnitude of the FFT, Slaney mel bands, decibels, and an affine map that
//! is clipped to -4..4. A clip of `n` samples has `1 + n / 200` rows. All in f64, rounded to f32 at
//! the end.
//!
//! Source: the front-end of Wav2Lip (`audio.py`), which SyncTalk_2D took over, with librosa's STFT
//! (`center=True, pad_mode="constant"`).

mod filters;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use lipsync_core::family::PatchForm;
use realfft::{RealFftPlanner, RealToComplex};

use filters::MelFilters;

use crate::spectrum::{Spectrum, drain_windows};

/// Mel bands of a row.
pub const N_MELS: usize = AVE_PATCH[0];
/// Samples between rows, at 16 kHz.
pub const HOP: usize = 200;
/// Samples that a row is made of, at 16 kHz; also the length of the FFT.
pub const WINDOW: usize = 800;

/// Bands and rows of what AVE encoders read.
pub(crate) const AVE_PATCH: [usize; 2] = match PatchForm::AVE {
    PatchForm::Mel { n_mels, n_rows } => [n_mels, n_rows],
    PatchForm::Fbank { .. } | PatchForm::Wave { .. } => unreachable!(),
};

const PRE_EMPHASIS: f64 = 0.97;
/// The least magnitude, -100 dB.
const FLOOR: f64 = 1e-5;
const REFERENCE_DB: f64 = 20.0;

/// Rows of a clip: `1 + n_samples / 200`.
#[must_use]
pub fn n_rows(n_samples: u64) -> u64 {
    1 + n_samples / HOP as u64
}

/// The spectrogram of a whole clip at 16 kHz: `[n_rows, 80]` f32 in -4..=4, row-major.
#[must_use]
pub fn spectrogram(samples: &[f32]) -> Vec<f32> {
    let mut rows = Vec::new();
    let mut stream = MelStream::new();
    stream.push(samples, &mut rows);
    stream.finish(&mut rows);
    rows
}

/// Samples at 16 kHz in, mel rows out.
pub struct MelStream {
    /// Pre-emphasised samples still needed, the oldest first.
    recent: Vec<f64>,
    /// The sample before the next one.
    previous: f64,
    row: RowMaker,
}

impl MelStream {
    /// An empty clip.
    #[must_use]
    pub fn new() -> Self {
        Self {
            recent: vec![0.0; WINDOW / 2],
            previous: 0.0,
            row: RowMaker::new(),
        }
    }

    /// Takes finite samples and appends the rows that they complete, 80 values each.
    pub fn push(&mut self, samples: &[f32], rows: &mut Vec<f32>) {
        for &sample in samples {
            let sample = f64::from(sample);
            self.recent.push(sample - PRE_EMPHASIS * self.previous);
            self.previous = sample;
        }
        self.drain_rows(rows);
    }

    /// Ends the clip and appends its last rows.
    pub fn finish(mut self, rows: &mut Vec<f32>) {
        // Zeros follow the *pre-emphasised* signal, as in the source.
        self.recent.resize(self.recent.len() + WINDOW / 2, 0.0);
        self.drain_rows(rows);
    }

    fn drain_rows(&mut self, rows: &mut Vec<f32>) {
        drain_windows(&mut self.recent, (WINDOW, HOP), |samples| {
            self.row.append(samples, rows);
        });
    }
}

impl Default for MelStream {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MelStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MelStream")
            .field("n_recent", &self.recent.len())
            .finish_non_exhaustive()
    }
}

/// Tables that all instances share.
struct Plan {
    fft: Arc<dyn RealToComplex<f64>>,
    hann: Vec<f64>,
    filters: MelFilters,
}

impl Plan {
    fn shared() -> &'static Self {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| {
            let step = std::f64::consts::TAU / WINDOW as f64;
            let hann = |i| 0.5 - 0.5 * (step * i as f64).cos();
            Self {
                fft: RealFftPlanner::new().plan_fft_forward(WINDOW),
                hann: (0..WINDOW).map(hann).collect(),
                filters: MelFilters::new(),
            }
        })
    }
}

/// Makes one row, and owns the memory for it.
struct RowMaker {
    plan: &'static Plan,
    spectrum: Spectrum,
    magnitudes: Vec<f64>,
}

impl RowMaker {
    fn new() -> Self {
        let plan = Plan::shared();
        let spectrum = Spectrum::new(&plan.fft);
        Self {
            plan,
            magnitudes: vec![0.0; spectrum.n_bins()],
            spectrum,
        }
    }

    /// Appends the row of 800 pre-emphasised samples.
    fn append(&mut self, samples: &[f64], rows: &mut Vec<f32>) {
        let bins = self.spectrum.of(|windowed| {
            for ((out, sample), weight) in windowed.iter_mut().zip(samples).zip(&self.plan.hann) {
                *out = sample * weight;
            }
        });
        for (magnitude, bin) in self.magnitudes.iter_mut().zip(bins) {
            *magnitude = bin.norm();
        }
        let bands = self.plan.filters.apply(&self.magnitudes);
        rows.extend(bands.map(normalised));
    }
}

/// The network's value of a band's magnitude.
#[expect(
    clippy::cast_possible_truncation,
    reason = "clipped to -4..4; f32 is what the network reads"
)]
fn normalised(magnitude: f64) -> f32 {
    let level_db = 20.0 * magnitude.max(FLOOR).log10() - REFERENCE_DB;
    (8.0 * (level_db + 100.0) / 100.0 - 4.0).clamp(-4.0, 4.0) as f32
}
