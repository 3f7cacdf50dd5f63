//! How far the front-end looks ahead, and how an utterance is cut into calls.
//!
//! # Looking ahead
//! Frame `i` belongs to the sample at `i x rate / fps`. Of an AVE model, its window ends with step `i + 6`, whose
//! last mel row is centred on sample `200 (floor(16 (i + 6) / 5) + 15)` at 16 kHz and reaches 400
//! samples further: 7,080 to 7,240 samples (442.5 to 452.5 ms) after the frame's own time, by
//! `i mod 5`. A resampler adds the reach of its filter, 3 ms (more below 16 kHz: 6 ms at 8 kHz, 12
//! ms at 4 kHz). No stream can be faster.
//!
//! Of a wenet model, step `k` hears from 320 ms before its time to 365 ms after it, and frame `i` sees the steps up to
//! `i + 7` (windows of 16 steps) or `i + 3` (of 8): 715 or 515 ms ahead.
//!
//! Of a HuBERT model, steps come 20 at a time ([`wave`](crate::wave)), with the last sample of the 0.4 s behind them.
//!
//! Where the window of a frame is mel rows alone ([`PatchWindows`](crate::PatchWindows)), it is the input of
//! step `i`: 3,272 to 3,400 samples (204.5 to 212.5 ms) after the frame's own time.
//!
//! # Cutting
//! The numbers of this section are those of AVE models, which the clients of the server know. The methods give those of
//! other kinds.
//!
//! A client may cut an utterance into calls that each give some of its frames, bit-equal to those of
//! one whole call. Call the offset of a call's audio in the utterance its *cut*. Then:
//!
//! 1. The cut is at a multiple of [`SpeechForm::cut_alignment_frames`] frames, where it is a whole number of
//!    source samples too. Frames, steps (25 a second) and mel rows (80 a second) share a grid
//!    every 5 frames (200 ms, 16 rows) only. Rates divisible by 5, which all usual ones are, cut there; for others 25
//!    frames (1 s) are the first place that is a whole number of samples.
//! 2. The call sends at least 10 ([`SpeechForm::context_left_frames`]) frames of audio before the first frame that it
//!    wants, and says so in `first_frame`. A cut spoils the audio to its left: the
//!    resampler's zeros, the first pre-emphasised sample, the zero-padded mel rows. None of that
//!    reaches row 3, where step 1 begins, so only the call's step 0 is wrong; frame 9 sees it as
//!    `f[1]`, frame 10 is the first that does not.
//! 3. The call sends [`CONTEXT_RIGHT_FRAMES`] frames of audio after the last frame that it wants, or all
//!    that is left of the utterance. With `end_of_utterance = false` only frames that have this
//!    context come out, so a client need not count; with `true` the call's last frames follow the
//!    end rule, which is right in the last call only.
//!
//! The first call begins at the utterance's start and needs no left context.
//!
//! Where windows are mel rows, less context would do. The same serves.
//!
//! Utterances given as feature steps cut at any step: [`SpeechForm::step_context_left`] steps before the first wanted
//! frame's, [`SpeechForm::step_context_right`] after the last one's.

#[cfg(test)]
mod tests;

use lipsync_core::{
    Fps,
    family::{PatchForm, STEP_OVERHANG, STEP_SAMPLES},
    saturate::u64_of,
};

use crate::{
    FEATURE_RATE_HZ, SpeechForm,
    chunks::{ROWS_PER_CHUNK, ROWS_PER_STEP as ROWS_PER_CHUNK_STEP},
    fbank, mel,
    resample::reach_samples,
    steps::{ROWS_PER_STEP, first_row},
};

/// Whole frames of audio that a call needs after the last frame it is to make, of AVE models.
pub const CONTEXT_RIGHT_FRAMES: u64 = 11;

/// The sample that frame `frame` of an utterance belongs to, `frame x rate / fps` rounded down.
#[must_use]
pub fn frame_sample(frame: u64, (rate_hz, fps): (u32, Fps)) -> u64 {
    let sample = u128::from(frame) * u128::from(rate_hz) / u128::from(fps.get());
    u64_of(sample)
}

impl SpeechForm {
    /// Frames between possible cuts: as few as are a whole number of samples and of the front-end's rows, or else a
    /// second or five. AVE: 5 (200 ms); wenet: 1; HuBERT: 20 (800 ms).
    #[must_use]
    pub fn cut_alignment_frames(self, rate_hz: u32) -> u64 {
        let fps = u64::from(self.fps());
        let n_frames = match self.step.patch {
            PatchForm::Mel { .. } => 5,
            PatchForm::Fbank { .. } => 1,
            PatchForm::Wave { n_steps, .. } => n_steps as u64,
        };
        let is_whole = |n_frames: u64| (u64::from(rate_hz) * n_frames).is_multiple_of(fps);
        let mut wanted = n_frames;
        // A second's frames times as many are whole at every rate.
        while !is_whole(wanted) {
            wanted += n_frames;
        }
        wanted
    }

    /// Frames of audio that a call needs before its first exact frame. AVE: 10; wenet: 15 or 11; HuBERT: 47 or 43.
    #[must_use]
    pub fn context_left_frames(self) -> u64 {
        match self.step.patch {
            PatchForm::Mel { .. } => self.step_context_left() + 1,
            // What a step hears before its own time; the rest of the last frame is enough for a resampler's reach.
            PatchForm::Fbank { .. } => {
                let samples_per_frame = u64::from(FEATURE_RATE_HZ) / u64::from(self.fps());
                self.step_context_left() + (fbank::LEAD as u64).div_ceil(samples_per_frame)
            }
            // The first step may be the last one of its patch.
            PatchForm::Wave {
                n_left, n_steps, ..
            } => self.step_context_left() + (n_left + n_steps - 1) as u64,
        }
    }

    /// Steps that a call needs before the step of its first exact frame.
    #[must_use]
    pub fn step_context_left(self) -> u64 {
        self.rows_before() + self.rows_added()
    }

    /// Steps that a call needs after the step of the last frame it is to make.
    #[must_use]
    pub fn step_context_right(self) -> u64 {
        self.rows_before()
            .saturating_sub(1)
            .saturating_sub(self.rows_added())
    }

    /// Source samples after which the window of frame `frame` comes out of a stream.
    ///
    /// `rate_hz` is one that [`check_rate`](crate::check_rate) accepts.
    #[must_use]
    pub fn samples_needed(self, frame: u64, rate_hz: u32) -> u64 {
        self.samples_of_step(frame.saturating_add(self.step_context_right()), rate_hz)
    }

    /// Source samples after which what the encoder reads for step `last_step` is there.
    fn samples_of_step(self, last_step: u64, rate_hz: u32) -> u64 {
        let n_resampled = match self.step.patch {
            PatchForm::Mel { .. } => {
                let last_row = u128::from(first_row(last_step)) + ROWS_PER_STEP as u128 - 1;
                last_row * mel::HOP as u128 + mel::WINDOW as u128 / 2
            }
            PatchForm::Fbank { .. } => {
                let first_row = u128::from(last_step) * ROWS_PER_CHUNK_STEP as u128;
                let last_row = first_row + ROWS_PER_CHUNK as u128 - 1;
                (last_row * fbank::HOP as u128 + fbank::WINDOW as u128) - fbank::LEAD as u128
            }
            PatchForm::Wave {
                n_steps, n_right, ..
            } => {
                let first_step = u128::from(last_step) / n_steps as u128 * n_steps as u128;
                let end = first_step + (n_steps + n_right) as u128;
                end * STEP_SAMPLES as u128 + STEP_OVERHANG as u128
            }
        };
        let needed = if rate_hz == FEATURE_RATE_HZ {
            n_resampled
        } else {
            // The resampler's last output lies at this input and reaches further.
            let place = (n_resampled - 1) * u128::from(rate_hz) / u128::from(FEATURE_RATE_HZ);
            place + u128::from(reach_samples(rate_hz)) + 1
        };
        u64_of(needed)
    }

    /// The longest time from a frame's own sample to the sample that completes its window, in
    /// milliseconds rounded up: 453 of AVE at 16 kHz, 715 or 515 of wenet, 1,485 or 1,325 of HuBERT.
    ///
    /// `rate_hz` is one that [`check_rate`](crate::check_rate) accepts.
    #[must_use]
    pub fn look_ahead_ms(self, rate_hz: u32) -> u64 {
        self.longest_ms(rate_hz, |n| self.samples_needed(n, rate_hz))
    }

    /// The longest time from a frame's own sample to the one that is needed for it.
    fn longest_ms(self, rate_hz: u32, samples_needed: impl Fn(u64) -> u64) -> u64 {
        // Everything repeats every second, or with every patch.
        let period = u64::from(self.fps()).max(self.step.patch.n_steps() as u64);
        let n_samples = (0..period)
            .map(|n| samples_needed(n) - frame_sample(n, (rate_hz, self.fps())))
            .max();
        (n_samples.unwrap_or(0) * 1000).div_ceil(u64::from(rate_hz.max(1)))
    }
}

/// As [`SpeechForm::samples_needed`], where windows are mel rows.
#[must_use]
pub fn mel_samples_needed(frame: u64, rate_hz: u32) -> u64 {
    SpeechForm::AVE.samples_of_step(frame, rate_hz)
}

/// As [`SpeechForm::look_ahead_ms`], where windows are mel rows: 213 at 16 kHz.
#[must_use]
pub fn mel_look_ahead_ms(rate_hz: u32) -> u64 {
    SpeechForm::AVE.longest_ms(rate_hz, |n| mel_samples_needed(n, rate_hz))
}
