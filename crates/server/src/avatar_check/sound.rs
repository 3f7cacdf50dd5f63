//! The speech that an avatar is tried with.

use lipsync::{avi::Sound, wav::Wav};

/// What the page plays first: five seconds, made by espeak-ng.
const BUILT_IN: &[u8] = include_bytes!("../../../../assets/speech/welcome.wav");
/// Silence before and after, so that resting can be judged, ms.
const SILENCE_MS: usize = 600;
/// What of a recording is used, s.
const MAX_S: usize = 30;

/// Speech between silences.
#[derive(Debug, Clone)]
pub struct Speech {
    wav: Wav,
    /// Whether a recording was cut.
    pub is_cut: bool,
}

impl Speech {
    /// The built-in sentence.
    #[must_use]
    pub fn built_in() -> Self {
        // The file is a part of the program, and a test reads it.
        let wav = Wav::parse(BUILT_IN).unwrap_or(Wav {
            rate_hz: 16_000,
            n_channels: 1,
            samples: vec![0; 16_000],
        });
        Self::of(wav)
    }

    /// A recording, of which the first 30 s are used.
    #[must_use]
    pub fn of(mut wav: Wav) -> Self {
        let rate = usize::try_from(wav.rate_hz).unwrap_or(0) * usize::from(wav.n_channels);
        let is_cut = wav.samples.len() > MAX_S * rate;
        wav.samples.truncate(MAX_S * rate);
        let n_channels = usize::from(wav.n_channels.max(1));
        let n_silent = rate * SILENCE_MS / 1000 / n_channels * n_channels;
        wav.samples.splice(..0, vec![0; n_silent]);
        wav.samples.extend(vec![0; n_silent]);
        Self { wav, is_cut }
    }

    /// Its rate and channels.
    #[must_use]
    pub fn format(&self) -> Sound {
        Sound {
            rate_hz: self.wav.rate_hz,
            n_channels: self.wav.n_channels,
        }
    }

    /// The samples, interleaved s16 LE.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.wav.to_bytes()
    }

    /// The samples in one channel, within -1..1.
    #[must_use]
    pub fn mono(&self) -> Vec<f32> {
        let n_channels = usize::from(self.wav.n_channels.max(1));
        let scale = f32::from(self.wav.n_channels.max(1)) * 32_768.0;
        let frames = self.wav.samples.chunks_exact(n_channels);
        let mean = |frame: &[i16]| frame.iter().map(|&s| f32::from(s)).sum::<f32>() / scale;
        frames.map(mean).collect()
    }

    /// Output frames that it covers at `fps`.
    #[must_use]
    pub fn n_frames(&self, fps: u32) -> usize {
        let n = self.wav.samples.len() / usize::from(self.wav.n_channels.max(1));
        let n_frames = lipsync_core::frames_in(n as u64, self.wav.rate_hz, fps);
        usize::try_from(n_frames).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_sentence_is_speech_between_silences() {
        let speech = Speech::built_in();
        let mono = speech.mono();
        assert!(speech.n_frames(25) > 100 && !speech.is_cut);
        assert!(mono[..9_000].iter().all(|s| *s == 0.0));
        assert!(mono.iter().any(|s| s.abs() > 0.1));
    }

    #[test]
    fn a_long_recording_is_cut() {
        let wav = Wav {
            rate_hz: 4_000,
            n_channels: 2,
            samples: vec![16_384; 4_000 * 2 * 31],
        };
        let speech = Speech::of(wav);
        assert!(speech.is_cut);
        assert_eq!(speech.n_frames(25), 30 * 25 + 30);
        assert_eq!(speech.mono()[2_400..2_402], [0.5, 0.5]);
    }
}
