//! How busy the workers were lately, for the headers of answers.

use std::{sync::Mutex, time::Duration};

use lipsync_core::sync::lock;
use lipsync_worker_pool::WorkerPool;
use tokio::time::Instant;

/// Shorter times say more of single batches than of the load.
const WINDOW: Duration = Duration::from_secs(1);

/// The share of their time in which workers ran networks, over the last window that is over.
#[derive(Debug)]
pub struct BusyShare(Mutex<Window>);

#[derive(Debug)]
struct Window {
    begun: Instant,
    /// Of all workers together, when it began.
    busy: Duration,
    /// Of the window before.
    percent: u32,
}

impl Default for BusyShare {
    fn default() -> Self {
        Self(Mutex::new(Window {
            begun: Instant::now(),
            busy: Duration::ZERO,
            percent: 0,
        }))
    }
}

impl BusyShare {
    /// In percent. Whoever asks first after a window is over begins the next one.
    pub fn percent(&self, workers: &WorkerPool) -> u32 {
        let is_over = |window: &Window| window.begun.elapsed() >= WINDOW;
        if is_over(&lock(&self.0)) {
            let stats = workers.stats();
            let busy = stats.workers.iter().map(|worker| worker.busy).sum();
            return lock(&self.0).end(busy, stats.n_workers());
        }
        lock(&self.0).percent
    }
}

impl Window {
    fn end(&mut self, busy: Duration, n_workers: usize) -> u32 {
        let elapsed = self.begun.elapsed();
        if elapsed >= WINDOW {
            // Workers that leave take their times with them.
            let spent = busy.saturating_sub(self.busy).as_millis() * 100;
            let available = elapsed.as_millis() * n_workers.max(1) as u128;
            let percent = spent.checked_div(available).unwrap_or(0).min(100);
            *self = Self {
                begun: Instant::now(),
                busy,
                percent: u32::try_from(percent).unwrap_or(100),
            };
        }
        self.percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_the_share_of_the_last_window() {
        let share = BusyShare::default();
        let end = |busy_ms| lock(&share.0).end(Duration::from_millis(busy_ms), 4);
        assert_eq!(end(500), 0, "nothing is over yet");
        tokio::time::advance(WINDOW).await;
        assert_eq!(end(2000), 50);
        assert_eq!(end(3000), 50, "the next one is not over");
        tokio::time::advance(2 * WINDOW).await;
        assert_eq!(end(10_000), 100);
        tokio::time::advance(WINDOW).await;
        assert_eq!(end(9_000), 0, "a worker has left");
    }
}
