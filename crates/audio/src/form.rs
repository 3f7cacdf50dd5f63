//! How sound becomes the windows of one model: its audio kind, and how many steps its windows have.

use lipsync_core::{Fps, family::StepForm};

/// The form of a model's audio: which front-end makes it, and what a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeechForm {
    /// How steps are made.
    pub step: StepForm,
    /// Steps of a window, an even number.
    pub n_steps: usize,
}

impl SpeechForm {
    /// That of AVE models.
    pub const AVE: Self = Self::new(StepForm::AVE, [32, 16, 16]);

    /// The form of a model with windows of this shape.
    #[must_use]
    pub const fn new(step: StepForm, window: [usize; 3]) -> Self {
        Self {
            step,
            n_steps: step.n_steps(window),
        }
    }

    /// Frames a second.
    #[must_use]
    pub const fn fps(self) -> Fps {
        self.step.fps
    }

    /// Floats of one feature step.
    #[must_use]
    pub const fn step_floats(self) -> usize {
        self.step.n_floats
    }

    /// Floats of one window: `[n_steps, step_floats]`, row-major.
    #[must_use]
    pub const fn window_floats(self) -> usize {
        self.n_steps * self.step.n_floats
    }

    /// Floats of what the encoder reads at once.
    #[must_use]
    pub const fn patch_floats(self) -> usize {
        self.step.patch.n_floats()
    }

    /// Rows of a window before the frame's own place.
    pub(crate) const fn rows_before(self) -> u64 {
        self.n_steps as u64 / 2
    }

    /// Rows that a clip has more of than steps, at each end.
    pub(crate) const fn rows_added(self) -> u64 {
        self.step.repeats_ends as u64
    }

    /// Frames of a clip of which only the steps are known: a frame for each row; 0 without steps.
    ///
    /// The clip's audio may cover one or two frames more, which cannot be told from the steps: a client that
    /// knows its audio asks for them by count.
    #[must_use]
    pub fn frames_of_steps(self, n_steps: u64) -> u64 {
        if n_steps == 0 {
            0
        } else {
            n_steps.saturating_add(2 * self.rows_added())
        }
    }
}
