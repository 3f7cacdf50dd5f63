//! When something that changes has come to rest.

use std::time::{Duration, Instant};

/// Takes looks at something, and tells once of each state that has lasted for a while.
#[derive(Debug)]
pub(super) struct Debounce<T> {
    quiet: Duration,
    /// What was told of last.
    told: Option<T>,
    /// What was seen last, and since when.
    seen: Option<(T, Instant)>,
}

impl<T: PartialEq + Clone> Debounce<T> {
    pub(super) fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            told: None,
            seen: None,
        }
    }

    /// Whether this is another state than the one that was told of last, and has lasted long enough. `None` is no
    /// state: a file that is not there is about to be.
    pub(super) fn look(&mut self, now: Instant, state: Option<T>) -> bool {
        let Some(state) = state else {
            self.seen = None;
            return false;
        };
        let since = match &self.seen {
            Some((seen, since)) if *seen == state => *since,
            _ => now,
        };
        let is_ripe = now.duration_since(since) >= self.quiet && self.told.as_ref() != Some(&state);
        if is_ripe {
            self.told = Some(state.clone());
        }
        self.seen = Some((state, since));
        is_ripe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(500);

    #[test]
    fn each_state_is_told_of_once_when_it_has_lasted() {
        let mut debounce = Debounce::new(QUIET);
        let begun = Instant::now();
        let mut told = Vec::new();
        // What is seen every 250 ms: a file that is there, written in three steps, gone for a moment, another, and
        // the one before again.
        let looks = [
            Some(1),
            Some(1),
            Some(1),
            Some(1),
            Some(2),
            Some(3),
            Some(4),
            Some(4),
            Some(4),
            None,
            Some(4),
            Some(4),
            Some(4),
            Some(5),
            Some(4),
            Some(4),
            Some(4),
            Some(1),
            Some(1),
            Some(1),
        ];
        for (n, look) in (0_u32..).zip(looks) {
            if debounce.look(begun + n * QUIET / 2, look) {
                told.push((n, look));
            }
        }
        assert_eq!(told, [(2, Some(1)), (8, Some(4)), (19, Some(1))]);
    }
}
