//! Samples that are probably of another encoding than was announced.
//!
//! Only worth a warning: loud noise is legal. Floats far beyond full scale are 16-bit numbers that somebody
//! has made floats without dividing them; 16-bit samples of which every other one has the upper half of a
//! small float are floats.

use lipsync_audio::SampleEncoding;
use lipsync_session::Warning;

use crate::order::PcmFormat;

/// Floats beyond this are no samples that were just mixed too loud: it is 18 dB above full scale.
const MAX_LEVEL: f32 = 8.0;
/// What 16 bits hold, and as much again for what was done with them.
const MAX_16_BIT: f32 = 65_536.0;
/// Pairs of samples that are looked at, and of those that are not zero how many must be alike.
const N_PAIRS: u32 = 2_000;
const MIN_PAIRS: u32 = 400;

/// What was heard so far of one piece of speech.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    peak: f32,
    n_pairs: u32,
    n_like_floats: u32,
}

impl Levels {
    /// Listens to whole samples as they came, and to the mono samples made of them.
    pub(crate) fn hear(&mut self, sent: &[u8], mono: &[f32], format: PcmFormat) {
        match format.encoding {
            SampleEncoding::F32Le => {
                let peak = |peak: f32, sample: &f32| peak.max(sample.abs());
                self.peak = mono.iter().fold(self.peak, peak);
            }
            SampleEncoding::S16Le if self.n_pairs < N_PAIRS => self.hear_pairs(sent),
            // 255 codes of G.711 are samples, whatever they are.
            SampleEncoding::S16Le | SampleEncoding::Mulaw | SampleEncoding::Alaw => {}
        }
    }

    fn hear_pairs(&mut self, sent: &[u8]) {
        let (pairs, _) = sent.as_chunks::<4>();
        for pair in pairs.iter().filter(|pair| pair[..] != [0; 4]) {
            self.n_pairs += 1;
            // Floats from 2^-17 to 2 in their upper, but not in their lower half.
            let is_upper = |byte: u8| (0x37..=0x3F).contains(&(byte & 0x7F));
            self.n_like_floats += u32::from(is_upper(pair[3]));
            self.n_like_floats -= u32::from(is_upper(pair[1])).min(self.n_like_floats);
        }
    }

    /// What to tell the client, if anything.
    pub(crate) fn warning(&self) -> Option<Warning> {
        let text = if self.peak > MAX_LEVEL {
            let peak = self.peak;
            if peak <= MAX_16_BIT {
                format!(
                    "float samples reach {peak:.0}, where full scale is 1: they look like 16-bit numbers"
                )
            } else {
                format!(
                    "float samples reach {peak:.1e}, where full scale is 1: they look like no sound"
                )
            }
        } else if self.n_pairs >= MIN_PAIRS && self.n_like_floats > self.n_pairs / 4 * 3 {
            "16-bit samples were announced, but these look like 32-bit floats".to_owned()
        } else {
            return None;
        };
        Some(Warning {
            code: "audio_level",
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use lipsync_audio::decode_pcm;

    use super::*;
    use crate::speech::speech_like;

    fn warning(sent: &[u8], encoding: SampleEncoding) -> Option<String> {
        let format = PcmFormat {
            rate_hz: 16_000,
            n_channels: 1,
            encoding,
        };
        let mut levels = Levels::default();
        for sent in sent.chunks(640) {
            let mono = decode_pcm(sent, encoding, 1).unwrap();
            levels.hear(sent, &mono, format);
        }
        levels.warning().map(|warning| warning.text)
    }

    #[test]
    fn only_samples_of_another_encoding_are_odd() {
        let speech = speech_like(32_000);
        let floats = |gain: f32| -> Vec<u8> {
            speech
                .iter()
                .flat_map(|s| (gain * s).to_le_bytes())
                .collect()
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a cast from float saturates"
        )]
        let s16 = |gain: f32| -> Vec<u8> {
            let samples = speech.iter().map(|s| (gain * 32_767.0 * s) as i16);
            samples.flat_map(i16::to_le_bytes).collect()
        };
        for gain in [0.001, 0.1, 1.0, 4.0, 100.0] {
            assert_eq!(warning(&s16(gain), SampleEncoding::S16Le), None, "{gain}");
        }
        for gain in [0.0, 0.01, 1.0, 4.0] {
            assert_eq!(
                warning(&floats(gain), SampleEncoding::F32Le),
                None,
                "{gain}"
            );
        }
        let loud = warning(&floats(32_768.0), SampleEncoding::F32Le).unwrap();
        assert!(loud.contains("16-bit"), "{loud}");
        let absurd = warning(&3e38_f32.to_le_bytes(), SampleEncoding::F32Le).unwrap();
        assert!(
            absurd.contains("reach 3.0e38") && absurd.contains("no sound"),
            "{absurd}"
        );
        for gain in [0.05, 1.0] {
            let wrong = warning(&floats(gain), SampleEncoding::S16Le).unwrap();
            assert!(wrong.contains("floats"), "{wrong}");
        }
    }

    #[test]
    fn a_steady_tone_as_loud_as_the_upper_half_of_a_float_is_none() {
        let square: Vec<u8> = (0..32_000_i32)
            .flat_map(|n| if n / 40 % 2 == 0 { 15_000_i16 } else { -15_000 }.to_le_bytes())
            .collect();
        assert_eq!(warning(&square, SampleEncoding::S16Le), None);
    }
}
