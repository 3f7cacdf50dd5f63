//! Packs: an avatar's background frames in one file, ready to be served.
//!
//! Decoding a frame, cutting out its face and encoding it costs tens of milliseconds, and the result
//! is always the same. Baking does it once; serving a frame is then a positioned read of a few hundred
//! kilobytes. A pack is never mapped into memory: a map would need `unsafe` and kill the process
//! where somebody truncates the file.
//!
//! ```text
//! start     "LIPSPACK", format version: u32
//! frames    for each: the five parts below, one after the other
//! settings  text: what the frames were baked with
//! sources   text: name, size and modification time of every frame, one a line
//! index     for each frame: rectangle, offset, length and checksum of each part
//! trailer   offset, length, checksum of the three sections; length of the file; checksum; "PACK-END"
//! ```
//!
//! Numbers are little-endian, checksums CRC-32 (they find every error of up to 32 bits in a row, and a
//! face crop takes 20 us to check). What is fixed comes last, so that a pack is written in one go and a
//! truncated one has no end.
//!
//! **Nothing is trusted.** [`Pack::open`] checks every section and compares settings, sources and
//! rectangles with what the model has today ([`Recipe`]); a frame's checksum is verified whenever it
//! is read. What does not fit is a [`PackFault`], and the frame is made from its source instead.
//!
//! Sources are told by name, size and modification time, as `make` and `rsync` do: to read 2,000
//! frames of 1.5 MB at every load would take seconds. Copying a model without its times therefore
//! makes its pack stale; a picture that is replaced by another of the same length and time is not noticed.
//!
//! Writing is in [`write`], what happens to the file system in [`draft`].

mod draft;
mod fault;
mod format;
mod recipe;
mod write;

use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt as _},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use lipsync_core::{PixelRect, saturate::usize_of};

use crate::fence::open_file;

pub use fault::PackFault;
pub(crate) use {
    draft::Draft,
    recipe::{Recipe, Stamp},
    write::PackWriter,
};

use format::{Entry, Extent, START_BYTES, TRAILER_BYTES, Trailer};

/// Parts of a frame that serving needs, as `BakedFrame` gives and takes them.
pub(crate) const N_BAKED: usize = 4;
/// All parts of a frame: those, and the face crop.
const N_PARTS: usize = N_BAKED + 1;
/// What the parts are, and what they are called in faults.
const PART_NAMES: [&str; N_PARTS] = [
    "frame's JPEG",
    "face's JPEG",
    "table",
    "surroundings of the face",
    "face crop",
];

/// Longer than any section or part is; lengths become allocations.
const MAX_PART_BYTES: u32 = 64 << 20;

/// An open pack whose sections were found whole and current.
pub(crate) struct Pack {
    file: File,
    n_bytes: u64,
    identity: PackIdentity,
    index: Vec<Entry>,
}

/// Tells one file from another at the same place: device, number, and time of the last change.
pub(crate) type PackIdentity = (u64, u64, i64, i64);

impl Pack {
    /// Opens the pack at `path` if it was baked as the recipe says.
    pub(crate) fn open(path: &Path, recipe: &Recipe) -> Result<Self, PackFault> {
        let looked = path.symlink_metadata().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => PackFault::Missing,
            kind => PackFault::Unreadable { kind },
        })?;
        if looked.is_symlink() {
            return Err(PackFault::Link);
        }
        if !looked.is_file() {
            return Err(PackFault::Foreign);
        }
        let (file, metadata) = open_file(path).map_err(|e| unreadable(&e))?;
        let n_bytes = metadata.len();
        let mut start = [0; START_BYTES];
        file.read_exact_at(&mut start, 0)
            .map_err(|_| PackFault::Foreign)?;
        format::check_start(&start)?;
        let trailer_at = n_bytes
            .checked_sub(TRAILER_BYTES as u64)
            .ok_or(PackFault::Truncated)?;
        let mut trailer = [0; TRAILER_BYTES];
        read_at(&file, &mut trailer, trailer_at)?;
        let trailer = Trailer::parse(&trailer, n_bytes)?;
        let section = |name, extent: Extent| read_section(&file, n_bytes, name, extent);
        recipe.check_settings(&section("settings", trailer.settings)?)?;
        recipe.check_sources(&section("sources", trailer.sources)?)?;
        let index = format::parse_index(&section("index", trailer.index)?, n_bytes)?;
        recipe.check_rects(index.iter().map(|entry| entry.rect))?;
        Ok(Self {
            file,
            n_bytes,
            identity: (
                metadata.dev(),
                metadata.ino(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            ),
            index,
        })
    }

    /// Size of the file.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Which file it is.
    pub(crate) fn identity(&self) -> PackIdentity {
        self.identity
    }

    /// What the splice needs of a frame: slices of one buffer, read at once and verified.
    pub(crate) fn baked(&self, index: u32) -> Result<[Bytes; N_BAKED], PackFault> {
        let entry = self.entry(index)?;
        let mut buffer = vec![0; entry.baked_bytes()];
        read_at(&self.file, &mut buffer, entry.offset)?;
        let buffer = Bytes::from(buffer);
        let mut end = 0;
        let mut parts = [const { Bytes::new() }; N_BAKED];
        for (place, (part, (n_bytes, checksum))) in parts.iter_mut().zip(entry.parts).enumerate() {
            let start = end;
            end += usize_of(n_bytes);
            *part = buffer.slice(start..end);
            verify(part, checksum, place, index)?;
        }
        Ok(parts)
    }

    /// The face crop of a frame, read and verified.
    pub(crate) fn crop(&self, index: u32) -> Result<Arc<[u8]>, PackFault> {
        let entry = self.entry(index)?;
        let (n_bytes, checksum) = entry.parts[N_BAKED];
        // One allocation: a `Vec` would be copied into its `Arc`.
        let mut pixels: Arc<[u8]> = std::iter::repeat_n(0, usize_of(n_bytes)).collect();
        if let Some(buffer) = Arc::get_mut(&mut pixels) {
            read_at(&self.file, buffer, entry.crop_offset())?;
        }
        verify(&pixels, checksum, N_BAKED, index)?;
        Ok(pixels)
    }

    /// The face rectangle of a frame.
    pub(crate) fn rect(&self, index: u32) -> Result<PixelRect, PackFault> {
        self.entry(index).map(|entry| entry.rect)
    }

    /// Asks the system to have a frame's crop in memory soon. Does not wait.
    pub(crate) fn will_need_crop(&self, index: u32) {
        if let Ok(entry) = self.entry(index) {
            will_need(
                &self.file,
                entry.crop_offset(),
                entry.parts[N_BAKED].0.into(),
            );
        }
    }

    fn entry(&self, index: u32) -> Result<&Entry, PackFault> {
        let entry = self.index.get(usize_of(index));
        entry.ok_or(PackFault::Damaged {
            part: "index",
            frame: Some(index),
        })
    }
}

fn read_section(
    file: &File,
    file_bytes: u64,
    name: &'static str,
    extent: Extent,
) -> Result<Vec<u8>, PackFault> {
    let damaged = PackFault::Damaged {
        part: name,
        frame: None,
    };
    if !extent.lies_within(file_bytes) || extent.n_bytes > MAX_PART_BYTES {
        return Err(damaged);
    }
    let mut bytes = vec![0; usize_of(extent.n_bytes)];
    read_at(file, &mut bytes, extent.offset)?;
    if crc32fast::hash(&bytes) == extent.checksum {
        Ok(bytes)
    } else {
        Err(damaged)
    }
}

/// Asks the system to have a part of a file in memory soon.
fn will_need(file: &File, offset: u64, n_bytes: u64) {
    // macOS has another call for it, which nobody has tried here.
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{Advice, fadvise};
        let length = std::num::NonZeroU64::new(n_bytes);
        // It is only advice: a file system that takes none is as good.
        let _ = fadvise(file, offset, length, Advice::WillNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, n_bytes);
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), PackFault> {
    file.read_exact_at(buffer, offset)
        .map_err(|e| match e.kind() {
            // It was longer when it was opened.
            std::io::ErrorKind::UnexpectedEof => PackFault::Truncated,
            kind => PackFault::Unreadable { kind },
        })
}

fn verify(bytes: &[u8], checksum: u32, place: usize, frame: u32) -> Result<(), PackFault> {
    if crc32fast::hash(bytes) == checksum {
        return Ok(());
    }
    Err(PackFault::Damaged {
        part: PART_NAMES[place],
        frame: Some(frame),
    })
}

fn unreadable(error: &std::io::Error) -> PackFault {
    PackFault::Unreadable { kind: error.kind() }
}

#[cfg(test)]
mod tests;
