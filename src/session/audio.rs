//! The audio formats of a session.

use crate::v1::{AudioInput, OpenSession, PcmEncoding};

/// The audio format of a session. An *item* is a sample of every channel, a step or a window.
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
    /// ITU-T G.711 mu-law, a byte a sample, interleaved: telephony in North America and Japan.
    PcmMulaw {
        /// 4,000 to 192,000; usually 8,000.
        rate_hz: u32,
        /// 1 or 2.
        n_channels: u32,
    },
    /// ITU-T G.711 A-law, a byte a sample, interleaved: telephony elsewhere.
    PcmAlaw {
        /// 4,000 to 192,000; usually 8,000.
        rate_hz: u32,
        /// 1 or 2.
        n_channels: u32,
    },
    /// Feature steps, one a frame: f32 LE.
    Steps {
        /// Values in one step (AVE: 512).
        n_floats: usize,
    },
    /// Feature windows in the network's layout, one a frame: f32 LE.
    Windows {
        /// Values in one window (AVE: 32 x 16 x 16).
        n_floats: usize,
    },
}

impl AudioFormat {
    /// One channel of 16-bit samples, the format of most microphones and text-to-speech engines.
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
            Self::Steps { n_floats } | Self::Windows { n_floats } => n_floats.saturating_mul(4),
            pcm => match pcm.pcm() {
                Some(pcm) => pcm.sample_bytes * channels(pcm.n_channels),
                None => 1,
            },
        };
        n_bytes.max(1)
    }

    /// Items in a second of speech, for a model of `fps` frames a second.
    #[must_use]
    pub fn items_per_s(self, fps: u32) -> u32 {
        self.pcm().map_or(fps, |pcm| pcm.rate_hz)
    }

    /// The type of its numbers.
    pub(super) fn numbers(self) -> Numbers {
        match self {
            Self::PcmS16 { .. } => Numbers::Samples16,
            Self::PcmMulaw { .. } | Self::PcmAlaw { .. } => Numbers::Codes,
            Self::PcmF32 { .. } | Self::Steps { .. } | Self::Windows { .. } => Numbers::Floats,
        }
    }

    /// Whether it has samples, which may be cut anywhere. Steps and windows must be whole.
    pub(super) fn is_pcm(self) -> bool {
        self.pcm().is_some()
    }

    /// Announces it.
    pub(super) fn describe(self, open: &mut OpenSession) {
        open.set_audio_input(match self {
            Self::Steps { .. } => AudioInput::Steps,
            Self::Windows { .. } => AudioInput::Windows,
            _ => AudioInput::Pcm,
        });
        if let Some(pcm) = self.pcm() {
            open.set_encoding(pcm.encoding);
            (open.sample_rate_hz, open.channels) = (pcm.rate_hz, pcm.n_channels);
        }
    }

    fn pcm(self) -> Option<Pcm> {
        let (encoding, sample_bytes, rate_hz, n_channels) = match self {
            Self::PcmS16 {
                rate_hz,
                n_channels,
            } => (PcmEncoding::S16le, 2, rate_hz, n_channels),
            Self::PcmF32 {
                rate_hz,
                n_channels,
            } => (PcmEncoding::F32le, 4, rate_hz, n_channels),
            Self::PcmMulaw {
                rate_hz,
                n_channels,
            } => (PcmEncoding::Mulaw, 1, rate_hz, n_channels),
            Self::PcmAlaw {
                rate_hz,
                n_channels,
            } => (PcmEncoding::Alaw, 1, rate_hz, n_channels),
            Self::Steps { .. } | Self::Windows { .. } => return None,
        };
        Some(Pcm {
            encoding,
            sample_bytes,
            rate_hz,
            n_channels,
        })
    }
}

/// The type of a format's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    Samples16,
    Floats,
    /// Bytes of G.711.
    Codes,
}

/// A sample format.
struct Pcm {
    encoding: PcmEncoding,
    sample_bytes: usize,
    rate_hz: u32,
    n_channels: u32,
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
        let telephony = AudioFormat::PcmMulaw {
            rate_hz: 8_000,
            n_channels: 1,
        };
        assert_eq!(
            (telephony.item_bytes(), telephony.items_per_s(25)),
            (1, 8_000)
        );
        let windows = AudioFormat::Windows {
            n_floats: 32 * 16 * 16,
        };
        assert_eq!(
            (windows.item_bytes(), windows.items_per_s(25)),
            (32_768, 25)
        );
    }
}
