//! The last configuration under which the server was healthy, kept as a file.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::config::Source;

/// Its name in `cache_dir`.
const NAME: &str = "last-known-good.yaml";

/// Keeps the text of a configuration in `cache_dir`. Failing costs a line in the log.
pub(super) async fn keep(folder: PathBuf, source: Source) {
    let keeping = move || {
        let head = format!(
            "# The last configuration under which lipsync-server was healthy, a copy of {}.\n\
             # Relative paths count from that file's folder. Environment variables are not in it.\n",
            source.file.display()
        );
        write(&folder, &[&head, &source.text])
    };
    let kept = tokio::task::spawn_blocking(keeping).await;
    if let Ok(Err(error)) = kept {
        tracing::warn!(%error, "the last good configuration cannot be kept in cache_dir");
    }
}

/// Whole, or not at all. There may be secrets in it, so that nobody else may read it.
fn write(folder: &Path, parts: &[&str]) -> io::Result<()> {
    let draft = folder.join(format!("{NAME}.{}", std::process::id()));
    // One that a crash has left.
    let _ = fs::remove_file(&draft);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    parts
        .iter()
        .try_for_each(|part| file.write_all(part.as_bytes()))?;
    fs::rename(&draft, folder.join(NAME))
}
