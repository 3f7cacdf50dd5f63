//! What tells whether a file is another one than before, without reading it.

use std::{os::unix::fs::MetadataExt as _, path::Path};

/// What is another where a file was written, or another file was put in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Print {
    /// Of the file that all links on the way lead to. Blocks on the file system.
    pub(crate) fn of(file: &Path) -> Option<Self> {
        let of = std::fs::metadata(file).ok()?;
        Some(Self {
            device: of.dev(),
            inode: of.ino(),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
        })
    }
}
