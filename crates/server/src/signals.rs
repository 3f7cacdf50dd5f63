//! The system's signals: what asks the server to end, and what asks it to read its configuration again.

use lipsync_server::reload::{Cause, Reloader};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// SIGTERM and SIGINT, as they come, each with a line in the log.
pub fn watch() -> anyhow::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, signals) = mpsc::channel(2);
    tokio::spawn(async move {
        let mut n_before = 0;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if n_before == 0 {
                tracing::info!(
                    "{name}: draining, then stopping; a second SIGTERM or SIGINT stops the server at once"
                );
            } else {
                tracing::warn!("{name} again: stopping at once");
            }
            n_before += 1;
            // The second one ends the process, whatever becomes of a third.
            let _ = sender.try_send(());
        }
    });
    Ok(signals)
}

/// SIGHUP, from now on: it must not end a server that is starting either. `None` under `nohup`, where it stays
/// ignored, which taking it would undo.
pub fn hang_ups() -> anyhow::Result<Option<Signal>> {
    if is_hang_up_ignored() {
        return Ok(None);
    }
    Ok(Some(signal(SignalKind::hangup())?))
}

/// Reads the configuration again at each SIGHUP. Several that come while it is read are one.
pub async fn reload_at(mut hang_ups: Signal, reloader: Reloader) {
    while hang_ups.recv().await.is_some() {
        // What became of it is in the log.
        let _ = reloader.reload(Cause::Signal).await;
    }
}

/// Whether the process was started with SIGHUP ignored; on systems other than Linux that is not known.
fn is_hang_up_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit n - 1 stands for signal n, and SIGHUP is 1.
    mask.is_some_and(|mask| mask & 1 == 1)
}
