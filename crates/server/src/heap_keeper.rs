//! Gives freed memory back to the system while the server runs.

use std::time::Duration;

use lipsync_engine::heap;

/// How often. A trim costs about a millisecond; 5 s between two of them cost no measurable speed.
const INTERVAL: Duration = Duration::from_secs(10);

/// Gives back what is free, also what is kept for the next pictures.
pub(crate) fn give_back() {
    lipsync_compositor::release_spare_memory();
    heap::give_back();
}

/// Trims the heap until it is dropped.
pub(crate) async fn keep_trimming() {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Off the runtime: it takes the heap's locks.
        if tokio::task::spawn_blocking(give_back).await.is_err() {
            return;
        }
    }
}
