//! The history as a file in `cache_dir`, so that a restart does not lose it.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lipsync_core::saturate::u64_of;
use lipsync_telemetry::History;
use tokio::time::{MissedTickBehavior, interval_at};

use super::past::{FIGURES, N};
use crate::{core_state::Shared, named_file, whole_file};

/// As much is lost where the process is killed.
const INTERVAL: Duration = Duration::from_secs(60);

/// Two servers with one `cache_dir` on a machine have different ports.
fn name(port: u16) -> String {
    format!("history-{port}.bin")
}

/// What a server on this port has kept in `folder`; nothing where there is no file, or none that can be read, which the
/// log says then. Blocking.
pub(crate) fn read_history(folder: &Path, port: u16) -> History<N> {
    let read = named_file::read(&folder.join(name(port)), u64_of(History::<N>::max_bytes()));
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return History::default(),
        Err(error) => {
            tracing::warn!(%error, file = name(port), "the history in cache_dir cannot be read, a new one begins");
            return History::default();
        }
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now_s = now.unwrap_or(Duration::ZERO).as_secs();
    History::from_bytes(&bytes, &FIGURES, now_s).unwrap_or_else(|reason| {
        tracing::warn!(%reason, file = name(port), "the history in cache_dir is ignored, a new one begins");
        History::default()
    })
}

/// Keeps the history of now, if there is a folder for it. Blocking.
pub(crate) fn save_history(shared: &Shared) {
    let hot = shared.hot();
    let Some(folder) = &hot.registry.cache_dir else {
        return;
    };
    let bytes = shared.past.history().to_bytes(&FIGURES);
    let name = name(shared.limits.address.port());
    if let Err(error) = whole_file::replace(folder, &name, &[&bytes]) {
        tracing::warn!(%error, "the history cannot be kept in cache_dir");
    }
}

/// Keeps the history every minute until it is dropped.
pub(crate) async fn keep_history(shared: Arc<Shared>) {
    let first = tokio::time::Instant::now() + INTERVAL;
    let mut ticks = interval_at(first, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let shared = Arc::clone(&shared);
        let saving = tokio::task::spawn_blocking(move || save_history(&shared));
        if let Err(error) = saving.await {
            tracing::error!(%error, "the history could not be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_no_history_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name(7));
        let n_steps = || read_history(folder.path(), 7).steps("1s").count();
        assert_eq!(n_steps(), 0, "there is none");
        let mut history = History::<N>::default();
        for now in 1000..1010 {
            history.note(now, [1.0; N]);
        }
        whole_file::replace(folder.path(), &name(7), &[&history.to_bytes(&FIGURES)]).unwrap();
        assert_eq!(n_steps(), 9);
        assert_eq!(read_history(folder.path(), 8).steps("1s").count(), 0);
        fs::write(&file, "history: yes").unwrap();
        assert_eq!(n_steps(), 0);
        let too_large = fs::File::create(&file).unwrap();
        too_large.set_len(1 << 40).unwrap();
        assert_eq!(n_steps(), 0);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(n_steps(), 0);
    }

    #[test]
    fn a_history_is_bounded_in_bytes() {
        assert!(History::<N>::default().n_bytes() < 1 << 20);
        assert!(History::<N>::max_bytes() < 8 << 20);
    }
}
