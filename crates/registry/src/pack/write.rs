//! Writing a pack, front to back.

use std::io::{self, Write};

use lipsync_core::{PixelRect, saturate::usize_of};

use super::{
    N_PARTS, Recipe,
    format::{self, Entry, Extent, Trailer},
};

/// Writes frames in any order, then everything else.
pub(crate) struct PackWriter<W> {
    out: W,
    at: u64,
    entries: Vec<Option<Entry>>,
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack of `n_frames` frames.
    pub(crate) fn begin(out: W, n_frames: usize) -> io::Result<Self> {
        let mut writer = Self {
            out,
            at: 0,
            entries: vec![None; n_frames],
        };
        writer.write(&format::start())?;
        Ok(writer)
    }

    /// Appends a frame: its baked parts and its face crop.
    pub(crate) fn frame(
        &mut self,
        index: u32,
        rect: PixelRect,
        parts: [&[u8]; N_PARTS],
    ) -> io::Result<()> {
        let mut entry = Entry {
            rect,
            offset: self.at,
            parts: [(0, 0); N_PARTS],
        };
        for (bytes, described) in parts.iter().zip(&mut entry.parts) {
            *described = (length(bytes)?, crc32fast::hash(bytes));
            self.write(bytes)?;
        }
        let place = self.entries.get_mut(usize_of(index));
        *place.ok_or_else(|| io::Error::other("no such frame"))? = Some(entry);
        Ok(())
    }

    /// Writes what stands behind the frames; all of them must be there.
    pub(crate) fn finish(mut self, recipe: &Recipe) -> io::Result<()> {
        let entries: Option<Vec<Entry>> = self.entries.iter().copied().collect();
        let entries = entries.ok_or_else(|| io::Error::other("a frame is missing"))?;
        let trailer = Trailer {
            settings: self.section(recipe.settings.as_bytes())?,
            sources: self.section(recipe.sources.as_bytes())?,
            index: self.section(&format::index_bytes(&entries))?,
        };
        let file_bytes = self.at + format::TRAILER_BYTES as u64;
        self.write(&trailer.bytes(file_bytes))?;
        self.out.flush()
    }

    /// Bytes written so far.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.at
    }

    fn section(&mut self, bytes: &[u8]) -> io::Result<Extent> {
        let extent = Extent {
            offset: self.at,
            n_bytes: length(bytes)?,
            checksum: crc32fast::hash(bytes),
        };
        self.write(bytes)?;
        Ok(extent)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(io::Error::other)
}
