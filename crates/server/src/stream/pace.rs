//! The clock of a session that is paced in real time: when each frame is due.
//!
//! Pure arithmetic on the times that it is given: tests run a day of it in a moment.

use std::time::Duration;

use tokio::time::Instant;

/// Frames are numbered as they leave, from 0. Frame `n` is due `(n - a) / fps` after frame `a`, the last
/// one at which the clock was started; each time is computed from there, so that nothing adds up.
#[derive(Debug)]
pub(super) struct Pacer {
    fps: u32,
    anchor: Option<(u64, Instant)>,
}

impl Pacer {
    /// A clock that stands.
    pub(super) fn new(fps: u32) -> Self {
        Self { fps, anchor: None }
    }

    /// When frame `n` is due; `None` while the clock stands.
    pub(super) fn due(&self, n: u64) -> Option<Instant> {
        let (first, at) = self.anchor?;
        Some(match n.checked_sub(first) {
            Some(later) => at + self.span(later),
            None => at.checked_sub(self.span(first - n)).unwrap_or(at),
        })
    }

    /// Lets frame `n` be due at `at`, and all others accordingly, unless it is due later anyway.
    pub(super) fn start(&mut self, n: u64, at: Instant) {
        if self.due(n).is_none_or(|due| due < at) {
            self.anchor = Some((n, at));
        }
    }

    /// How long `n_frames` frames are shown.
    pub(super) fn span(&self, n_frames: u64) -> Duration {
        let nanos = u128::from(n_frames) * 1_000_000_000 / u128::from(self.fps.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_does_not_drift() {
        let start = Instant::now();
        for fps in [20, 25, 30, 60] {
            let mut pacer = Pacer::new(fps);
            assert_eq!(pacer.due(0), None);
            pacer.start(0, start);
            let day = u64::from(fps) * 24 * 3600;
            for n in (0..=day).step_by(7) {
                let nanos = n * 1_000_000_000 / u64::from(fps);
                assert_eq!(pacer.due(n), Some(start + Duration::from_nanos(nanos)));
            }
            assert_eq!(pacer.due(day), Some(start + Duration::from_secs(24 * 3600)));
        }
    }

    #[test]
    fn a_hold_moves_all_that_follows_and_never_back() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut pacer = Pacer::new(25);
        pacer.start(5, ms(1000));
        assert_eq!(pacer.due(4), Some(ms(960)));
        pacer.start(10, ms(1190));
        assert_eq!(pacer.due(10), Some(ms(1200)), "it is due later anyway");
        pacer.start(10, ms(1300));
        assert_eq!(pacer.due(11), Some(ms(1340)));
    }
}
