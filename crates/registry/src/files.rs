//! Reading files with a bound on their size.

use std::{fs::File, io::Read, path::Path};

use crate::RegistryError;

pub(crate) const MAX_ONNX_BYTES: u64 = 1 << 30;
pub(crate) const MAX_TEXT_BYTES: u64 = 64 << 20;
pub(crate) const MAX_FRAME_BYTES: u64 = 64 << 20;

/// Reads a regular file of at most `limit_bytes`. `what` names it in errors.
///
/// A pipe or a device is refused before it is opened: opening a pipe would block for ever.
pub(crate) fn read(
    path: &Path,
    what: &'static str,
    limit_bytes: u64,
) -> Result<Vec<u8>, RegistryError> {
    let n_bytes = size(path, what)?;
    let too_large = || RegistryError::FileTooLarge {
        what,
        limit_bytes,
        path: path.to_owned(),
    };
    if n_bytes > limit_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(n_bytes).unwrap_or(0));
    // The file may grow between the look and the read.
    File::open(path)
        .and_then(|file| file.take(limit_bytes + 1).read_to_end(&mut bytes))
        .map_err(|e| unreadable(path, what, &e))?;
    if bytes.len() as u64 > limit_bytes {
        return Err(too_large());
    }
    Ok(bytes)
}

/// As [`read`], for UTF-8 text. A byte order mark before it is left out.
pub(crate) fn read_text(path: &Path, what: &'static str) -> Result<String, RegistryError> {
    let bytes = read(path, what, MAX_TEXT_BYTES)?;
    let mut text = String::from_utf8(bytes).map_err(|_| RegistryError::File {
        what,
        kind: std::io::ErrorKind::InvalidData,
        path: path.to_owned(),
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// Size of a regular file in bytes.
pub(crate) fn size(path: &Path, what: &'static str) -> Result<u64, RegistryError> {
    let metadata = path.metadata().map_err(|e| unreadable(path, what, &e))?;
    if metadata.is_file() {
        Ok(metadata.len())
    } else {
        Err(RegistryError::File {
            what,
            kind: std::io::ErrorKind::InvalidInput,
            path: path.to_owned(),
        })
    }
}

pub(crate) fn unreadable(path: &Path, what: &'static str, error: &std::io::Error) -> RegistryError {
    RegistryError::File {
        what,
        kind: error.kind(),
        path: path.to_owned(),
    }
}
