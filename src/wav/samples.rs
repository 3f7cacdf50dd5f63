//! Stored samples to 16 bits.
//!
//! Integers keep their upper 16 bits. Floats are rounded to the nearest and clipped at full scale. The
//! Python client's reader gives the same numbers.

use super::{WavEncoding, WavError, WavHead};
use crate::g711::{decode_alaw, decode_mulaw};

/// Decodes whole blocks. Three or more channels become their mean. `first` is the position of the first
/// sample in its file.
pub(super) fn decode(blocks: &[u8], head: WavHead, first: usize) -> Result<Vec<i16>, WavError> {
    let samples = match head.encoding {
        WavEncoding::U8 => bytewise(blocks, |byte| (i16::from(byte) - 128) << 8),
        WavEncoding::Mulaw => bytewise(blocks, decode_mulaw),
        WavEncoding::Alaw => bytewise(blocks, decode_alaw),
        WavEncoding::S16 => upper::<2>(blocks),
        WavEncoding::S24 => upper::<3>(blocks),
        WavEncoding::S32 => upper::<4>(blocks),
        WavEncoding::F32 => floats(blocks, first, |b: &[u8; 4]| f32::from_le_bytes(*b).into())?,
        WavEncoding::F64 => floats(blocks, first, |b: &[u8; 8]| f64::from_le_bytes(*b))?,
    };
    Ok(if head.n_channels > 2 {
        mixed(&samples, head.n_channels)
    } else {
        samples
    })
}

/// A float of 60 dB above full scale is none of that scale: a file of integers that were never scaled, say.
const LARGEST_FLOAT: f64 = 1000.0;

fn bytewise(blocks: &[u8], decode: impl Fn(u8) -> i16) -> Vec<i16> {
    blocks.iter().map(|&byte| decode(byte)).collect()
}

/// The upper two of `N` bytes.
fn upper<const N: usize>(blocks: &[u8]) -> Vec<i16> {
    let (samples, _) = blocks.as_chunks::<N>();
    let upper = |s: &[u8; N]| i16::from_le_bytes([s[N - 2], s[N - 1]]);
    samples.iter().map(upper).collect()
}

fn floats<const N: usize>(
    blocks: &[u8],
    first: usize,
    decode: impl Fn(&[u8; N]) -> f64,
) -> Result<Vec<i16>, WavError> {
    let (samples, _) = blocks.as_chunks::<N>();
    let mut places = first..;
    let rounded = samples.iter().map(|sample| {
        let (value, index) = (decode(sample), places.next().unwrap_or(usize::MAX));
        if !value.is_finite() {
            return Err(WavError::NotFinite { index });
        }
        if value.abs() > LARGEST_FLOAT {
            return Err(WavError::Scale { index });
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a cast from float to integer saturates"
        )]
        let rounded = (value * 32_768.0 + 0.5).floor() as i16;
        Ok(rounded)
    });
    rounded.collect()
}

fn mixed(samples: &[i16], n_channels: u16) -> Vec<i16> {
    let blocks = samples.chunks_exact(usize::from(n_channels));
    let mean = |block: &[i16]| {
        let sum: i64 = block.iter().map(|&sample| i64::from(sample)).sum();
        // A mean of 16-bit numbers is one.
        i16::try_from(sum.div_euclid(i64::from(n_channels))).unwrap_or(i16::MAX)
    };
    blocks.map(mean).collect()
}
