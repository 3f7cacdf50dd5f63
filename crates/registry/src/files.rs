//! Reading files and folders with a bound on what is taken from them.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use lipsync_core::encoding::wide_encoding;

use crate::{RegistryError, fence::Fence};

pub(crate) const MAX_ONNX_BYTES: u64 = 1 << 30;
pub(crate) const MAX_FRAME_BYTES: u64 = 64 << 20;
/// Entries of a folder that are looked at. A folder of millions would keep its reader for minutes.
const MAX_ENTRIES: usize = 200_000;

/// Reads a regular file of at most `limit_bytes`. `what` names it in errors.
pub(crate) fn read(
    fence: &Fence,
    path: &Path,
    what: &'static str,
    limit_bytes: u64,
) -> Result<Vec<u8>, RegistryError> {
    let (file, n_bytes) = fence.open(path, what)?;
    read_open((file, n_bytes), path, what, limit_bytes)
}

/// As [`read`], for a file that is open; its size is only where to begin: it may grow while it is read.
pub(crate) fn read_open(
    (file, n_bytes): (File, u64),
    path: &Path,
    what: &'static str,
    limit_bytes: u64,
) -> Result<Vec<u8>, RegistryError> {
    let too_large = || RegistryError::FileTooLarge {
        what,
        limit_bytes,
        path: path.to_owned(),
    };
    if n_bytes > limit_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(n_bytes).unwrap_or(0));
    file.take(limit_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(path, what, &e))?;
    if bytes.len() as u64 > limit_bytes {
        return Err(too_large());
    }
    Ok(bytes)
}

/// As [`read`], for UTF-8 text. A byte order mark before it is left out.
pub(crate) fn read_text(
    fence: &Fence,
    path: &Path,
    what: &'static str,
    limit_bytes: u64,
) -> Result<String, RegistryError> {
    let bytes = read(fence, path, what, limit_bytes)?;
    let not_utf8 = |found| RegistryError::Encoding {
        what,
        found,
        path: path.to_owned(),
    };
    // Two bytes a character are good UTF-8, too, where all are ASCII.
    if let Some(encoding) = wide_encoding(&bytes) {
        return Err(not_utf8(encoding));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| not_utf8("in another encoding"))?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// What lies in a folder, in no order.
pub(crate) fn entries(
    folder: &Path,
    what: &'static str,
) -> Result<impl Iterator<Item = Result<PathBuf, RegistryError>>, RegistryError> {
    let entries = folder
        .read_dir()
        .map_err(|e| unreadable(folder, what, &e))?;
    let folder = folder.to_owned();
    Ok(entries.enumerate().map(move |(n_seen, entry)| {
        if n_seen >= MAX_ENTRIES {
            return Err(RegistryError::TooManyEntries {
                what,
                limit: MAX_ENTRIES,
                path: folder.clone(),
            });
        }
        let entry = entry.map_err(|e| unreadable(&folder, what, &e))?;
        Ok(entry.path())
    }))
}

pub(crate) fn unreadable(path: &Path, what: &'static str, error: &std::io::Error) -> RegistryError {
    RegistryError::File {
        what,
        kind: error.kind(),
        path: path.to_owned(),
    }
}
