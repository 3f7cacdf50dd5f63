//! Files that are replaced as a whole, or not at all.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Puts a file in `folder` in the place of what has this name there. Nobody else may read it. Blocking.
///
/// # Errors
/// What the system says; what was there is still there then.
pub(crate) fn replace(folder: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let draft = folder.join(format!("{name}.{}", std::process::id()));
    // One that a crash has left.
    let _ = fs::remove_file(&draft);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = parts
        .iter()
        .try_for_each(|part| file.write_all(part))
        // Else a machine that loses its power may find an empty file of that name.
        .and_then(|()| file.sync_data())
        .and_then(|()| fs::rename(&draft, folder.join(name)));
    if written.is_err() {
        // On a full disk it would take what is left.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), "a", &[b"one ", b"two"]).unwrap();
        replace(folder.path(), "a", &[b"three"]).unwrap();
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"three");
        fs::create_dir(folder.path().join("b")).unwrap();
        assert!(replace(folder.path(), "b", &[b"x"]).is_err());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
