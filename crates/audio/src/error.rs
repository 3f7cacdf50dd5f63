//! Errors in audio from clients.

use crate::{MAX_RATE_HZ, MIN_RATE_HZ};

/// An error of the audio front-end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    /// Bytes that do not divide into whole items.
    #[error("{n_bytes} bytes of {what} are no multiple of {item_bytes}")]
    ByteLength {
        /// Name of the data.
        what: &'static str,
        /// Length given.
        n_bytes: usize,
        /// Bytes of one item.
        item_bytes: usize,
    },
    /// Values that do not divide into whole items.
    #[error("{n_values} values of {what} are no multiple of {item_values}")]
    ValueCount {
        /// Name of the data.
        what: &'static str,
        /// Count given.
        n_values: usize,
        /// Values of one item.
        item_values: usize,
    },
    /// A value that is NaN or infinite.
    #[error("value {index} of {what} is not finite")]
    NotFinite {
        /// Name of the data.
        what: &'static str,
        /// Place of the first such value, counted from 0.
        index: usize,
    },
    /// Neither mono nor stereo.
    #[error("audio has 1 or 2 channels, not {n_channels}")]
    Channels {
        /// Channels given.
        n_channels: u32,
    },
    /// A sample rate outside the range.
    #[error("the sample rate is {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, not {rate_hz}")]
    SampleRate {
        /// Rate given.
        rate_hz: u32,
    },
    /// The encoder did not answer every patch.
    #[error("the audio encoder made {actual} values where {expected} were expected")]
    EncoderOutput {
        /// Values expected.
        expected: usize,
        /// Values made.
        actual: usize,
    },
}
