//! The rules that the order goes by, as functions of numbers: turns, cuts, and how long a batch is held back.
//!
//! Devices differ in what a large batch is good for. The CPU engine runs frames one by one: there a job is
//! split over all workers, and never shares a batch, which would only make it wait for its neighbours. There,
//! too, a chunk lasts no longer than a turn, and a job that has had one goes behind those that wait.
//! A GPU runs sixteen frames in little more time than one: there a job is split into no smaller batches
//! than that, and jobs of one model that wait at the same moment share one.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use lipsync_core::{Priority, saturate::usize_of};
use lipsync_engine::Device;

/// Chunks that a worker may hold: one that runs, and one that waits so that the worker need not
/// wait for the dispatcher between two.
pub(crate) const MAX_LOAD: usize = 2;

/// On a device that gains from batches, frames below which a job is not split over workers. A network of
/// this family gives a GPU too little to do with fewer; not measured on one yet.
pub(crate) const MIN_SHARED_FRAMES: usize = 16;

/// On the CPU, what a chunk may take of a processor before the worker looks at who else waits. One of these is what a
/// job finds before it. A chunk costs some 50 us beside its frames.
pub(crate) const TURN: Duration = Duration::from_millis(20);

/// What a tenant that was idle may claim of the time in which others were served.
pub(crate) const CLAIM: Duration = Duration::from_millis(100);

/// For this long after the last job of a faster network, slower ones leave workers to it.
pub(crate) const QUIET: Duration = Duration::from_secs(10);

/// What a batch may take for another to be queued behind it. That saves the worker a wait for the dispatcher, some
/// 50 us, which is nothing beside a longer batch; and what is queued cannot give way to what is more urgent.
pub(crate) const LOOKAHEAD: Duration = Duration::from_millis(10);

/// What a frame is taken to cost whose network was not measured yet.
pub(crate) const ESTIMATE: Duration = Duration::from_millis(10);

/// How long the networks of a size class run before they make room for another. While one makes room, workers that
/// ran it may find nothing to do, so it should not happen at every batch.
pub(crate) const SIZE_CLASS_TURN: Duration = Duration::from_secs(1);

/// The frames of a network that fit into a turn, at least one.
pub(crate) fn turn_frames(per_frame: Option<Duration>) -> usize {
    let fit = per_frame.and_then(|time| TURN.as_nanos().checked_div(time.as_nanos()));
    fit.map_or(usize::MAX, |n| usize_of(n.max(1)))
}

/// The place of a level of urgency; the most urgent is 0.
pub(crate) fn level_of(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

/// Whether jobs of one model share batches there.
pub(crate) fn shares_batches(device: Device) -> bool {
    device != Device::Cpu
}

/// Gives each chunk to the next worker in turn, passing over those that have more to do.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// The worker that gets the next chunk, or `None` if all are full.
    ///
    /// `loads` has the chunks that each worker holds, of which `max_load` are too many to get another.
    /// Among the least loaded workers it is the first from the one whose turn it is: an idle worker
    /// is never passed over in favour of one that is busy but has room.
    pub(crate) fn choose(&mut self, loads: &[usize], max_load: usize) -> Option<usize> {
        let n = loads.len();
        let worker = (0..n)
            .map(|i| (self.next + i) % n)
            .filter(|&worker| loads[worker] < max_load)
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
    /// Chunks that the job may have taken before others are looked at, and those left of them.
    turn: usize,
    left_in_turn: usize,
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
            turn: n_workers,
            left_in_turn: n_workers,
        }
    }

    /// Leaves open where `n_frames` are split: as [`Self::take`] is told.
    pub(crate) fn unsplit(n_frames: usize) -> Self {
        Self {
            rest: 0..n_frames,
            chunk_frames: usize::MAX,
            turn: usize::MAX,
            left_in_turn: usize::MAX,
        }
    }

    /// Frames that have not been taken.
    pub(crate) fn n_rest(&self) -> usize {
        self.rest.len()
    }

    /// Frames of the next chunk, if that is of at most `max_frames`.
    pub(crate) fn next_frames(&self, max_frames: usize) -> usize {
        self.rest.len().min(self.chunk_frames).min(max_frames)
    }

    /// The next chunk, of at most `max_frames`; empty when all has been taken.
    pub(crate) fn take(&mut self, max_frames: usize) -> Range<usize> {
        let start = self.rest.start;
        let n_frames = self.next_frames(max_frames);
        self.rest.start += n_frames;
        self.left_in_turn = self.left_in_turn.saturating_sub(1);
        start..self.rest.start
    }

    /// Whether a chunk for each worker has been taken since this last said so.
    pub(crate) fn ends_turn(&mut self) -> bool {
        let is_over = self.left_in_turn == 0;
        if is_over {
            self.left_in_turn = self.turn;
        }
        is_over
    }
}

/// How many frames of a model that has `n_waiting` the next batch takes where batches are shared, with
/// `n_idle` workers to run them: an equal part for each idle worker, but not so little that sharing it
/// out costs more than it gains.
pub(crate) fn shared_frames(n_waiting: usize, n_idle: usize, max_batch_frames: usize) -> usize {
    n_waiting
        .div_ceil(n_idle.max(1))
        .max(MIN_SHARED_FRAMES)
        .min(max_batch_frames)
}

/// Until when a batch of `n_waiting` frames may be held back for others to join while all workers are
/// busy; `None`: it goes to a worker with room at once.
///
/// `wait_end` is when the oldest of its jobs has waited for as long as is configured. A job whose
/// deadline comes before that is not made to wait.
pub(crate) fn hold_until(
    n_waiting: usize,
    max_batch_frames: usize,
    wait_end: Instant,
    deadline: Option<Instant>,
    now: Instant,
) -> Option<Instant> {
    let is_pointless = n_waiting >= max_batch_frames || deadline.is_some_and(|d| d <= wait_end);
    (!is_pointless && now < wait_end).then_some(wait_end)
}

/// Why a batch on a device where batches are shared took no more frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It has its share of what waited, or as many frames as a batch may have.
    Full,
    /// A worker was idle, and nothing else waited.
    Idle,
    /// All workers were busy, and it has been held back for as long as it may.
    WaitOver,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn idle_workers_take_turns() {
        let mut policy = RoundRobin::default();
        let turns: Vec<_> = (0..5).map(|_| policy.choose(&[0; 3], MAX_LOAD)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1].map(Some));
    }

    #[test]
    fn busy_workers_are_passed_over_and_full_ones_get_nothing() {
        let mut policy = RoundRobin::default();
        let mut choose = |loads| policy.choose(loads, MAX_LOAD);
        assert_eq!(choose(&[1, 0, 0]), Some(1));
        assert_eq!(choose(&[1, 1, 2]), Some(0));
        assert_eq!(choose(&[2, 2, 1]), Some(2));
        assert_eq!(choose(&[2, 2, 2]), None);
        assert_eq!(choose(&[0, 0, 0]), Some(0), "a refusal costs no turn");
        assert_eq!(policy.choose(&[1, 1, 1], 1), None, "none is idle");
    }

    fn lens(mut chunks: Chunks) -> Vec<usize> {
        let next = || Some(chunks.take(usize::MAX).len()).filter(|&n| n > 0);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn splits_are_even() {
        let lens = |n, workers, max| lens(Chunks::new(n, workers, max));
        assert_eq!(lens(8, 4, 64), [2, 2, 2, 2]);
        assert_eq!(lens(1, 4, 64), [1]);
        assert_eq!(lens(9, 4, 64), [3, 3, 3]);
        assert_eq!(lens(5, 1, 2), [2, 2, 1]);
        assert_eq!(lens(260, 4, 64), [33, 33, 33, 33, 33, 33, 33, 29]);
        assert_eq!(lens(3, usize::MAX, usize::MAX), [1, 1, 1]);
        assert_eq!(lens(0, 4, 64), []);
    }

    #[test]
    fn idle_workers_share_what_waits_in_no_small_pieces() {
        assert_eq!(shared_frames(64, 8, 64), MIN_SHARED_FRAMES);
        assert_eq!(shared_frames(100, 2, 64), 50);
        assert_eq!(shared_frames(300, 1, 64), 64);
        assert_eq!(shared_frames(300, 0, 64), 64);
        assert_eq!(shared_frames(4, 8, 8), 8);
    }

    #[test]
    fn a_turn_has_as_many_frames_as_fit_and_at_least_one() {
        let ms = Duration::from_millis;
        assert_eq!(turn_frames(Some(ms(7))), 2);
        assert_eq!(turn_frames(Some(TURN)), 1);
        assert_eq!(turn_frames(Some(10 * TURN)), 1);
        assert_eq!(turn_frames(Some(Duration::ZERO)), usize::MAX);
        assert_eq!(turn_frames(None), usize::MAX);
    }

    #[test]
    fn a_batch_is_held_only_while_that_can_help() {
        let now = Instant::now();
        let later = now + Duration::from_millis(2);
        let much_later = now + Duration::from_secs(2);
        assert_eq!(hold_until(3, 8, later, None, now), Some(later));
        assert_eq!(hold_until(3, 8, later, Some(much_later), now), Some(later));
        assert_eq!(hold_until(8, 8, later, None, now), None, "it is full");
        assert_eq!(hold_until(3, 8, now, None, now), None, "it has waited");
        assert_eq!(hold_until(3, 8, later, Some(later), now), None, "too late");
    }

    proptest! {
        #[test]
        fn chunks_cover_the_job_in_order(n in 0..500_usize, workers in 1..12_usize, max in 1..70_usize) {
            let mut next = 0;
            let mut chunks = Chunks::new(n, workers, max);
            while chunks.n_rest() > 0 {
                let chunk = chunks.take(usize::MAX);
                prop_assert_eq!(chunk.start, next);
                prop_assert!(!chunk.is_empty() && chunk.len() <= max);
                next = chunk.end;
            }
            prop_assert_eq!(next, n);
        }
    }
}
