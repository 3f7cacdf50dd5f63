//! Another configuration for a server that runs.

mod edits;
mod hot;
mod trial;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Result, ensure};
use lipsync_server::reload::{Cause, Refusal, ReloadStats, Report};
use tempfile::TempDir;

use crate::support::{FakeLoader, Gate, PATIENCE, TestServer, avatar};

/// A server with a file that can be edited. Its folder has the avatars `a`, `b` and `c`, of one picture each, so that a
/// frame depends on its audio alone.
struct Edited {
    server: TestServer,
    gate: Arc<Gate>,
    file: PathBuf,
    folder: TempDir,
}

impl Edited {
    /// Starts with this text.
    async fn start(yaml: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for name in ["a", "b", "c"] {
            avatar::write_fake(&folder.path().join(name), 1)?;
        }
        let file = folder.path().join("config.yaml");
        fs::write(&file, yaml)?;
        Self::start_at(file, folder).await
    }

    async fn start_at(file: PathBuf, folder: TempDir) -> Result<Self> {
        let loader = FakeLoader::default();
        let gate = Arc::clone(&loader.gate);
        let server = TestServer::start_file(&file, Arc::new(loader)).await?;
        Ok(Self {
            server,
            gate,
            file,
            folder,
        })
    }

    /// Puts another file in the place of this one.
    fn write(&self, yaml: &str) -> Result<()> {
        replace(&self.file, yaml)
    }

    /// The same, and has it read at once.
    async fn reload(&self, yaml: &str) -> Result<Result<Report, Refusal>> {
        self.write(yaml)?;
        Ok(self
            .server
            .running()
            .shared()
            .reload
            .reload(Cause::Request)
            .await)
    }

    /// The same, of an edit that is good.
    async fn put(&self, yaml: &str) -> Result<Report> {
        Ok(self.reload(yaml).await??)
    }

    fn stats(&self) -> ReloadStats {
        self.server.running().shared().reload.stats()
    }

    /// Waits until the figures are so.
    async fn until(&self, what: &str, is_so: impl Fn(&ReloadStats) -> bool) -> Result<ReloadStats> {
        let begun = Instant::now();
        loop {
            let stats = self.stats();
            if is_so(&stats) {
                return Ok(stats);
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "still waiting until {what}: {stats:?}"
            );
            tokio::task::yield_now().await;
        }
    }
}

/// Renames another file to this one, so that nobody sees half of it.
fn replace(file: &Path, text: &str) -> Result<()> {
    let draft = file.with_extension("draft");
    fs::write(&draft, text)?;
    Ok(fs::rename(draft, file)?)
}
