//! Whether a paced session falls behind for good: a server, or a connection, that is too slow for it.

use std::time::{Duration, Instant};

/// Frames that leave so late are behind.
const BEHIND: Duration = Duration::from_secs(1);

/// How late frames are, and whether that gets better.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// When they were last seen to be behind without having got better, and by how much.
    mark: Option<(Instant, Duration)>,
}

impl Lag {
    /// The client has not read for so long: what comes late because of it is not held against anybody
    /// before there was time to catch up.
    pub(super) fn excuse(&mut self, unread: Duration) {
        if let Some((at, late)) = self.mark.as_mut().filter(|_| unread >= BEHIND) {
            *at += unread;
            *late += unread;
        }
    }

    /// The next frame is late by so much: whether frames were behind for `limit` and are no nearer now.
    pub(super) fn lasts(&mut self, late: Duration, now: Instant, limit: Duration) -> bool {
        match self.mark {
            _ if late < BEHIND => self.mark = None,
            Some((at, then)) if now.saturating_duration_since(at) >= limit => {
                if late >= then {
                    return true;
                }
                self.mark = Some((now, late));
            }
            Some(_) => {}
            None => self.mark = Some((now, late)),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 100 ms; `late_ms` and how long the client did not read before, at each.
    fn lasts_at(looks: impl IntoIterator<Item = (u64, u64)>) -> Option<u64> {
        let start = Instant::now();
        let (mut lag, mut ms) = (Lag::default(), 0);
        for (late_ms, unread_ms) in looks {
            ms += 100 + unread_ms;
            lag.excuse(Duration::from_millis(unread_ms));
            let now = start + Duration::from_millis(ms);
            if lag.lasts(Duration::from_millis(late_ms), now, Duration::from_secs(10)) {
                return Some(ms);
            }
        }
        None
    }

    #[test]
    fn who_falls_behind_and_does_not_catch_up_is_found_out() {
        // A second behind after 10 s; 10 s later it is two.
        assert_eq!(lasts_at((1..400).map(|n| (10 * n, 0))), Some(20_000));
        // Behind, and no better.
        assert_eq!(lasts_at((1..400).map(|_| (5000, 0))), Some(10_100));
    }

    #[test]
    fn who_is_a_little_late_or_catches_up_is_not() {
        assert_eq!(lasts_at((1..4000).map(|_| (990, 0))), None);
        assert_eq!(lasts_at((1..3900).map(|n| (40_000 - 10 * n, 0))), None);
        assert_eq!(
            lasts_at((1..4000).map(|n| (if n % 90 == 0 { 0 } else { 5000 }, 0))),
            None,
            "it was there in between"
        );
    }

    #[test]
    fn a_reader_that_comes_back_gets_the_time_to_catch_up() {
        let pause = |n: u64| match n {
            1..=20 => (1500, 0),
            21 => (31_500, 30_000),
            _ => (31_500_u64.saturating_sub(100 * (n - 21)), 0),
        };
        assert_eq!(lasts_at((1..400).map(pause)), None);
    }
}
