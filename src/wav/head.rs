//! Position and format of the samples in a WAV file.
//!
//! *Source:* Multimedia Programming Interface and Data Specifications 1.0 (IBM, Microsoft, 1991); EBU Tech 3306
//! for RF64, ITU-R BS.2088 for BW64; and
//! <https://learn.microsoft.com/windows/win32/api/mmreg/ns-mmreg-waveformatextensible>.

use super::{RATES_HZ, WavError};
use crate::container::{Look, look, look_longer};

/// Storage of one sample; all are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WavEncoding {
    /// Unsigned 8 bit: 128 is silence.
    U8,
    /// Signed 16 bit.
    S16,
    /// Signed 24 bit.
    S24,
    /// Signed 32 bit.
    S32,
    /// 32-bit float, full scale 1.
    F32,
    /// 64-bit float, full scale 1.
    F64,
    /// G.711 mu-law.
    Mulaw,
    /// G.711 A-law.
    Alaw,
}

/// The format of the samples in a WAV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WavHead {
    /// One sample.
    pub encoding: WavEncoding,
    /// Samples per second and channel: 4,000 to 192,000.
    pub rate_hz: u32,
    /// Channels in the file, at least 1.
    pub n_channels: u16,
}

/// Position of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataChunk {
    /// Offset of the first sample, bytes.
    pub start: usize,
    /// Their length in bytes, according to the file: the chunk's own length, or that of `ds64` if the chunk of a
    /// 64-bit file has all ones.
    pub n_bytes: u64,
}

/// Chunks that occur before and after samples. If lengths cannot be trusted, these names tell a chunk from
/// random bytes.
const CHUNK_NAMES: [&[u8; 4]; 16] = [
    b"fmt ", b"data", b"LIST", b"INFO", b"JUNK", b"junk", b"fact", b"PEAK", b"bext", b"cue ",
    b"smpl", b"id3 ", b"ID3 ", b"iXML", b"PAD ", b"FLLR",
];
/// The end of the identifier of every coding that has a number.
const SUBFORMAT_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];
const EXTENSIBLE: u16 = 0xFFFE;

impl WavHead {
    /// Looks for the samples in the start of a file; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`WavError`], as soon as it is certain.
    pub fn find(file: &[u8]) -> Result<Option<(Self, DataChunk)>, WavError> {
        match look(file) {
            Look::Wav => {}
            Look::Undecided => return Ok(None),
            Look::Other(found) => return Err(WavError::OtherFile { found }),
            Look::Unknown | Look::Text => {
                return Err(match look_longer(file) {
                    Look::Other(found) => WavError::OtherFile { found },
                    _ => WavError::NotWav,
                });
            }
        }
        let mut head = None;
        let mut n_bytes_64 = None;
        let mut place = 12;
        while let (Some(name), Some(n_bytes)) =
            (four(file, place), four(file, place.saturating_add(4)))
        {
            let n_bytes = u32::from_le_bytes(n_bytes);
            let start = place + 8;
            // An empty one is a length that was never filled in, unless another chunk follows.
            if &name == b"data" && (n_bytes > 0 || !is_chunk(file, start)) {
                let head = head.ok_or(WavError::NoFormat)?;
                let long = n_bytes_64.filter(|_| n_bytes == u32::MAX);
                let n_bytes = long.unwrap_or(n_bytes.into());
                return Ok(Some((head, DataChunk { start, n_bytes })));
            }
            let end = start.saturating_add(usize::try_from(n_bytes).unwrap_or(usize::MAX));
            if &name == b"fmt " {
                let Some(content) = file.get(start..end) else {
                    return Ok(None);
                };
                head = Some(Self::of_format(content)?);
            }
            if &name == b"ds64" {
                // The size of the file, then that of its samples.
                let size = file
                    .get(start + 8..start + 16)
                    .and_then(<[u8]>::first_chunk);
                let Some(size) = size else {
                    return Ok(None);
                };
                n_bytes_64 = Some(u64::from_le_bytes(*size));
            }
            // Odd chunks are followed by a zero, which some writers forget.
            let is_padded = n_bytes % 2 == 1 && !is_chunk(file, end);
            place = end.saturating_add(usize::from(is_padded));
        }
        Ok(None)
    }

    /// Reads the content of a `fmt` chunk.
    fn of_format(content: &[u8]) -> Result<Self, WavError> {
        let word = |n: usize| {
            let bytes = content.get(2 * n..2 * n + 2)?;
            Some(u16::from_le_bytes([bytes[0], bytes[1]]))
        };
        let fields = (word(0), word(1), four(content, 4), word(6), word(7));
        let (Some(tag), Some(n_channels), Some(rate), Some(block_bytes), Some(bits)) = fields
        else {
            return Err(WavError::NoFormat);
        };
        let tag = match (tag, word(12)) {
            (EXTENSIBLE, Some(tag)) if content.get(26..40) == Some(&SUBFORMAT_TAIL) => tag,
            _ => tag,
        };
        if n_channels == 0 {
            return Err(WavError::NoChannels);
        }
        let rate_hz = u32::from_le_bytes(rate);
        if !RATES_HZ.contains(&rate_hz) {
            return Err(WavError::Rate { rate_hz });
        }
        let (name, encoding) = encoding(tag, bits)?;
        let head = encoding.map(|encoding| Self {
            encoding,
            rate_hz,
            n_channels,
        });
        // A block of 0 bytes is one that was not filled in.
        let is_right = |h: &Self| block_bytes == 0 || h.block_bytes() == usize::from(block_bytes);
        head.filter(is_right).ok_or(WavError::Size {
            bits,
            name,
            block_bytes,
            n_channels,
        })
    }

    /// Bytes of one sample of every channel.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.encoding.n_bytes() * usize::from(self.n_channels)
    }

    /// Channels after decoding: 1 or 2.
    #[must_use]
    pub fn n_channels_out(self) -> u16 {
        if self.n_channels == 2 { 2 } else { 1 }
    }
}

impl WavEncoding {
    /// Bytes of one sample.
    #[must_use]
    pub fn n_bytes(self) -> usize {
        match self {
            Self::U8 | Self::Mulaw | Self::Alaw => 1,
            Self::S16 => 2,
            Self::S24 => 3,
            Self::S32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// Name and storage of a coding; `None` for sizes that nobody uses.
fn encoding(tag: u16, bits: u16) -> Result<(&'static str, Option<WavEncoding>), WavError> {
    let (name, encoding) = match (tag, bits) {
        // Fewer bits stand at the upper end.
        (1, 1..=8) => ("PCM", Some(WavEncoding::U8)),
        (1, 9..=16) => ("PCM", Some(WavEncoding::S16)),
        (1, 17..=24) => ("PCM", Some(WavEncoding::S24)),
        (1, 25..=32) => ("PCM", Some(WavEncoding::S32)),
        (1, _) => ("PCM", None),
        (3, 32) => ("float", Some(WavEncoding::F32)),
        (3, 64) => ("float", Some(WavEncoding::F64)),
        (3, _) => ("float", None),
        (6, 8) => ("A-law", Some(WavEncoding::Alaw)),
        (6, _) => ("A-law", None),
        (7, 8) => ("mu-law", Some(WavEncoding::Mulaw)),
        (7, _) => ("mu-law", None),
        _ => {
            let name = coding_name(tag);
            return Err(WavError::Coding { tag, name });
        }
    };
    Ok((name, encoding))
}

fn coding_name(tag: u16) -> &'static str {
    match tag {
        0x02 => "Microsoft ADPCM",
        0x11 => "IMA ADPCM",
        0x31 => "GSM 6.10",
        0x45 | 0x64 => "G.726 ADPCM",
        0x50 => "MPEG",
        0x55 => "MP3",
        0xFF | 0x1600 | 0x1610 => "AAC",
        0x160..=0x163 => "Windows Media Audio",
        EXTENSIBLE => "something that has no number",
        _ => "something unknown",
    }
}

fn four(file: &[u8], place: usize) -> Option<[u8; 4]> {
    file.get(place..)?.first_chunk().copied()
}

fn is_chunk(file: &[u8], place: usize) -> bool {
    four(file, place).is_some_and(|name| CHUNK_NAMES.contains(&&name))
}

/// Where the samples of a whole file end at the latest: where its length is unknown and chunks follow to the very
/// end of the file, before these.
///
/// Only a chunk of a known name counts that ends where the file does, or another such begins. That samples hold
/// such a name is unlikely, and that a length fits behind it is less likely than any bit being wrong.
pub(super) fn end_of_samples(file: &[u8]) -> usize {
    let Ok(Some((_, data))) = WavHead::find(file) else {
        return file.len();
    };
    if !super::is_unknown(data.n_bytes) {
        return file.len();
    }
    let ends = |place: usize| chunks_end(file, place);
    (data.start..file.len().saturating_sub(7))
        .find(|&place| is_chunk(file, place) && ends(place))
        .unwrap_or(file.len())
}

/// Whether chunks of known names follow each other from `place` to the end of the file, with or without the
/// padding of the last one.
fn chunks_end(file: &[u8], mut place: usize) -> bool {
    /// More would take time in the square of the file's length.
    const MAX_CHUNKS: usize = 16;
    for _ in 0..MAX_CHUNKS {
        let Some(n_bytes) = four(file, place.saturating_add(4)).filter(|_| is_chunk(file, place))
        else {
            return false;
        };
        let n_bytes = usize::try_from(u32::from_le_bytes(n_bytes)).unwrap_or(usize::MAX);
        let end = place.saturating_add(8).saturating_add(n_bytes);
        place = end.saturating_add(n_bytes % 2);
        if end == file.len() || place == file.len() {
            return true;
        }
    }
    false
}
