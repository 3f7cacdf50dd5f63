//! How much a counter has risen lately.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A counter's past, as long as a window.
#[derive(Debug)]
pub(super) struct Recent {
    window: Duration,
    seen: VecDeque<(Instant, u64)>,
}

impl Recent {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            seen: VecDeque::new(),
        }
    }

    /// Notes the count; gives its rise within the window. Called at most once a second.
    pub(super) fn note(&mut self, now: Instant, count: u64) -> u64 {
        let is_old = |at: Instant| now.saturating_duration_since(at) > self.window;
        // The newest of the old ones is what the window began with.
        while self.seen.get(1).is_some_and(|(at, _)| is_old(*at)) {
            self.seen.pop_front();
        }
        // What has not changed takes no place.
        if self.seen.back().is_none_or(|(_, last)| *last != count) {
            self.seen.push_back((now, count));
        } else if self.seen.len() == 1 {
            self.seen[0].0 = now;
        }
        let first = self.seen.front().map_or(count, |(_, first)| *first);
        count.saturating_sub(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_remembered_for_as_long_as_the_window() {
        let mut recent = Recent::new(Duration::from_secs(300));
        let begun = Instant::now();
        let mut rises = Vec::new();
        for second in 0..1000 {
            let count = 7 + u64::from(second >= 100) + 2 * u64::from(second >= 200);
            let rise = recent.note(begun + Duration::from_secs(second), count);
            if rises.last().is_none_or(|(_, last)| *last != rise) {
                rises.push((second, rise));
            }
        }
        assert_eq!(rises, [(0, 0), (100, 1), (200, 3), (401, 2), (501, 0)]);
        assert!(recent.seen.len() < 4, "{}", recent.seen.len());
    }
}
