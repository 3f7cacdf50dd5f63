//! Networks by how long their batches take, and by how much they compute: what keeps slow ones from having every
//! worker, and heavy ones from running side by side.

use std::time::Duration;

/// How long a batch of a network takes, as measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bin {
    /// Or not measured yet.
    #[default]
    Fast,
    Medium,
    Slow,
}

impl Bin {
    pub(super) const ALL: [Self; 3] = [Self::Fast, Self::Medium, Self::Slow];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Fast => 0,
            Self::Medium => 1,
            Self::Slow => 2,
        }
    }
}

/// Classes of networks by size.
pub const N_SIZE_CLASSES: usize = 4;

/// What holds for networks that are slow or large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduling {
    /// A network is fast while its batches take less.
    pub fast_below: Duration,
    /// A network is slow where its batches take more; in between it is of medium speed.
    pub slow_above: Duration,
    /// Frames of one batch at most, of a fast, a medium and a slow network; at least 1 each.
    pub max_batch_frames: [usize; 3],
    /// Workers of a device that may run networks that are not fast at the same moment, percent; at least one.
    /// Those that run slow ones are among them. It holds while fast networks have work.
    pub medium_workers_percent: u32,
    /// Workers of a device that may run slow networks at the same moment, percent; at least one. It holds while
    /// other networks have work.
    pub slow_workers_percent: u32,
    /// Where size classes end, in multiply-accumulates a frame, ascending; the last has no end.
    pub size_classes_macs: [u64; N_SIZE_CLASSES - 1],
    /// Networks of a size class that may run on a device at the same moment, from small to large; at least 1
    /// each.
    pub size_class_limits: [usize; N_SIZE_CLASSES],
}

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            fast_below: Duration::from_millis(100),
            slow_above: Duration::from_millis(500),
            max_batch_frames: [64, 32, 16],
            medium_workers_percent: 50,
            slow_workers_percent: 25,
            size_classes_macs: [500_000_000, 2_000_000_000, 8_000_000_000],
            size_class_limits: [5, 4, 3, 1],
        }
    }
}

impl Scheduling {
    /// No network is slow, and none is large.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            fast_below: Duration::MAX,
            slow_above: Duration::MAX,
            max_batch_frames: [usize::MAX; 3],
            medium_workers_percent: 100,
            slow_workers_percent: 100,
            size_class_limits: [usize::MAX; N_SIZE_CLASSES],
            ..Self::default()
        }
    }

    /// The bin of a network whose batches take this long.
    pub(super) fn bin(&self, batch: Option<Duration>) -> Bin {
        match batch {
            Some(time) if time > self.slow_above => Bin::Slow,
            // A batch that is cut to a turn takes a turn.
            Some(time) if time > self.fast_below => Bin::Medium,
            _ => Bin::Fast,
        }
    }

    /// Workers of `n_workers` that may run networks of this bin or a slower one.
    pub(super) fn max_workers(&self, bin: Bin, n_workers: usize) -> usize {
        let percent = match bin {
            Bin::Fast => 100,
            Bin::Medium => self.medium_workers_percent,
            Bin::Slow => self.slow_workers_percent,
        };
        let percent = usize::try_from(percent).unwrap_or(100);
        (n_workers.saturating_mul(percent) / 100).max(1)
    }

    /// The size class of a network.
    pub(super) fn size_class(&self, macs: u64) -> usize {
        let ends = self.size_classes_macs.iter();
        ends.filter(|&&end| macs >= end).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_apart_by_time_and_size() {
        let rules = Scheduling::default();
        let ms = Duration::from_millis;
        let bin = |time| rules.bin(Some(ms(time)));
        assert_eq!(rules.bin(None), Bin::Fast);
        assert_eq!(
            [100, 101, 500, 501].map(bin),
            [Bin::Fast, Bin::Medium, Bin::Medium, Bin::Slow]
        );
        let class = |mmacs: u64| rules.size_class(mmacs * 1_000_000);
        assert_eq!([0, 499, 500, 7999, 8000].map(class), [0, 0, 1, 2, 3]);
    }

    #[test]
    fn every_bin_has_a_worker_and_none_has_all_where_there_are_two() {
        let rules = Scheduling::default();
        for (n_workers, medium, slow) in [(1, 1, 1), (2, 1, 1), (4, 2, 1), (8, 4, 2), (9, 4, 2)] {
            let max = |bin| rules.max_workers(bin, n_workers);
            assert_eq!(
                [max(Bin::Fast), max(Bin::Medium), max(Bin::Slow)],
                [n_workers, medium, slow]
            );
        }
    }
}
