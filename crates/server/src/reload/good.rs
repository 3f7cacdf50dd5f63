//! The last configuration under which the server was healthy, kept as a file.

use std::path::PathBuf;

use crate::{config::Source, whole_file};

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
        let parts = [head.as_bytes(), source.text.as_bytes()];
        // There may be secrets in it.
        whole_file::replace(&folder, NAME, &parts)
    };
    let kept = tokio::task::spawn_blocking(keeping).await;
    if let Ok(Err(error)) = kept {
        tracing::warn!(%error, "the last good configuration cannot be kept in cache_dir");
    }
}
