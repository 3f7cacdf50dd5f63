//! The system's signals: what asks the server to end.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// SIGTERM, SIGINT and SIGHUP, as they come, each with a line in the log.
///
/// SIGHUP asks as well, but never insists: terminals and systemd send it together with another one, or twice.
pub fn watch() -> anyhow::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Under `nohup` it stays ignored, which taking it would undo.
    let mut hang_up = if is_hang_up_ignored() {
        None
    } else {
        Some(signal(SignalKind::hangup())?)
    };
    let (sender, signals) = mpsc::channel(2);
    tokio::spawn(async move {
        let mut n_before = 0;
        loop {
            let hung_up = async {
                match &mut hang_up {
                    Some(hang_up) => hang_up.recv().await,
                    None => std::future::pending().await,
                }
            };
            let (name, insists) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", true),
                _ = interrupt.recv() => ("SIGINT", true),
                _ = hung_up => ("SIGHUP", false),
            };
            match (n_before, insists) {
                (0, _) => tracing::info!(
                    "{name}: draining, then stopping; a second SIGTERM or SIGINT stops the server at once"
                ),
                (_, false) => {
                    tracing::info!("{name}: the server is already stopping");
                    continue;
                }
                (_, true) => tracing::warn!("{name} again: stopping at once"),
            }
            n_before += 1;
            // The second one ends the process, whatever becomes of a third.
            let _ = sender.try_send(());
        }
    });
    Ok(signals)
}

/// Whether the process was started with SIGHUP ignored; on systems other than Linux that is not known.
fn is_hang_up_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit n - 1 stands for signal n, and SIGHUP is 1.
    mask.is_some_and(|mask| mask & 1 == 1)
}
