//! What a client is told about frames that could not keep to their time.

use std::time::{Duration, Instant};

use crate::Warning;

/// Warnings are so far apart at least.
const INTERVAL: Duration = Duration::from_secs(1);

/// Late frames since the last warning.
#[derive(Debug, Default)]
pub(super) struct LateFrames {
    n_late: u64,
    n_skipped: u64,
    warned: Option<Instant>,
}

impl LateFrames {
    /// A frame left after its time.
    pub(super) fn late(&mut self) {
        self.n_late += 1;
    }

    /// A frame was made without the network, to catch up.
    pub(super) fn skipped(&mut self) {
        self.n_skipped += 1;
    }

    /// A warning, if there is a reason and the last one is long ago.
    pub(super) fn warning(&mut self, now: Instant) -> Option<Warning> {
        let is_quiet = self.n_late + self.n_skipped == 0;
        if is_quiet || self.warned.is_some_and(|at| now < at + INTERVAL) {
            return None;
        }
        let Self {
            n_late, n_skipped, ..
        } = std::mem::take(self);
        self.warned = Some(now);
        Some(Warning {
            code: "late_frames",
            text: format!(
                "{n_late} frames left late, {n_skipped} were made without the network to catch up"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_each_late_frame_once_and_not_too_often() {
        let mut late = LateFrames::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(late.warning(at(0)), None);
        late.late();
        assert!(
            late.warning(at(0))
                .unwrap()
                .text
                .starts_with("1 frames left late, 0")
        );
        late.late();
        late.skipped();
        assert_eq!(late.warning(at(999)), None);
        late.late();
        assert!(
            late.warning(at(1000))
                .unwrap()
                .text
                .starts_with("2 frames left late, 1")
        );
        assert_eq!(late.warning(at(9000)), None);
    }
}
