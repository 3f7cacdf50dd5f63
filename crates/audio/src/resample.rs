//! Any sample rate to 16 kHz, band-limited, sample-exact and indifferent to chunks.
//!
//! Output sample `n` is at input position `n M / L` (`L / M = 16,000 / rate` in lowest terms). It is one
//! dot product of the inputs around it with a windowed-sinc filter; before the start and after the end
//! the inputs are zeros. No state is fed back, and the sum has a fixed order. So the output is the same bit
//! for bit however the input is cut into chunks, and positions are exact integers however long a
//! session lives. That is why this is
//! not the `rubato` crate, which works in blocks, has its own delay to cut off, and gives no
//! such promise.
//!
//! Figures (tests hold them): flat within 0.002 dB to 0.443 of the lower rate, at least 82 dB down
//! from 0.5 of the lower rate on (so nothing folds back), reach 48 samples of the lower rate to each
//! side. 16 kHz passes through untouched.

mod kernel;
#[cfg(test)]
mod tests;

use lipsync_core::saturate::usize_of;

use crate::{AudioError, FEATURE_RATE_HZ, check_rate};

/// The most filter coefficients kept in a table, 256 KiB. The usual rates fit (11,025 Hz needs the
/// most); for others, such as 44,099 Hz with its 16,000 phases, they are computed as they are used.
const MAX_TABLE: usize = 65_536;

/// Samples at the source rate in, samples at 16 kHz out.
#[derive(Debug)]
pub struct Resampler {
    rate_hz: u32,
    filter: Option<Filter>,
    n_in: u64,
    n_out: u64,
}

/// The samples of a clip at 16 kHz: `ceil(n_samples x 16,000 / rate_hz)`.
#[must_use]
pub fn resampled_len(n_samples: u64, rate_hz: u32) -> u64 {
    lipsync_core::frames_in(n_samples, rate_hz, FEATURE_RATE_HZ)
}

/// How many input samples the filter reaches beyond an output's position: it needs the inputs
/// `q - reach + 1 ..= q + reach` where `q` is the position rounded down. 0 at 16 kHz.
///
/// `rate_hz` is one that [`check_rate`] accepts.
#[must_use]
pub fn reach_samples(rate_hz: u32) -> u32 {
    if rate_hz == FEATURE_RATE_HZ {
        return 0;
    }
    // Reach is counted in samples of the lower rate. The product fits: 48 x 192,000.
    (kernel::REACH * rate_hz.max(FEATURE_RATE_HZ)).div_ceil(FEATURE_RATE_HZ)
}

impl Resampler {
    /// A resampler from `rate_hz` to 16 kHz.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub fn new(rate_hz: u32) -> Result<Self, AudioError> {
        check_rate(rate_hz)?;
        Ok(Self {
            rate_hz,
            filter: (rate_hz != FEATURE_RATE_HZ).then(|| Filter::new(rate_hz)),
            n_in: 0,
            n_out: 0,
        })
    }

    /// Consumes samples at the source rate and appends the completed samples at 16 kHz to `out`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        let before = out.len();
        self.n_in += samples.len() as u64;
        match &mut self.filter {
            Some(filter) => filter.push(samples, out, usize::MAX),
            None => out.extend_from_slice(samples),
        }
        self.n_out += (out.len() - before) as u64;
    }

    /// Ends the clip and appends the rest, [`resampled_len`] samples in all.
    ///
    /// Samples after the end count as zeros.
    pub fn finish(self, out: &mut Vec<f32>) {
        if let Some(mut filter) = self.filter {
            let rest = resampled_len(self.n_in, self.rate_hz) - self.n_out;
            let zeros = vec![0.0; filter.reach];
            // The rest lies within the filter's reach, some thousand samples at most.
            filter.push(&zeros, out, usize_of(rest));
        }
    }

    /// Source samples consumed so far.
    #[must_use]
    pub fn n_in(&self) -> u64 {
        self.n_in
    }
}

#[derive(Debug)]
struct Filter {
    /// `L`: phases.
    up: usize,
    /// `M`.
    down: usize,
    /// See [`reach_samples`].
    reach: usize,
    /// Input samples to one sample of the lower rate, inverted: `min(1, 16,000 / rate)`.
    scale: f64,
    /// Coefficients by phase, `up x 2 reach`; empty where they would be too many.
    table: Vec<f32>,
    /// Coefficients of one phase, where there is no table.
    scratch: Vec<f32>,
    /// Inputs still needed, the oldest first.
    recent: Vec<f32>,
    /// Index in `recent` of the next output's first input. May be past the end by less than `M/L`.
    start: usize,
    /// Phase of the next output, `n M mod L`.
    phase: usize,
}

impl Filter {
    fn new(rate_hz: u32) -> Self {
        let common = gcd(rate_hz, FEATURE_RATE_HZ);
        let widen = |n: u32| usize::try_from(n).expect("a usize has at least 32 bits");
        let reach = widen(reach_samples(rate_hz));
        let mut filter = Self {
            up: widen(FEATURE_RATE_HZ / common),
            down: widen(rate_hz / common),
            reach,
            scale: (f64::from(FEATURE_RATE_HZ) / f64::from(rate_hz)).min(1.0),
            table: Vec::new(),
            scratch: vec![0.0; 2 * reach],
            // What lies before the start is zero.
            recent: vec![0.0; reach - 1],
            start: 0,
            phase: 0,
        };
        if filter.up * 2 * reach <= MAX_TABLE {
            let mut table = vec![0.0; filter.up * 2 * reach];
            for (phase, taps) in table.chunks_exact_mut(2 * reach).enumerate() {
                filter.fill_taps(phase, taps);
            }
            filter.table = table;
        }
        filter
    }

    /// Writes the coefficients of one phase.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "coefficients are kept as f32: their rounding lies at -144 dB"
    )]
    fn fill_taps(&self, phase: usize, taps: &mut [f32]) {
        // All numbers here are below 2^32, so they are exact in f64.
        let (up, shift) = (self.up as f64, phase as f64);
        for (j, tap) in taps.iter_mut().enumerate() {
            let n_before = (self.reach as f64) - 1.0 - (j as f64);
            let distance = (n_before * up + shift) / up * self.scale;
            *tap = (self.scale * kernel::prototype(distance)) as f32;
        }
    }

    /// Appends up to `n_max` outputs that the inputs so far complete.
    fn push(&mut self, samples: &[f32], out: &mut Vec<f32>, n_max: usize) {
        self.recent.extend_from_slice(samples);
        let n_taps = 2 * self.reach;
        for _ in 0..n_max {
            if self.start + n_taps > self.recent.len() {
                break;
            }
            if self.table.is_empty() {
                let mut taps = std::mem::take(&mut self.scratch);
                self.fill_taps(self.phase, &mut taps);
                self.scratch = taps;
            }
            let taps = match self.table.get(self.phase * n_taps..) {
                Some(taps) if !taps.is_empty() => &taps[..n_taps],
                _ => &self.scratch,
            };
            out.push(dot(&self.recent[self.start..self.start + n_taps], taps));
            self.phase += self.down;
            self.start += self.phase / self.up;
            self.phase %= self.up;
        }
        let n_done = self.start.min(self.recent.len());
        self.recent.drain(..n_done);
        self.start -= n_done;
    }
}

/// The dot product of two slices of one length, summed in f64 in an order that depends on the length alone.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Lanes let the compiler vectorise; it may not reorder one running sum.
    let mut lanes = [0.0f64; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for (lane, (x, y)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += f64::from(*x) * f64::from(*y);
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += f64::from(*x) * f64::from(*y);
    }
    // Overshoot of samples near the largest f32 must not become infinite.
    let limit = f64::from(f32::MAX);
    #[expect(clippy::cast_possible_truncation, reason = "samples are f32")]
    let sample = lanes.iter().sum::<f64>().clamp(-limit, limit) as f32;
    sample
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
