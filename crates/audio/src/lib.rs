//! Speech to feature windows: the audio front-ends of AVE, wenet and HuBERT networks, for whole clips and for streams.
//!
//! The way of a sample: [`pcm`] decodes bytes to mono f32, [`resample`] brings any rate to 16 kHz. For AVE,
//! [`mel`] makes a row of 80 mel bands every 12.5 ms, and [`steps`] cuts the rows into the patches that
//! the audio encoder network reads (25 a second). For wenet, [`fbank`] makes a row of 80 bands every 10 ms, and [`chunks`]
//! cuts them (20 a second). For HuBERT, [`wave`] cuts the samples themselves. [`windows`] groups the network's answers into
//! the window of each video frame; [`patch_windows`] takes the patches themselves for networks that hear mel rows. A
//! [`SpeechForm`] says which of these a model needs. [`front_end`] joins the parts; start there. [`cuts`] says how far
//! the front-end looks ahead and how an utterance may be cut into calls. [`silence`] listens beside all
//! that and says which frames lie in silence.
//!
//! One rule holds everywhere: a value is a pure function of the samples that it is made of and of
//! its place, never of how the audio was cut into pushes. So a stream gives the numbers of the whole
//! clip, bit for bit (on one machine: the FFT picks its instructions by the CPU).
//!
//! No network runs here: the caller runs the encoder between [`steps`] and [`windows`]. Nothing
//! here reads files or starts threads.
#![forbid(unsafe_code)]

pub mod chunks;
pub mod cuts;
pub mod error;
pub mod fbank;
pub mod features;
pub mod form;
pub mod front_end;
mod g711;
pub mod mel;
pub mod patch_windows;
pub mod pcm;
pub mod resample;
pub mod silence;
mod spectrum;
pub mod steps;
#[cfg(test)]
mod testing;
pub mod wave;
pub mod windows;

pub use error::AudioError;
pub use form::SpeechForm;
pub use front_end::{FeatureStream, PatchStream};
pub use patch_windows::PatchWindows;
pub use pcm::{SampleEncoding, decode_pcm};
pub use silence::{SilenceGate, Verdict};
pub use windows::WindowStream;

use lipsync_core::family::StepForm;

/// The sample rate that the features are made at, Hz.
pub const FEATURE_RATE_HZ: u32 = 16_000;
// Places of steps and frames are exact fractions of these rates: see `steps`, `chunks`, `cuts`.
const _: () = assert!(StepForm::AVE.fps.get() == 25 && StepForm::WENET.fps.get() == 20);
const _: () = assert!(StepForm::HUBERT.fps.get() == 25);
/// The lowest sample rate accepted, Hz.
pub const MIN_RATE_HZ: u32 = 4_000;
/// The highest sample rate accepted, Hz.
pub const MAX_RATE_HZ: u32 = 192_000;

/// Checks a sample rate.
///
/// # Errors
/// [`AudioError::SampleRate`] outside [`MIN_RATE_HZ`]..=[`MAX_RATE_HZ`].
pub fn check_rate(rate_hz: u32) -> Result<(), AudioError> {
    if (MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz) {
        Ok(())
    } else {
        Err(AudioError::SampleRate { rate_hz })
    }
}
