//! Spectra of windows that follow one another in a signal.

use std::sync::Arc;

use realfft::{RealToComplex, num_complex::Complex};

/// A transform, and the memory for it.
pub(crate) struct Spectrum {
    fft: Arc<dyn RealToComplex<f64>>,
    windowed: Vec<f64>,
    bins: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
}

impl Spectrum {
    pub(crate) fn new(fft: &Arc<dyn RealToComplex<f64>>) -> Self {
        Self {
            windowed: fft.make_input_vec(),
            bins: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            fft: Arc::clone(fft),
        }
    }

    pub(crate) fn n_bins(&self) -> usize {
        self.bins.len()
    }

    /// The bins of what `fill` writes: all of it, as long as the transform.
    pub(crate) fn of(&mut self, fill: impl FnOnce(&mut [f64])) -> &[Complex<f64>] {
        fill(&mut self.windowed);
        self.fft
            .process_with_scratch(&mut self.windowed, &mut self.bins, &mut self.scratch)
            .expect("the plan made these buffers");
        &self.bins
    }
}

/// Hands out every whole window of `length` samples, `hop` apart, and keeps what the next ones need.
pub(crate) fn drain_windows(
    recent: &mut Vec<f64>,
    (length, hop): (usize, usize),
    mut take: impl FnMut(&[f64]),
) {
    let mut start = 0;
    while let Some(samples) = recent.get(start..start + length) {
        take(samples);
        start += hop;
    }
    recent.drain(..start);
}
