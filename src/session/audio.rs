//! The forms in which a session takes audio.

use crate::v1::{AudioInput, OpenSession, PcmEncoding};

/// What the audio of a session is. An *item* is a sample of every channel, a step or a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioFormat {
    /// 16-bit samples, little-endian, interleaved.
    PcmS16 {
        /// 4,000 to 192,000.
        rate_hz: u32,
        /// 1 or 2.
        n_channels: u32,
    },
    /// 32-bit float samples, little-endian, interleaved, nominal range -1..1.
    PcmF32 {
        /// 4,000 to 192,000.
        rate_hz: u32,
        /// 1 or 2.
        n_channels: u32,
    },
    /// Feature steps, one a frame: f32 LE.
    Steps {
        /// Values in one step (AVE: 512).
        n_floats: usize,
    },
    /// Feature windows as the network takes them, one a frame: f32 LE.
    Windows {
        /// Values in one window (AVE: 32 x 16 x 16).
        n_floats: usize,
    },
}

impl AudioFormat {
    /// One channel of 16-bit samples, as most microphones and text-to-speech engines give them.
    #[must_use]
    pub fn mono_s16(rate_hz: u32) -> Self {
        Self::PcmS16 {
            rate_hz,
            n_channels: 1,
        }
    }

    /// Bytes of one item.
    #[must_use]
    pub fn item_bytes(self) -> usize {
        let n_bytes = match self {
            Self::PcmS16 { n_channels, .. } => 2 * channels(n_channels),
            Self::PcmF32 { n_channels, .. } => 4 * channels(n_channels),
            Self::Steps { n_floats } | Self::Windows { n_floats } => n_floats.saturating_mul(4),
        };
        n_bytes.max(1)
    }

    /// Items in a second of speech, for a model of `fps` frames a second.
    #[must_use]
    pub fn items_per_s(self, fps: u32) -> u32 {
        match self {
            Self::PcmS16 { rate_hz, .. } | Self::PcmF32 { rate_hz, .. } => rate_hz,
            Self::Steps { .. } | Self::Windows { .. } => fps,
        }
    }

    /// Whether its numbers are 32-bit floats; otherwise they are 16-bit samples.
    pub(super) fn is_float(self) -> bool {
        !matches!(self, Self::PcmS16 { .. })
    }

    /// Announces it.
    pub(super) fn describe(self, open: &mut OpenSession) {
        match self {
            Self::PcmS16 {
                rate_hz,
                n_channels,
            } => {
                open.set_audio_input(AudioInput::Pcm);
                open.set_encoding(PcmEncoding::S16le);
                (open.sample_rate_hz, open.channels) = (rate_hz, n_channels);
            }
            Self::PcmF32 {
                rate_hz,
                n_channels,
            } => {
                open.set_audio_input(AudioInput::Pcm);
                open.set_encoding(PcmEncoding::F32le);
                (open.sample_rate_hz, open.channels) = (rate_hz, n_channels);
            }
            Self::Steps { .. } => open.set_audio_input(AudioInput::Steps),
            Self::Windows { .. } => open.set_audio_input(AudioInput::Windows),
        }
    }
}

/// As the server reads the field: 0 means one.
fn channels(n_channels: u32) -> usize {
    usize::try_from(n_channels).unwrap_or(usize::MAX / 8).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_have_the_size_that_the_wire_gives_them() {
        assert_eq!(AudioFormat::mono_s16(16_000).item_bytes(), 2);
        let stereo = AudioFormat::PcmF32 {
            rate_hz: 48_000,
            n_channels: 2,
        };
        assert_eq!((stereo.item_bytes(), stereo.items_per_s(25)), (8, 48_000));
        let windows = AudioFormat::Windows {
            n_floats: 32 * 16 * 16,
        };
        assert_eq!(
            (windows.item_bytes(), windows.items_per_s(25)),
            (32_768, 25)
        );
    }
}
