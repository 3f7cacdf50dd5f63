//! Reads WAV files, for all programs of this repository.
//!
//! Real files break the format: their lengths are placeholders (0, 0x7FFFFFFF, 0xFFFFFFFF) or wrong, odd chunks
//! have no padding, and any chunk may come before the samples. So lengths are trusted only up to the end of the
//! file. If the samples have no length, chunks that follow them to the very end of the file do not count as samples
//! ([`Wav`] only). RF64 and BW64 work, too. Every coding of plain samples is supported and becomes 16 bits. Floats
//! beyond full scale are clipped, and refused beyond 1000. Compressed codings and other files are
//! refused by name. This module writes nothing.
//!
//! [`Wav`] reads a whole file, [`WavReader`] one that arrives piece by piece. Both give the same samples.

mod head;
mod samples;
#[cfg(test)]
mod tests;

use std::{io, path::Path};

use crate::plain_path::read_at_most;

pub use head::{DataChunk, WavEncoding, WavHead};

/// The sample rates that the server accepts, Hz.
const RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=192_000;
/// Latest start of the samples in a file, bytes. Cover pictures may come before them.
const MAX_HEAD_BYTES: usize = 16 << 20;
/// A data chunk of this length or more has an unknown length: its writer did not know it.
const UNKNOWN_LENGTH: u64 = 0x7FFF_0000;

/// Whether a length is a placeholder.
fn is_unknown(n_bytes: u64) -> bool {
    n_bytes == 0 || (UNKNOWN_LENGTH..=u32::MAX.into()).contains(&n_bytes)
}

/// Why a file is not a usable WAV file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WavError {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Io(#[from] std::io::Error),
    /// It is larger than the caller accepts.
    #[error("it is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The most that is read.
        limit_bytes: u64,
    },
    /// It is another kind of file.
    #[error("it is not a WAV file but {found}: convert it first")]
    OtherFile {
        /// The kind of file.
        found: &'static str,
    },
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is not a known kind of file.
    #[error("it is not a WAV file")]
    NotWav,
    /// Its samples are compressed, or in an unknown coding.
    #[error(
        "its samples are coded as {name} (format {tag:#06x}); PCM, float, mu-law and A-law are supported"
    )]
    Coding {
        /// The number in the file.
        tag: u16,
        /// Its name, for people.
        name: &'static str,
    },
    /// A known coding with an unsupported sample size.
    #[error(
        "its samples have {bits} bits of {name}, in blocks of {block_bytes} bytes for {n_channels} channels"
    )]
    Size {
        /// Bits a sample.
        bits: u16,
        /// The coding.
        name: &'static str,
        /// Bytes of one sample of every channel.
        block_bytes: u16,
        /// Channels.
        n_channels: u16,
    },
    /// It announces 0 channels.
    #[error("it has 0 channels")]
    NoChannels,
    /// The server does not accept its sample rate.
    #[error("its sample rate is {rate_hz} Hz; 4,000 to 192,000 are supported")]
    Rate {
        /// Samples per second.
        rate_hz: u32,
    },
    /// The samples come before their description.
    #[error("it does not say how its samples are stored (no `fmt` chunk before `data`)")]
    NoFormat,
    /// It ends before the samples begin.
    #[error("it ends before any samples (no `data` chunk that holds some)")]
    NoData,
    /// It has no samples.
    #[error("it holds no samples")]
    NoSamples,
    /// A float that is no sample of full scale 1.
    #[error("its sample {index} is above 1000, where 1 is full scale: scale its floats first")]
    Scale {
        /// Index among the interleaved samples.
        index: usize,
    },
    /// A sample is NaN or infinite.
    #[error("its sample {index} is not finite")]
    NotFinite {
        /// Index among the interleaved samples.
        index: usize,
    },
}

/// A WAV file, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wav {
    /// Samples per second and channel: 4,000 to 192,000.
    pub rate_hz: u32,
    /// 1 or 2. Three or more are averaged to one.
    pub n_channels: u16,
    /// Interleaved; at least one of each channel.
    pub samples: Vec<i16>,
}

impl Wav {
    /// Reads a file, or a pipe to its end.
    ///
    /// # Errors
    /// Any [`WavError`]. It does not name the file, which the caller knows.
    pub fn open(path: &Path) -> Result<Self, WavError> {
        Self::parse(&std::fs::read(path)?)
    }

    /// As [`open`](Self::open), for a file of at most `limit_bytes`; of a device that never ends, no more is read.
    ///
    /// # Errors
    /// Any [`WavError`].
    pub fn open_within(path: &Path, limit_bytes: u64) -> Result<Self, WavError> {
        let file = read_at_most(path, limit_bytes).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => WavError::TooLarge { limit_bytes },
            _ => error.into(),
        })?;
        Self::parse(&file)
    }

    /// Decodes a file in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn parse(file: &[u8]) -> Result<Self, WavError> {
        let mut reader = WavReader::default();
        let file = &file[..head::end_of_samples(file)];
        let samples = reader.push(file)?;
        let head = reader.finish()?;
        Ok(Self {
            rate_hz: head.rate_hz,
            n_channels: head.n_channels_out(),
            samples,
        })
    }

    /// The samples in the form of the wire: s16 LE.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.samples.iter().flat_map(|s| s.to_le_bytes()).collect()
    }
}

/// A WAV file that arrives piece by piece, as from a program that is still speaking.
#[derive(Debug, Default)]
pub struct WavReader {
    head: Option<WavHead>,
    /// Bytes that are not decoded yet: the head, later less than a sample of every channel.
    pending: Vec<u8>,
    /// Bytes of samples that are still to come, if known.
    left: Option<u64>,
    /// Blocks decoded: samples of every channel.
    n_blocks: usize,
}

impl WavReader {
    /// Takes the next piece, cut anywhere, and returns the samples that it completes.
    ///
    /// # Errors
    /// Any [`WavError`] except those of the end.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<i16>, WavError> {
        self.pending.extend_from_slice(piece);
        let head = match self.head {
            Some(head) => head,
            None => match self.take_head()? {
                Some(head) => head,
                None => return Ok(Vec::new()),
            },
        };
        let n_left = self
            .left
            .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let n_blocks = self.pending.len().min(n_left) / head.block_bytes();
        let n_bytes = n_blocks * head.block_bytes();
        let first = self.n_blocks * usize::from(head.n_channels);
        let samples = samples::decode(&self.pending[..n_bytes], head, first)?;
        self.pending.drain(..n_bytes);
        self.n_blocks += n_blocks;
        self.left = self.left.map(|n| n - n_bytes as u64);
        if self.left.is_some_and(|n| n < head.block_bytes() as u64) {
            // Other chunks follow the samples.
            self.pending.clear();
            self.left = Some(0);
        }
        Ok(samples)
    }

    fn take_head(&mut self) -> Result<Option<WavHead>, WavError> {
        let found = WavHead::find(&self.pending)?;
        // Whether a length of 0 is meant, what follows says.
        let is_sure = |data: &DataChunk| data.n_bytes > 0 || self.pending.len() >= data.start + 4;
        let Some((head, data)) = found.filter(|(_, data)| is_sure(data)) else {
            return if self.pending.len() > MAX_HEAD_BYTES {
                Err(WavError::NoData)
            } else {
                Ok(None)
            };
        };
        self.pending.drain(..data.start);
        self.left = (!is_unknown(data.n_bytes)).then_some(data.n_bytes);
        self.head = Some(head);
        Ok(self.head)
    }

    /// The format of the samples, once it is known.
    #[must_use]
    pub fn head(&self) -> Option<WavHead> {
        self.head
    }

    /// Ends the file. An incomplete last sample is dropped.
    ///
    /// # Errors
    /// [`WavError::Empty`], [`WavError::NotWav`], [`WavError::NoData`] or [`WavError::NoSamples`] if there were no samples.
    pub fn finish(self) -> Result<WavHead, WavError> {
        match self.head {
            Some(head) if self.n_blocks > 0 => Ok(head),
            Some(_) => Err(WavError::NoSamples),
            None if self.pending.is_empty() => Err(WavError::Empty),
            None if self.pending.len() < 12 => Err(WavError::NotWav),
            None => Err(match WavHead::find(&self.pending)? {
                Some(_) => WavError::NoSamples,
                None => WavError::NoData,
            }),
        }
    }
}
