//! Bytes of speech to mono f32 samples.
//!
//! Decoding keeps nothing between calls: its input must be whole samples of all channels. A caller whose
//! chunks are cut elsewhere joins them first.

use crate::{
    AudioError,
    features::decode_finite,
    g711::{decode_alaw, decode_mulaw},
};

/// How one sample is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleEncoding {
    /// Signed 16 bit, little-endian; full scale is 32,768.
    S16Le,
    /// 32-bit float, little-endian; full scale is 1.
    F32Le,
    /// G.711 mu-law; full scale is 32,768, of which 32,124 are reached.
    Mulaw,
    /// G.711 A-law; full scale is 32,768, of which 32,256 are reached.
    Alaw,
}

impl SampleEncoding {
    /// Bytes of one sample of one channel.
    #[must_use]
    pub fn sample_bytes(self) -> usize {
        match self {
            Self::S16Le => 2,
            Self::F32Le => 4,
            Self::Mulaw | Self::Alaw => 1,
        }
    }
}

/// Decodes interleaved samples; two channels are averaged.
///
/// The result is mono, nominally -1..1. Floats beyond full scale stay unchanged.
///
/// # Errors
/// [`AudioError::Channels`] for anything but 1 or 2 channels, [`AudioError::ByteLength`] when the
/// bytes are not whole samples of all channels, [`AudioError::NotFinite`] with the place of the
/// value among the interleaved ones.
pub fn decode_pcm(
    bytes: &[u8],
    encoding: SampleEncoding,
    n_channels: u32,
) -> Result<Vec<f32>, AudioError> {
    let item_bytes = match n_channels {
        1 => encoding.sample_bytes(),
        2 => 2 * encoding.sample_bytes(),
        _ => return Err(AudioError::Channels { n_channels }),
    };
    if !bytes.len().is_multiple_of(item_bytes) {
        return Err(AudioError::ByteLength {
            what: "samples",
            n_bytes: bytes.len(),
            item_bytes,
        });
    }
    let samples = match encoding {
        SampleEncoding::S16Le => decode_s16(bytes),
        SampleEncoding::F32Le => decode_finite(bytes, "samples")?,
        SampleEncoding::Mulaw => decode_codes(bytes, decode_mulaw),
        SampleEncoding::Alaw => decode_codes(bytes, decode_alaw),
    };
    if n_channels == 1 {
        return Ok(samples);
    }
    let (pairs, _) = samples.as_chunks::<2>();
    // Halved before the addition, so that the sum of two large finite values stays finite.
    Ok(pairs.iter().map(|[l, r]| 0.5 * l + 0.5 * r).collect())
}

fn decode_s16(bytes: &[u8]) -> Vec<f32> {
    let (samples, _) = bytes.as_chunks::<2>();
    let scaled = |b: &[u8; 2]| f32::from(i16::from_le_bytes(*b)) / 32_768.0;
    samples.iter().map(scaled).collect()
}

fn decode_codes(bytes: &[u8], decode: impl Fn(u8) -> i16) -> Vec<f32> {
    let scaled = |&code: &u8| f32::from(decode(code)) / 32_768.0;
    bytes.iter().map(scaled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use SampleEncoding::{Alaw, F32Le, Mulaw, S16Le};

    fn s16(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|s| s.to_le_bytes()).collect()
    }

    fn f32le(samples: &[f32]) -> Vec<u8> {
        samples.iter().flat_map(|s| s.to_le_bytes()).collect()
    }

    #[test]
    fn scales_and_averages() {
        let bytes = s16(&[i16::MIN, 16_384, i16::MAX, -1]);
        assert_eq!(
            decode_pcm(&bytes, S16Le, 1).unwrap(),
            [-1.0, 0.5, 32_767.0 / 32_768.0, -1.0 / 32_768.0]
        );
        assert_eq!(
            decode_pcm(&bytes, S16Le, 2).unwrap(),
            [-0.25, 32_766.0 / 65_536.0]
        );
        let bytes = f32le(&[f32::MAX, f32::MAX, 0.25, -0.75]);
        assert_eq!(decode_pcm(&bytes, F32Le, 2).unwrap(), [f32::MAX, -0.25]);
        assert_eq!(decode_pcm(&[], F32Le, 2).unwrap(), []);
    }

    #[test]
    fn telephony_gives_what_the_same_samples_in_16_bits_give() {
        let codes: Vec<u8> = (0..=u8::MAX).collect();
        let goldens: [(_, &[u8]); 2] = [
            (Mulaw, include_bytes!("../tests/golden/mulaw.s16")),
            (Alaw, include_bytes!("../tests/golden/alaw.s16")),
        ];
        for (encoding, golden) in goldens {
            for n_channels in [1, 2] {
                let decoded = decode_pcm(&codes, encoding, n_channels).unwrap();
                assert_eq!(decoded, decode_pcm(golden, S16Le, n_channels).unwrap());
            }
        }
        assert!(decode_pcm(&codes[1..], Mulaw, 2).is_err());
    }

    #[test]
    fn refuses_what_is_not_whole_samples() {
        for (n_bytes, encoding, n_channels, item_bytes) in [
            (3, S16Le, 1, 2),
            (6, S16Le, 2, 4),
            (6, F32Le, 1, 4),
            (12, F32Le, 2, 8),
        ] {
            assert_eq!(
                decode_pcm(&vec![0; n_bytes], encoding, n_channels),
                Err(AudioError::ByteLength {
                    what: "samples",
                    n_bytes,
                    item_bytes
                })
            );
        }
    }

    #[test]
    fn refuses_other_channel_counts_and_names_the_value_that_is_not_finite() {
        for n_channels in [0, 3, u32::MAX] {
            assert_eq!(
                decode_pcm(&[], S16Le, n_channels),
                Err(AudioError::Channels { n_channels })
            );
        }
        let bytes = f32le(&[0.0, 1.0, f32::NAN, 0.0]);
        assert_eq!(
            decode_pcm(&bytes, F32Le, 2),
            Err(AudioError::NotFinite {
                what: "samples",
                index: 2
            })
        );
    }
}
