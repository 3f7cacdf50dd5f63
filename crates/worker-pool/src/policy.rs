//! Who gets which frames: the two decisions of the dispatcher, without any thread.

use std::ops::Range;

/// Chunks that a worker may hold: one that runs, and one that waits so that the worker need not
/// wait for the dispatcher between two.
pub(crate) const MAX_LOAD: usize = 2;

/// Gives each chunk to the next worker in turn, passing over those that have more to do.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// The worker that gets the next chunk, or `None` if all are full.
    ///
    /// `loads` has the chunks that each worker holds. Among the least loaded workers it is the
    /// first from the one whose turn it is: an idle worker is never passed over in favour of one
    /// that is busy but has room.
    pub(crate) fn choose(&mut self, loads: &[usize]) -> Option<usize> {
        let n = loads.len();
        let worker = (0..n)
            .map(|i| (self.next + i) % n)
            .filter(|&worker| loads[worker] < MAX_LOAD)
            .min_by_key(|&worker| loads[worker])?;
        self.next = (worker + 1) % n;
        Some(worker)
    }
}

/// The consecutive chunks that a job is split into.
#[derive(Debug)]
pub(crate) struct Chunks {
    rest: Range<usize>,
    chunk_frames: usize,
}

impl Chunks {
    /// Splits `n_frames` so that all of `n_workers` have equally many rounds of chunks of about the
    /// same length, in as few rounds as `max_batch_frames` allows.
    ///
    /// One long chunk followed by a short rest would leave all workers but one idle at the end.
    pub(crate) fn new(n_frames: usize, n_workers: usize, max_batch_frames: usize) -> Self {
        let n_rounds = n_frames
            .div_ceil(n_workers.saturating_mul(max_batch_frames))
            .max(1);
        Self {
            rest: 0..n_frames,
            chunk_frames: n_frames.div_ceil(n_workers.saturating_mul(n_rounds)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Iterator for Chunks {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.rest.is_empty() {
            return None;
        }
        let start = self.rest.start;
        let end = self.rest.end.min(start + self.chunk_frames);
        self.rest.start = end;
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn idle_workers_take_turns() {
        let mut policy = RoundRobin::default();
        let turns: Vec<_> = (0..5).map(|_| policy.choose(&[0; 3])).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1].map(Some));
    }

    #[test]
    fn busy_workers_are_passed_over_and_full_ones_get_nothing() {
        let mut policy = RoundRobin::default();
        assert_eq!(policy.choose(&[1, 0, 0]), Some(1));
        assert_eq!(policy.choose(&[1, 1, 2]), Some(0));
        assert_eq!(policy.choose(&[2, 2, 1]), Some(2));
        assert_eq!(policy.choose(&[2, 2, 2]), None);
        assert_eq!(
            policy.choose(&[0, 0, 0]),
            Some(0),
            "a refusal costs no turn"
        );
    }

    #[test]
    fn splits_are_even() {
        let lens = |n, workers, max| -> Vec<usize> {
            Chunks::new(n, workers, max).map(|c| c.len()).collect()
        };
        assert_eq!(lens(8, 4, 64), [2, 2, 2, 2]);
        assert_eq!(lens(1, 4, 64), [1]);
        assert_eq!(lens(9, 4, 64), [3, 3, 3]);
        assert_eq!(lens(5, 1, 2), [2, 2, 1]);
        assert_eq!(lens(260, 4, 64), [33, 33, 33, 33, 33, 33, 33, 29]);
        assert_eq!(lens(3, usize::MAX, usize::MAX), [1, 1, 1]);
        assert_eq!(lens(0, 4, 64), []);
    }

    proptest! {
        #[test]
        fn chunks_cover_the_job_in_order(n in 0..500_usize, workers in 1..12_usize, max in 1..70_usize) {
            let mut next = 0;
            for chunk in Chunks::new(n, workers, max) {
                prop_assert_eq!(chunk.start, next);
                prop_assert!(!chunk.is_empty() && chunk.len() <= max);
                next = chunk.end;
            }
            prop_assert_eq!(next, n);
        }
    }
}
