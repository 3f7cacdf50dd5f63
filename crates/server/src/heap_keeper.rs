//! Gives freed memory back to the system while the server runs.

use std::time::Duration;

use lipsync_engine::heap;

/// How often. A trim costs about a millisecond; 5 s between two of them cost no measurable speed.
const INTERVAL: Duration = Duration::from_secs(10);

/// Trims the heap until it is dropped.
pub(crate) async fn keep_trimming() {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Off the runtime: it takes the heap's locks.
        if tokio::task::spawn_blocking(heap::give_back).await.is_err() {
            return;
        }
    }
}
