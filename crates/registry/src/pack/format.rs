//! The bytes of a pack's fixed parts. The layout is drawn in [`super`].

use lipsync_core::{
    PixelRect,
    saturate::{u32_of, usize_of},
};

use super::{MAX_PART_BYTES, N_BAKED, N_PARTS, PackFault};

const MAGIC: &[u8; 8] = b"LIPSPACK";
const END: &[u8; 8] = b"PACK-END";
/// Also to be raised when frames come out differently though the settings are the same.
const VERSION: u32 = 1;

pub(super) const START_BYTES: usize = 12;
pub(super) const TRAILER_BYTES: usize = 3 * EXTENT_BYTES + 8 + 4 + 8;
const EXTENT_BYTES: usize = 16;
const ENTRY_BYTES: usize = 4 * 4 + 8 + N_PARTS * 8;

/// Where a section lies, and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub offset: u64,
    pub n_bytes: u32,
    pub checksum: u32,
}

impl Extent {
    pub(super) fn lies_within(&self, file_bytes: u64) -> bool {
        let end = self.offset.checked_add(self.n_bytes.into());
        end.is_some_and(|end| end <= file_bytes)
    }
}

/// The end of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub settings: Extent,
    pub sources: Extent,
    pub index: Extent,
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub rect: PixelRect,
    pub offset: u64,
    /// Length and checksum of each part; they follow each other.
    pub parts: [(u32, u32); N_PARTS],
}

impl Entry {
    pub(super) fn baked_bytes(&self) -> usize {
        let parts = self.parts[..N_BAKED].iter();
        parts.map(|(n_bytes, _)| usize_of(*n_bytes)).sum()
    }

    pub(super) fn crop_offset(&self) -> u64 {
        self.offset + self.baked_bytes() as u64
    }

    fn lies_within(&self, file_bytes: u64) -> bool {
        let n_bytes: u64 = self.parts.iter().map(|(n, _)| u64::from(*n)).sum();
        let end = self.offset.checked_add(n_bytes);
        let are_short = self.parts.iter().all(|(n, _)| *n <= MAX_PART_BYTES);
        are_short && end.is_some_and(|end| end <= file_bytes)
    }
}

pub(super) fn start() -> [u8; START_BYTES] {
    let mut bytes = [0; START_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

pub(super) fn check_start(bytes: &[u8; START_BYTES]) -> Result<(), PackFault> {
    let mut fields = Fields(bytes);
    if fields.take::<8>() != Some(*MAGIC) {
        return Err(PackFault::Foreign);
    }
    match fields.u32() {
        Some(VERSION) => Ok(()),
        found => Err(PackFault::Version {
            found: found.unwrap_or(0),
        }),
    }
}

impl Trailer {
    /// `file_bytes` is the length of the file with this trailer.
    pub(super) fn bytes(&self, file_bytes: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        for extent in [self.settings, self.sources, self.index] {
            bytes.extend(extent.offset.to_le_bytes());
            bytes.extend(extent.n_bytes.to_le_bytes());
            bytes.extend(extent.checksum.to_le_bytes());
        }
        bytes.extend(file_bytes.to_le_bytes());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes.extend(END);
        bytes
    }

    pub(super) fn parse(bytes: &[u8; TRAILER_BYTES], file_bytes: u64) -> Result<Self, PackFault> {
        let damaged = PackFault::Damaged {
            part: "trailer",
            frame: None,
        };
        let (body, end) = bytes.split_at(TRAILER_BYTES - END.len());
        if end != END {
            return Err(PackFault::Truncated);
        }
        let (body, checksum) = body.split_at(body.len() - 4);
        if crc32fast::hash(body).to_le_bytes() != checksum {
            return Err(damaged);
        }
        let mut fields = Fields(body);
        let mut parse = || {
            let trailer = Self {
                settings: fields.extent()?,
                sources: fields.extent()?,
                index: fields.extent()?,
            };
            (fields.u64()? == file_bytes).then_some(trailer)
        };
        parse().ok_or(damaged)
    }
}

pub(super) fn index_bytes(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        let PixelRect {
            x,
            y,
            width,
            height,
        } = entry.rect;
        for side in [x, y, width, height] {
            // Pictures have sides of up to 8192 px.
            bytes.extend(u32_of(side).to_le_bytes());
        }
        bytes.extend(entry.offset.to_le_bytes());
        for (n_bytes, checksum) in entry.parts {
            bytes.extend(n_bytes.to_le_bytes());
            bytes.extend(checksum.to_le_bytes());
        }
    }
    bytes
}

/// Refuses an entry that points past the file: its lengths become allocations.
pub(super) fn parse_index(bytes: &[u8], file_bytes: u64) -> Result<Vec<Entry>, PackFault> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    let parse = |bytes: &[u8; ENTRY_BYTES]| {
        let entry = Fields(bytes).entry()?;
        entry.lies_within(file_bytes).then_some(entry)
    };
    let entries: Option<Vec<Entry>> = entries.iter().map(parse).collect();
    entries
        .filter(|_| rest.is_empty())
        .ok_or(PackFault::Damaged {
            part: "index",
            frame: None,
        })
}

/// Takes numbers from the front of some bytes; `None` where there are too few.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn extent(&mut self) -> Option<Extent> {
        Some(Extent {
            offset: self.u64()?,
            n_bytes: self.u32()?,
            checksum: self.u32()?,
        })
    }

    fn entry(&mut self) -> Option<Entry> {
        let rect = PixelRect {
            x: usize_of(self.u32()?),
            y: usize_of(self.u32()?),
            width: usize_of(self.u32()?),
            height: usize_of(self.u32()?),
        };
        let offset = self.u64()?;
        let mut parts = [(0, 0); N_PARTS];
        for part in &mut parts {
            *part = (self.u32()?, self.u32()?);
        }
        Some(Entry {
            rect,
            offset,
            parts,
        })
    }
}
