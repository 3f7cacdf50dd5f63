//! Which feature steps one video frame sees.
//!
//! Frame `i` sees the rows `f[i - n/2 .. i + n/2)`, zeros outside, where `n` is 16 or 8.
//!
//! Of AVE models, the steps of a clip are framed by one duplicate at each end, `f = [first, steps..., last]`: with 16
//! steps, from step `i - 9` to step `i + 6`. Of the others, the steps are the rows.
//!
//! Source: `get_audio_features` and the inference scripts of SyncTalk_2D and Ultralight-Digital-Human.

#[cfg(test)]
mod tests;

use crate::{AudioError, SpeechForm};

/// Feature steps in, the windows of video frames out.
#[derive(Debug)]
pub struct WindowStream {
    form: SpeechForm,
    /// Rows of `f` still needed, the oldest first.
    recent: Vec<f32>,
    /// Rows dropped from the front of `recent`.
    n_dropped: u64,
    next_frame: u64,
}

impl WindowStream {
    /// An empty clip, to make windows from `first_frame` on.
    #[must_use]
    pub fn new(form: SpeechForm, first_frame: u64) -> Self {
        Self {
            form,
            recent: Vec::new(),
            n_dropped: 0,
            next_frame: first_frame,
        }
    }

    /// Takes whole steps and appends the windows that they complete, [`SpeechForm::window_floats`] each.
    ///
    /// # Errors
    /// [`AudioError::ValueCount`] when `steps` is no multiple of [`SpeechForm::step_floats`]; then nothing is consumed.
    pub fn push(&mut self, steps: &[f32], windows: &mut Vec<f32>) -> Result<(), AudioError> {
        let step_floats = self.form.step_floats();
        if !steps.len().is_multiple_of(step_floats) {
            return Err(AudioError::ValueCount {
                what: "steps",
                n_values: steps.len(),
                item_values: step_floats,
            });
        }
        if self.n_rows() == 0 && self.form.step.repeats_ends {
            self.recent.extend(steps.iter().take(step_floats));
        }
        self.recent.extend_from_slice(steps);
        while self.next_frame.saturating_add(self.form.rows_before()) <= self.n_rows() {
            self.append_window(windows);
        }
        self.drop_rows();
        Ok(())
    }

    /// Ends the clip and appends the windows of its last frames, `n_frames` frames in all.
    ///
    /// Without any steps there is nothing to see, and no window is made.
    pub fn finish(mut self, n_frames: u64, windows: &mut Vec<f32>) {
        let Some(last) = self.recent.len().checked_sub(self.form.step_floats()) else {
            return;
        };
        if self.form.step.repeats_ends {
            self.recent.extend_from_within(last..);
        }
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
        self.n_rows().saturating_sub(self.form.rows_added())
    }

    /// Rows of `f` known so far.
    fn n_rows(&self) -> u64 {
        self.n_dropped + (self.recent.len() / self.form.step_floats()) as u64
    }

    fn append_window(&mut self, windows: &mut Vec<f32>) {
        let (n_rows, n_floats) = (self.n_rows(), self.form.step_floats());
        for place in self.next_frame..self.next_frame + self.form.n_steps as u64 {
            // `place` counts from half a window before `f`, so that it cannot be negative.
            match place.checked_sub(self.form.rows_before()) {
                Some(row) if row < n_rows => {
                    let offset = usize::try_from(row - self.n_dropped).expect("in memory");
                    windows.extend_from_slice(&self.recent[offset * n_floats..][..n_floats]);
                }
                _ => windows.resize(windows.len() + n_floats, 0.0),
            }
        }
        self.next_frame += 1;
    }

    /// Drops the rows that no later frame sees, except the last one, which the end may repeat.
    fn drop_rows(&mut self) {
        let first_needed = self.next_frame.saturating_sub(self.form.rows_before());
        let n_surplus = first_needed
            .min(self.n_rows().saturating_sub(1))
            .saturating_sub(self.n_dropped);
        // Never more than the rows in memory, by the line above.
        let n_values = usize::try_from(n_surplus).unwrap_or(0) * self.form.step_floats();
        self.recent.drain(..n_values);
        self.n_dropped += n_surplus;
    }
}
