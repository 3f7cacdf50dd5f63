//! Which rows of filter banks make which step of a wenet model.
//!
//! The encoder network reads 67 rows and answers one step; there are 20 steps a second over 100 rows a second. Step
//! `k` covers the rows `5 k .. 5 k + 67`: neighbours overlap by 62 rows, and none knows what the ones before it were. So a step is
//! a pure function of the 685 ms of sound under it. A clip of `T` rows has steps as long as the one before ends
//! before row `T`; rows past the end are zeros, which is not what silence looks like, but what the networks were trained with.
//!
//! Source: `wenet_infer.py` of Ultralight-Digital-Human.

use lipsync_core::family::{PatchForm, StepForm};

use crate::{FEATURE_RATE_HZ, fbank::HOP};

/// Rows and bands of a patch.
const PATCH: [usize; 2] = match PatchForm::WENET {
    PatchForm::Fbank { n_rows, n_bands } => [n_rows, n_bands],
    PatchForm::Mel { .. } | PatchForm::Wave { .. } => unreachable!(),
};
/// Rows of one step.
pub const ROWS_PER_CHUNK: usize = PATCH[0];
/// Rows between steps.
pub const ROWS_PER_STEP: usize = {
    let samples_per_step = FEATURE_RATE_HZ / StepForm::WENET.fps.get();
    samples_per_step as usize / HOP
};
const N_BANDS: usize = PATCH[1];

/// Steps of a clip of `n_rows` rows, of which there is one at least.
#[must_use]
pub fn n_steps(n_rows: u64) -> u64 {
    let beyond = n_rows.saturating_sub(ROWS_PER_CHUNK as u64);
    1 + beyond.div_ceil(ROWS_PER_STEP as u64)
}

/// Rows in, encoder inputs out.
#[derive(Debug, Default)]
pub struct ChunkCutter {
    /// Rows from the next step's first one on.
    recent: Vec<f32>,
    next_step: u64,
}

impl ChunkCutter {
    /// An empty clip.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes whole rows (80 values each) and appends the patches that they complete, `[67, 80]` each.
    pub fn push(&mut self, rows: &[f32], patches: &mut Vec<f32>) {
        debug_assert!(rows.len().is_multiple_of(N_BANDS));
        self.recent.extend_from_slice(rows);
        let mut start = 0;
        let n_floats = ROWS_PER_CHUNK * N_BANDS;
        while let Some(patch) = self.recent.get(start..start + n_floats) {
            patches.extend_from_slice(patch);
            start += ROWS_PER_STEP * N_BANDS;
            self.next_step += 1;
        }
        self.recent.drain(..start);
    }

    /// Ends the clip and appends its last patches.
    pub fn finish(mut self, patches: &mut Vec<f32>) {
        let n_rows = self.next_step * ROWS_PER_STEP as u64 + (self.recent.len() / N_BANDS) as u64;
        while self.next_step < n_steps(n_rows) {
            let n_floats = self.recent.len().min(ROWS_PER_CHUNK * N_BANDS);
            patches.extend_from_slice(&self.recent[..n_floats]);
            patches.resize(patches.len() + ROWS_PER_CHUNK * N_BANDS - n_floats, 0.0);
            let n_step = self.recent.len().min(ROWS_PER_STEP * N_BANDS);
            self.recent.drain(..n_step);
            self.next_step += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, over the whole clip: the loop of the training script.
    fn patches_of(rows: &[f32]) -> Vec<f32> {
        let n_rows = rows.len() / N_BANDS;
        let (mut patches, mut start, mut end) = (Vec::new(), 0, 0);
        while end < n_rows {
            end = start + 67;
            let found = &rows[start.min(n_rows) * N_BANDS..end.min(n_rows) * N_BANDS];
            patches.extend_from_slice(found);
            patches.resize(patches.len() + 67 * N_BANDS - found.len(), 0.0);
            start += 5;
        }
        patches
    }

    #[test]
    fn patches_are_those_of_the_training_script_however_the_rows_arrive() {
        assert_eq!((ROWS_PER_CHUNK, ROWS_PER_STEP), (67, 5));
        for n_rows in [1, 60, 65, 66, 67, 68, 71, 72, 73, 77, 78, 100, 139] {
            let rows: Vec<f32> = (1..=n_rows * N_BANDS).map(|i| i as f32).collect();
            let expected = patches_of(&rows);
            let n_expected = expected.len() / (67 * N_BANDS);
            assert_eq!(n_steps(n_rows as u64), n_expected as u64);
            for n_chunk in [1, 4, 1_000] {
                let mut cutter = ChunkCutter::new();
                let mut patches = Vec::new();
                for chunk in rows.chunks(n_chunk * N_BANDS) {
                    cutter.push(chunk, &mut patches);
                    assert!(cutter.recent.len() < 67 * N_BANDS, "memory is bounded");
                }
                cutter.finish(&mut patches);
                assert!(patches == expected, "{n_rows} rows by {n_chunk}");
            }
        }
    }
}
