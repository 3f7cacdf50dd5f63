//! What a pack must have been baked from and with, to be used.

use std::{
    fmt::{self, Write as _},
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use lipsync_core::{Foreign, PixelRect};

use super::PackFault;

/// Settings, sources and rectangles of a model as they are today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// For people, too: it stands in the log when a pack has other settings.
    pub settings: String,
    /// One line per frame.
    pub sources: String,
    /// One per frame.
    pub rects: Vec<PixelRect>,
}

/// What a file is told from another by without being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    n_bytes: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            n_bytes: metadata.len(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            n_bytes,
            seconds,
            nanoseconds,
        } = self;
        write!(f, "{n_bytes} {seconds}.{nanoseconds:09}")
    }
}

impl Recipe {
    /// Looks at the files of all frames, without reading them.
    ///
    /// It is to be taken before they are baked: a frame that is replaced meanwhile then makes the
    /// pack stale.
    pub(crate) fn of<'a>(
        settings: String,
        frames: impl Iterator<Item = (&'a Path, PixelRect)>,
    ) -> io::Result<Self> {
        let (mut sources, mut rects) = (String::new(), Vec::new());
        for (path, rect) in frames {
            let metadata = path.metadata()?;
            let name = path.file_name().unwrap_or_default();
            let stamp = Stamp::of(&metadata);
            // Quoted, so that no name can look like the end of its line.
            writeln!(sources, "{name:?} {stamp}").map_err(io::Error::other)?;
            rects.push(rect);
        }
        Ok(Self {
            settings,
            sources,
            rects,
        })
    }

    pub(super) fn check_settings(&self, found: &[u8]) -> Result<(), PackFault> {
        if found == self.settings.as_bytes() {
            return Ok(());
        }
        Err(PackFault::Settings {
            // It may be as long as somebody likes, and goes to clients.
            found: Foreign(&String::from_utf8_lossy(found)).to_string(),
            wanted: self.settings.clone(),
        })
    }

    pub(super) fn check_sources(&self, found: &[u8]) -> Result<(), PackFault> {
        if found == self.sources.as_bytes() {
            return Ok(());
        }
        let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
        let frame = found
            .split(|byte| *byte == b'\n')
            .zip(self.sources.as_bytes().split(|byte| *byte == b'\n'))
            .position(|(found, wanted)| found != wanted);
        let same_number = lines(found) == self.rects.len();
        Err(PackFault::Stale {
            what: if same_number { "picture" } else { "frames" },
            frame: frame
                .filter(|_| same_number)
                .and_then(|frame| u32::try_from(frame).ok()),
        })
    }

    pub(super) fn check_rects(
        &self,
        found: impl ExactSizeIterator<Item = PixelRect>,
    ) -> Result<(), PackFault> {
        if found.len() != self.rects.len() {
            return Err(PackFault::Stale {
                what: "rectangles",
                frame: None,
            });
        }
        match found.zip(&self.rects).position(|(a, b)| a != *b) {
            None => Ok(()),
            Some(frame) => Err(PackFault::Stale {
                what: "rectangle",
                frame: u32::try_from(frame).ok(),
            }),
        }
    }
}
