//! Which feature steps one video frame sees.
//!
//! The steps of a clip are framed by one duplicate at each end, `f = [first, steps..., last]`, and
//! frame `i` sees the rows `f[i - 8 .. i + 8)`, zeros outside: its own neighbourhood, from step
//! `i - 9` to step `i + 6`.
//!
//! Source: `get_audio_features` and the inference script of SyncTalk_2D.

#[cfg(test)]
mod tests;

use lipsync_core::family::StepForm;

use crate::AudioError;

/// Floats of one feature step.
pub const STEP_FLOATS: usize = StepForm::AVE.n_floats;
/// Steps of one window.
pub const STEPS_PER_WINDOW: usize = StepForm::AVE.n_steps;
/// Floats of one window: `[16, 512]` row-major, which the network reads as `[32, 16, 16]`.
pub const WINDOW_FLOATS: usize = STEPS_PER_WINDOW * STEP_FLOATS;

/// Rows before a frame's place that its window begins at: half of a window.
const ROWS_BEFORE: u64 = STEPS_PER_WINDOW as u64 / 2;

/// Frames of a clip of which only the steps are known: `n_steps + 2`, a frame for each row of `f`;
/// 0 without steps.
///
/// The clip's audio covers one or two frames more, which cannot be told from the steps: a client that
/// knows its audio asks for them by count.
#[must_use]
pub fn frames_of_steps(n_steps: u64) -> u64 {
    if n_steps == 0 { 0 } else { n_steps + 2 }
}

/// Feature steps in, the windows of video frames out.
#[derive(Debug)]
pub struct WindowStream {
    /// Rows of `f` still needed, the oldest first.
    recent: Vec<f32>,
    /// Rows dropped from the front of `recent`.
    n_dropped: u64,
    next_frame: u64,
}

impl WindowStream {
    /// An empty clip, to make windows from `first_frame` on.
    #[must_use]
    pub fn new(first_frame: u64) -> Self {
        Self {
            recent: Vec::new(),
            n_dropped: 0,
            next_frame: first_frame,
        }
    }

    /// Takes whole steps and appends the windows that they complete, [`WINDOW_FLOATS`] each.
    ///
    /// # Errors
    /// [`AudioError::ValueCount`] when `steps` is no multiple of [`STEP_FLOATS`]; then nothing is consumed.
    pub fn push(&mut self, steps: &[f32], windows: &mut Vec<f32>) -> Result<(), AudioError> {
        if !steps.len().is_multiple_of(STEP_FLOATS) {
            return Err(AudioError::ValueCount {
                what: "steps",
                n_values: steps.len(),
                item_values: STEP_FLOATS,
            });
        }
        if self.n_rows() == 0 {
            self.recent.extend(steps.iter().take(STEP_FLOATS));
        }
        self.recent.extend_from_slice(steps);
        while self.next_frame.saturating_add(ROWS_BEFORE) <= self.n_rows() {
            self.append_window(windows);
        }
        self.drop_rows();
        Ok(())
    }

    /// Ends the clip and appends the windows of its last frames, `n_frames` frames in all.
    ///
    /// Without any steps there is nothing to see, and no window is made.
    pub fn finish(mut self, n_frames: u64, windows: &mut Vec<f32>) {
        let Some(last) = self.recent.len().checked_sub(STEP_FLOATS) else {
            return;
        };
        self.recent.extend_from_within(last..);
        while self.next_frame < n_frames {
            self.append_window(windows);
        }
    }

    /// The next frame to come out.
    #[must_use]
    pub fn next_frame(&self) -> u64 {
        self.next_frame
    }

    /// Steps consumed so far.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.n_rows().saturating_sub(1)
    }

    /// Rows of `f` known so far.
    fn n_rows(&self) -> u64 {
        self.n_dropped + (self.recent.len() / STEP_FLOATS) as u64
    }

    fn append_window(&mut self, windows: &mut Vec<f32>) {
        let n_rows = self.n_rows();
        for place in self.next_frame..self.next_frame + STEPS_PER_WINDOW as u64 {
            // `place` counts from row -8 of `f`, so that it cannot be negative.
            match place.checked_sub(ROWS_BEFORE) {
                Some(row) if row < n_rows => {
                    let offset = usize::try_from(row - self.n_dropped).expect("in memory");
                    windows.extend_from_slice(&self.recent[offset * STEP_FLOATS..][..STEP_FLOATS]);
                }
                _ => windows.resize(windows.len() + STEP_FLOATS, 0.0),
            }
        }
        self.next_frame += 1;
    }

    /// Drops the rows that no later frame sees, except the last one, which the end may repeat.
    fn drop_rows(&mut self) {
        let first_needed = self.next_frame.saturating_sub(ROWS_BEFORE);
        let n_surplus = first_needed
            .min(self.n_rows().saturating_sub(1))
            .saturating_sub(self.n_dropped);
        // Never more than the rows in memory, by the line above.
        let n_values = usize::try_from(n_surplus).unwrap_or(0) * STEP_FLOATS;
        self.recent.drain(..n_values);
        self.n_dropped += n_surplus;
    }
}
