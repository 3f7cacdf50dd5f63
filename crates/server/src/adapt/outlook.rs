//! What is expected of the next minutes.

use std::sync::Mutex;

use lipsync_core::sync::lock;
use lipsync_worker_pool::scaling::wanted;

use super::forecast::Accuracy;

/// What is expected, for others to read.
#[derive(Debug, Default)]
pub struct Outlook(Mutex<Expected>);

/// What is expected of the next minutes, and how good such expectations were.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected {
    /// Workers that are busy on average, of the busiest of the next minutes.
    pub(crate) busy: Option<f64>,
    pub(crate) accuracy: Accuracy,
}

impl Outlook {
    pub(crate) fn set(&self, expected: Expected) {
        *lock(&self.0) = expected;
    }

    pub(crate) fn expected(&self) -> Expected {
        *lock(&self.0)
    }

    /// Workers that the next minutes need; 0 where nothing is known.
    pub(crate) fn n_workers(&self) -> usize {
        let busy = self.expected().busy;
        // What is next to nothing needs nobody more.
        busy.filter(|busy| *busy > 0.5).map_or(0, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_outlook_needs_nobody() {
        let outlook = Outlook::default();
        let busy = |n| Expected {
            busy: Some(n),
            ..Expected::default()
        };
        assert_eq!(outlook.n_workers(), 0);
        outlook.set(busy(0.1));
        assert_eq!(outlook.n_workers(), 0);
        outlook.set(busy(3.0));
        assert_eq!(outlook.n_workers(), 5);
    }
}
