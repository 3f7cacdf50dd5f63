//! How far the front-end looks ahead, and how an utterance is cut into calls.
//!
//! # Looking ahead
//! Frame `i` belongs to the sample at `i x rate / 25`. Its window ends with step `i + 6`, whose
//! last mel row is centred on sample `200 (floor(16 (i + 6) / 5) + 15)` at 16 kHz and reaches 400
//! samples further: 7,080 to 7,240 samples (442.5 to 452.5 ms) after the frame's own time, by
//! `i mod 5`. A resampler adds the reach of its filter, 3 ms (more below 16 kHz: 6 ms at 8 kHz, 12
//! ms at 4 kHz). No stream can be faster.
//!
//! Where the window of a frame is mel rows alone ([`PatchWindows`](crate::PatchWindows)), it is the input of
//! step `i`: 3,272 to 3,400 samples (204.5 to 212.5 ms) after the frame's own time.
//!
//! # Cutting
//! A client may cut an utterance into calls that each give some of its frames, bit-equal to those of
//! one whole call. Call the offset of a call's audio in the utterance its *cut*. Then:
//!
//! 1. The cut is at a multiple of [`cut_alignment_frames`] frames, where it is a whole number of
//!    source samples too. Frames, steps (25 a second) and mel rows (80 a second) share a grid
//!    every 5 frames (200 ms, 16 rows) only. Rates divisible by 5, which all usual ones are, cut there; for others 25
//!    frames (1 s) are the first place that is a whole number of samples.
//! 2. The call sends at least [`CONTEXT_LEFT_FRAMES`] frames of audio before the first frame that it
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
//! Utterances given as feature steps cut at any step: [`STEP_CONTEXT_LEFT`] steps before the first wanted
//! frame's, [`STEP_CONTEXT_RIGHT`] after the last one's.

#[cfg(test)]
mod tests;

use lipsync_core::saturate::u64_of;

use crate::{
    FEATURE_RATE_HZ, FPS,
    mel::{HOP, WINDOW},
    resample::reach_samples,
    steps::{ROWS_PER_STEP, first_row},
};

/// Frames of audio that a call needs before its first exact frame.
pub const CONTEXT_LEFT_FRAMES: u64 = 10;
/// Whole frames of audio that a call needs after the last frame it is to make.
pub const CONTEXT_RIGHT_FRAMES: u64 = 11;
/// Frames between possible cuts at all usual rates; see [`cut_alignment_frames`].
pub const CUT_ALIGNMENT_FRAMES: u64 = 5;
/// Steps that a call needs before the step of its first exact frame.
pub const STEP_CONTEXT_LEFT: u64 = 9;
/// Steps that a call needs after the step of the last frame it is to make.
pub const STEP_CONTEXT_RIGHT: u64 = 6;

/// Frames between possible cuts: 5 (200 ms) where that is a whole number of samples, else 25 (1 s).
#[must_use]
pub fn cut_alignment_frames(rate_hz: u32) -> u64 {
    if rate_hz.is_multiple_of(5) {
        CUT_ALIGNMENT_FRAMES
    } else {
        u64::from(FPS)
    }
}

/// The sample that frame `frame` of an utterance belongs to, `frame x rate / 25` rounded down.
#[must_use]
pub fn frame_sample(frame: u64, rate_hz: u32) -> u64 {
    let sample = u128::from(frame) * u128::from(rate_hz) / u128::from(FPS);
    u64_of(sample)
}

/// Source samples after which the window of frame `frame` comes out of a stream.
///
/// `rate_hz` is one that [`check_rate`](crate::check_rate) accepts.
#[must_use]
pub fn samples_needed(frame: u64, rate_hz: u32) -> u64 {
    samples_of_step(frame.saturating_add(6), rate_hz)
}

/// As [`samples_needed`], where windows are mel rows.
#[must_use]
pub fn mel_samples_needed(frame: u64, rate_hz: u32) -> u64 {
    samples_of_step(frame, rate_hz)
}

/// Source samples after which the mel rows of step `step` are there.
fn samples_of_step(step: u64, rate_hz: u32) -> u64 {
    let last_row = u128::from(first_row(step)) + ROWS_PER_STEP as u128 - 1;
    let n_resampled = last_row * HOP as u128 + WINDOW as u128 / 2;
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
/// milliseconds rounded up: 453 at 16 kHz.
///
/// `rate_hz` is one that [`check_rate`](crate::check_rate) accepts.
#[must_use]
pub fn look_ahead_ms(rate_hz: u32) -> u64 {
    longest_ms(rate_hz, samples_needed)
}

/// As [`look_ahead_ms`], where windows are mel rows: 213 at 16 kHz.
#[must_use]
pub fn mel_look_ahead_ms(rate_hz: u32) -> u64 {
    longest_ms(rate_hz, mel_samples_needed)
}

fn longest_ms(rate_hz: u32, samples_needed: fn(u64, u32) -> u64) -> u64 {
    // Everything repeats every second, that is 25 frames.
    let n_samples = (0..u64::from(FPS))
        .map(|frame| samples_needed(frame, rate_hz) - frame_sample(frame, rate_hz))
        .max();
    (n_samples.unwrap_or(0) * 1000).div_ceil(u64::from(rate_hz.max(1)))
}
