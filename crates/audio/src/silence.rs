//! A gate that finds the video frames in silence, so that no network has to run for them.
//!
//! # Measuring
//! The samples, at their own rate, pass a high-pass filter (two poles at 100 Hz, because offsets and
//! hum are not speech). They are measured in blocks of 10 ms. The power of the blocks is smoothed with a
//! time constant of 30 ms. The gate opens when that level rises above −50 dB, and 9 dB above the noise.
//! It closes when the level has stayed below −55 dB, or less than 6 dB above the noise, for 200 ms.
//! Levels are mean squares relative to a full scale of 1. The noise is the least level of the last 3
//! seconds (pauses between words are enough), limited to −65 to −40 dB. So steady noise louder than that counts as
//! speech.
//!
//! Speech is usually sent at about −26 dB; ITU-T P.56 counts levels within 15.9 dB of that as active: −42 dB
//! and above. Ours leaves 8 dB more for soft speakers. The time constant and the hold
//! time are those of P.56. The noise estimate follows R. Martin, "Noise power spectral density
//! estimation based on optimal smoothing and minimum statistics" (2001), for one band.
//!
//! # Verdicts
//! A frame counts as speech if the gate is open anywhere from the frame's own time to 240 ms after it (250 ms at 20 fps),
//! because mouths move before they are heard, and networks look ahead. The look-ahead of feature steps is longer
//! ([`cuts`](crate::cuts)), so waiting for this costs no time; that of mel rows is 27 ms shorter.
//!
//! Everything is sums, products and comparisons of f64 in one fixed order: a pure function of the samples so
//! far. The cut into pushes does not matter.
//!
//! # Resuming
//! Filters, level and noise forget what lies more than 4 seconds back; whether the gate is open may depend on all that
//! came before. So a gate that resumes at a frame hears [`CONTEXT_S`] before it again, from a whole second on, and is
//! given the [`Verdict::mark`] of the frame before: then its verdicts are those of a gate that has heard everything.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use lipsync_core::{Fps, saturate::u64_of};

use crate::{AudioError, check_rate, cuts::frame_sample};

/// Blocks a second.
const BLOCK_HZ: u32 = 100;
/// Blocks from a frame's own time on that decide about it, 240 ms, in whole frames.
const BLOCKS_AHEAD: u64 = 24;
/// Blocks below the closing level that close the gate: 200 ms.
const HOLD_BLOCKS: u32 = 20;
/// `1 - exp(-10 ms / 30 ms)`.
const SMOOTHING: f64 = 0.283_468_689;
const HIGH_PASS_HZ: f64 = 100.0;
/// −50 dB.
const OPEN_POWER: f64 = 1e-5;
/// −55 dB.
const CLOSE_POWER: f64 = 3.162e-6;
/// 9 dB.
const OPEN_OVER_NOISE: f64 = 7.943;
/// 6 dB.
const CLOSE_OVER_NOISE: f64 = 3.981;
/// −65 and −40 dB.
const NOISE_POWER: (f64, f64) = (3.162e-7, 1e-4);
/// The noise is the lowest level of this many spans of [`SPAN_BLOCKS`].
const N_SPANS: usize = 12;
/// Marks that wait for the verdict on the frame before: those of the time that a gate looks ahead, and some.
const MAX_MARKS: usize = 16;
/// 250 ms.
const SPAN_BLOCKS: u64 = 25;

/// Seconds of audio that a gate must hear before the frame at which it resumes: one second in which its filters settle,
/// and three of noise.
pub const CONTEXT_S: u64 = 4;
/// A gate that resumes begins at a multiple of this many seconds, where its blocks and spans begin too.
pub const RESUME_ALIGNMENT_S: u64 = 1;

/// What a gate says of one video frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The frame shows speech.
    pub speaks: bool,
    /// The gate at the beginning of the next frame, for [`SilenceGate::resumed`].
    pub mark: u8,
}

/// Samples in, a verdict for each video frame out.
#[derive(Debug)]
pub struct SilenceGate {
    rate_hz: u32,
    blocks_per_frame: u64,
    high_pass: [HighPass; 2],
    n_samples: u64,
    /// Where the block that is being measured ends.
    block_end: u64,
    block_power: f64,
    block_samples: u32,
    n_blocks: u64,
    level: f64,
    noise: Noise,
    is_open: bool,
    n_quiet: u32,
    last_open: Option<u64>,
    next_frame: u64,
    /// Frames from the next one on, and the gate at their beginning.
    marks: VecDeque<(u64, u8)>,
    /// A block, and the gate at its beginning.
    resumes: Option<(u64, u8)>,
}

impl SilenceGate {
    /// How far a verdict looks ahead, in milliseconds, at 25 fps.
    pub const LOOK_AHEAD_MS: u64 = 1000 * BLOCKS_AHEAD / BLOCK_HZ as u64;

    /// The gate of an utterance at `rate_hz`, closed; for frames that are a whole number of blocks long, such as those of
    /// 20 and 25 fps.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub fn new(rate_hz: u32, fps: Fps) -> Result<Self, AudioError> {
        check_rate(rate_hz)?;
        Ok(Self {
            rate_hz,
            blocks_per_frame: blocks_per_frame(fps),
            high_pass: [HighPass::new(rate_hz); 2],
            n_samples: 0,
            block_end: block_end(0, rate_hz),
            block_power: 0.0,
            block_samples: 0,
            n_blocks: 0,
            level: 0.0,
            noise: Noise::new(),
            is_open: false,
            n_quiet: 0,
            last_open: None,
            next_frame: 0,
            marks: VecDeque::new(),
            resumes: None,
        })
    }

    /// The gate of an utterance whose audio begins somewhere in it, to give the verdicts from `frame` on.
    ///
    /// `frame` counts from that beginning, which lies at a multiple of [`RESUME_ALIGNMENT_S`] and at least
    /// [`CONTEXT_S`] before it. `mark` is that of the verdict on the frame before.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub fn resumed((rate_hz, fps): (u32, Fps), frame: u64, mark: u8) -> Result<Self, AudioError> {
        Ok(Self {
            resumes: Some((frame.saturating_mul(blocks_per_frame(fps)), mark)),
            ..Self::from_frame((rate_hz, fps), frame)?
        })
    }

    /// The gate of an utterance, to give the verdicts from `frame` on.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`].
    pub fn from_frame((rate_hz, fps): (u32, Fps), frame: u64) -> Result<Self, AudioError> {
        Ok(Self {
            next_frame: frame,
            ..Self::new(rate_hz, fps)?
        })
    }

    /// Consumes finite mono samples and appends the verdicts that they decide, one per frame, in order.
    pub fn push(&mut self, samples: &[f32], frames: &mut Vec<Verdict>) {
        for &sample in samples {
            let [first, second] = &mut self.high_pass;
            let filtered = second.filter(first.filter(f64::from(sample)));
            self.block_power += filtered * filtered;
            self.block_samples += 1;
            self.n_samples += 1;
            if self.n_samples == self.block_end {
                self.end_block();
                let n_ahead = frames_ahead(self.blocks_per_frame);
                if self.n_blocks >= (self.next_frame + n_ahead) * self.blocks_per_frame {
                    self.judge(frames);
                }
            }
        }
    }

    /// Ends the utterance and appends the verdicts of the frames up to `n_frames` in all.
    pub fn finish(mut self, n_frames: u64, frames: &mut Vec<Verdict>) {
        if self.block_samples > 0 {
            self.end_block();
        }
        while self.next_frame < n_frames {
            self.judge(frames);
        }
    }

    /// Source samples after which the verdict of a frame is known.
    #[must_use]
    pub fn samples_needed(frame: u64, (rate_hz, fps): (u32, Fps)) -> u64 {
        let n_ahead = frames_ahead(blocks_per_frame(fps));
        frame_sample(frame.saturating_add(n_ahead), (rate_hz, fps))
    }

    fn judge(&mut self, frames: &mut Vec<Verdict>) {
        let first = self.next_frame * self.blocks_per_frame;
        self.next_frame += 1;
        let is_over = |&(frame, _): &(u64, u8)| frame < self.next_frame;
        while self.marks.front().is_some_and(is_over) {
            self.marks.pop_front();
        }
        frames.push(Verdict {
            speaks: self.last_open.is_some_and(|last| last >= first),
            mark: self.marks.front().map_or(self.mark(), |&(_, mark)| mark),
        });
    }

    /// 0 where the gate is closed, or else 1 and the quiet blocks so far.
    fn mark(&self) -> u8 {
        let n_quiet = self.n_quiet.min(HOLD_BLOCKS);
        let open = u8::try_from(n_quiet + 1).unwrap_or(u8::MAX);
        if self.is_open { open } else { 0 }
    }

    fn begin_block(&mut self) {
        if let Some((_, mark)) = self.resumes.take_if(|(block, _)| *block == self.n_blocks) {
            self.is_open = mark > 0;
            self.n_quiet = u32::from(mark.saturating_sub(1));
        }
        if self.n_blocks.is_multiple_of(self.blocks_per_frame) {
            let frame = self.n_blocks / self.blocks_per_frame;
            self.marks.push_back((frame, self.mark()));
            // More than are ever looked at.
            if self.marks.len() > MAX_MARKS {
                self.marks.pop_front();
            }
        }
    }

    fn end_block(&mut self) {
        self.begin_block();
        let power = self.block_power / f64::from(self.block_samples.max(1));
        self.level += SMOOTHING * (power - self.level);
        let noise = self.noise.follow(self.level);
        if self.level > OPEN_POWER.max(noise * OPEN_OVER_NOISE) {
            self.is_open = true;
            self.n_quiet = 0;
        } else if self.level < CLOSE_POWER.max(noise * CLOSE_OVER_NOISE) {
            self.n_quiet = self.n_quiet.saturating_add(1);
            self.is_open &= self.n_quiet < HOLD_BLOCKS;
        } else {
            self.n_quiet = 0;
        }
        if self.is_open {
            self.last_open = Some(self.n_blocks);
        }
        self.n_blocks += 1;
        self.block_power = 0.0;
        self.block_samples = 0;
        self.block_end = block_end(self.n_blocks, self.rate_hz);
    }
}

/// Blocks of one video frame.
fn blocks_per_frame(fps: Fps) -> u64 {
    u64::from(BLOCK_HZ / fps.get()).max(1)
}

/// Frames from a frame's own time on that decide about it.
fn frames_ahead(blocks_per_frame: u64) -> u64 {
    BLOCKS_AHEAD.div_ceil(blocks_per_frame)
}

/// The sample after the last one of a block.
fn block_end(block: u64, rate_hz: u32) -> u64 {
    let end = (u128::from(block) + 1) * u128::from(rate_hz) / u128::from(BLOCK_HZ);
    u64_of(end)
}

/// One pole and a zero at 0 Hz.
#[derive(Debug, Clone, Copy)]
struct HighPass {
    pole: f64,
    input: f64,
    output: f64,
}

impl HighPass {
    fn new(rate_hz: u32) -> Self {
        let step = std::f64::consts::TAU * HIGH_PASS_HZ / f64::from(rate_hz);
        Self {
            pole: 1.0 / (1.0 + step),
            input: 0.0,
            output: 0.0,
        }
    }

    fn filter(&mut self, input: f64) -> f64 {
        self.output = self.pole * (self.output + input - self.input);
        self.input = input;
        self.output
    }
}

/// The least level of the last few seconds.
#[derive(Debug)]
struct Noise {
    /// Least levels of the spans before, the oldest overwritten first. Before anything was heard it
    /// counts as quiet.
    spans: [f64; N_SPANS],
    current: f64,
    n_blocks: u64,
}

impl Noise {
    fn new() -> Self {
        Self {
            spans: [0.0; N_SPANS],
            current: f64::INFINITY,
            n_blocks: 0,
        }
    }

    fn follow(&mut self, level: f64) -> f64 {
        self.current = self.current.min(level);
        self.n_blocks += 1;
        let least = self.spans.iter().fold(self.current, |a, &b| a.min(b));
        if self.n_blocks.is_multiple_of(SPAN_BLOCKS) {
            let span = self.n_blocks / SPAN_BLOCKS % N_SPANS as u64;
            // Below N_SPANS.
            self.spans[usize::try_from(span).unwrap_or(0)] = self.current;
            self.current = f64::INFINITY;
        }
        least.clamp(NOISE_POWER.0, NOISE_POWER.1)
    }
}
