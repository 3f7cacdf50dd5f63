//! How fast requests of one stream may fail.

use std::time::Duration;

use tokio::time::Instant;

/// Failures at once, after a rest...
const BURST: u32 = 50;
/// ... and the time for each one in the long run.
const EACH: Duration = Duration::from_millis(50);

/// What has failed lately.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// When the whole burst is there again.
    full_at: Option<Instant>,
}

impl Failures {
    /// Counts one.
    pub(super) fn count(&mut self) {
        let now = Instant::now();
        let before = self.full_at.map_or(now, |at| at.max(now));
        self.full_at = Some(before + EACH);
    }

    /// How long the next request waits.
    pub(super) fn pause(&self) -> Duration {
        let Some(full_at) = self.full_at else {
            return Duration::ZERO;
        };
        full_at
            .saturating_duration_since(Instant::now())
            .saturating_sub(EACH * BURST)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn some_fail_at_once_and_then_each_takes_its_time() {
        let (mut failures, begun) = (Failures::default(), Instant::now());
        for _ in 0..BURST + 20 {
            sleep(failures.pause()).await;
            failures.count();
        }
        let took = begun.elapsed();
        assert!(took.abs_diff(EACH * 20) <= EACH, "{took:?}");
        advance(EACH * BURST).await;
        assert_eq!(failures.pause(), Duration::ZERO);
    }
}
