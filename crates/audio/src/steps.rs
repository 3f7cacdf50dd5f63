//! Which mel rows make which feature step.
//!
//! The encoder network reads 16 mel rows and answers one step; there are 25 steps a second over 80
//! rows a second. Step `k` covers the rows `s .. s + 16` with `s = floor(80 k / 25)`. A clip of `T`
//! rows has `floor((T - 16) 25 / 80) + 2` steps: the last one would reach past the end and takes the
//! last 16 rows instead. All other steps are final as soon as their rows are there, so a stream
//! waits for the end with one step only.
//!
//! The arithmetic is exact. The training scripts compute the count in floating point, which for
//! some `T` (384 is the first) comes out one lower; the step in question is a second copy of the last.
//!
//! Source: `AudDataset` of SyncTalk_2D (`utils.py`).

use crate::mel::{AVE_PATCH, N_MELS};

/// Mel rows of one step.
pub const ROWS_PER_STEP: usize = AVE_PATCH[1];
/// Floats of one encoder input: `[80, 16]`, mel-major.
pub const PATCH_FLOATS: usize = N_MELS * ROWS_PER_STEP;
/// The shortest clip that has 16 mel rows, in samples at 16 kHz. Shorter ones are padded with
/// silence to this length.
pub const MIN_SAMPLES: u64 = 3_000;

/// The first mel row of step `k` before clamping, `floor(80 k / 25)`.
#[must_use]
pub fn first_row(k: u64) -> u64 {
    // 80 / 25 = 16 / 5, split so that no product overflows before the result does.
    k / 5 * 16 + k % 5 * 16 / 5
}

/// Steps of a clip of `n_rows` mel rows; fewer than 16 count as 16.
#[must_use]
pub fn n_steps(n_rows: u64) -> u64 {
    let beyond = n_rows.saturating_sub(ROWS_PER_STEP as u64);
    // 25 / 80 = 5 / 16.
    beyond / 16 * 5 + beyond % 16 * 5 / 16 + 2
}

/// Mel rows in, encoder inputs out.
#[derive(Debug, Default)]
pub struct StepCutter {
    /// Rows still needed, the oldest first.
    recent: Vec<f32>,
    /// Rows dropped from the front of `recent`.
    n_dropped: u64,
    next_step: u64,
}

impl StepCutter {
    /// An empty clip.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes whole rows (80 values each) and appends the patches that they complete, `[80, 16]` each.
    pub fn push(&mut self, rows: &[f32], patches: &mut Vec<f32>) {
        debug_assert!(rows.len().is_multiple_of(N_MELS));
        self.recent.extend_from_slice(rows);
        while first_row(self.next_step) + ROWS_PER_STEP as u64 <= self.n_rows() {
            self.append_patch(first_row(self.next_step), patches);
            self.next_step += 1;
        }
        // The last 16 rows stay for the clamped step.
        let n_recent = self.recent.len() / N_MELS;
        let n_surplus = n_recent.saturating_sub(ROWS_PER_STEP);
        self.recent.drain(..n_surplus * N_MELS);
        self.n_dropped += n_surplus as u64;
    }

    /// Ends the clip and appends its last patches; the clip has at least 16 rows.
    pub fn finish(mut self, patches: &mut Vec<f32>) {
        let n_rows = self.n_rows();
        debug_assert!(n_rows >= ROWS_PER_STEP as u64);
        while self.next_step < n_steps(n_rows) {
            self.append_patch(n_rows - ROWS_PER_STEP as u64, patches);
            self.next_step += 1;
        }
    }

    fn n_rows(&self) -> u64 {
        self.n_dropped + (self.recent.len() / N_MELS) as u64
    }

    /// Appends the 16 rows from `first` on, transposed.
    fn append_patch(&self, first: u64, patches: &mut Vec<f32>) {
        let start = usize::try_from(first - self.n_dropped).expect("the row lies in memory");
        let rows = &self.recent[start * N_MELS..][..PATCH_FLOATS];
        for band in 0..N_MELS {
            patches.extend(rows[band..].iter().step_by(N_MELS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize) -> Vec<f32> {
        (0..n * N_MELS).map(|i| i as f32).collect()
    }

    /// The definition, over the whole clip.
    fn patches_of(rows: &[f32]) -> Vec<f32> {
        let n_rows = rows.len() / N_MELS;
        let mut patches = Vec::new();
        for k in 0..(n_rows - 16) * 25 / 80 + 2 {
            let s = (80 * k / 25).min(n_rows - 16);
            for band in 0..N_MELS {
                patches.extend((s..s + 16).map(|row| rows[row * N_MELS + band]));
            }
        }
        patches
    }

    #[test]
    fn counts_and_places() {
        // T and steps of the clip that the contract of the networks was checked with.
        assert_eq!(crate::mel::n_rows(334_739), 1_674);
        assert_eq!(n_steps(1_674), 520);
        assert_eq!(n_steps(16), 2);
        assert_eq!(n_steps(0), 2);
        let places: Vec<u64> = (0..7).map(first_row).collect();
        assert_eq!(places, [0, 3, 6, 9, 12, 16, 19]);
        assert_eq!(first_row(5 * (u64::MAX / 16)), 16 * (u64::MAX / 16));
        assert_eq!(crate::mel::n_rows(MIN_SAMPLES), 16);
        assert_eq!(crate::mel::n_rows(MIN_SAMPLES - 1), 15);
    }

    #[test]
    fn patches_are_those_of_the_definition_however_the_rows_arrive() {
        for n_rows in 16..70 {
            let rows = rows(n_rows);
            let expected = patches_of(&rows);
            for n_chunk in [1, 3, 16, 1_000] {
                let mut cutter = StepCutter::new();
                let mut patches = Vec::new();
                for chunk in rows.chunks(n_chunk * N_MELS) {
                    cutter.push(chunk, &mut patches);
                    assert!(cutter.recent.len() <= PATCH_FLOATS, "memory is bounded");
                }
                assert!(expected.len() - patches.len() <= PATCH_FLOATS);
                cutter.finish(&mut patches);
                assert_eq!(patches, expected, "{n_rows} rows by {n_chunk}");
            }
        }
    }
}
