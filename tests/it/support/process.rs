//! Tests that look at their whole process have one of their own.

use std::{env, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::{process::Command, time::timeout};

/// Set in such a process.
const ALONE: &str = "LIPSYNC_TEST_ALONE";
/// For one such test.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether the process is the test's own. If not, the test is run in one, and has passed there.
pub async fn is_alone(test: &str) -> Result<bool> {
    if env::var_os(ALONE).is_some() {
        return Ok(true);
    }
    let output = Command::new(env::current_exe()?)
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output).await.context("no end")??;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(false)
}

/// Threads of this process; `None` where the system does not say.
pub fn n_threads() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

/// Bytes of memory that this process has resident; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}
