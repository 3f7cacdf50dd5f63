//! Histograms with fixed buckets.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The upper bounds of a histogram's buckets, and what its whole numbers mean.
#[derive(Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Upper bounds, ascending and inclusive, in the numbers that are observed. Above the last one there is one more
    /// bucket without a bound.
    pub bounds: &'static [u64],
    /// How many of the observed numbers make one of the metric's unit: a million where microseconds are observed and
    /// seconds are shown.
    pub per_unit: u64,
}

impl Buckets {
    /// Latencies from 1 ms to 10 s. They are dense around 40 ms, the time of a frame at 25 fps.
    pub const LATENCY: Self = Self {
        bounds: &[
            1_000, 2_000, 4_000, 6_000, 8_000, 10_000, 13_000, 16_000, 20_000, 25_000, 33_000,
            40_000, 50_000, 65_000, 80_000, 100_000, 160_000, 250_000, 500_000, 1_000_000,
            2_500_000, 5_000_000, 10_000_000,
        ],
        per_unit: 1_000_000,
    };
    /// Lives of sessions, from a second to eight hours.
    pub const LIFE: Self = Self {
        bounds: &[
            1_000_000,
            10_000_000,
            30_000_000,
            60_000_000,
            300_000_000,
            600_000_000,
            1_800_000_000,
            3_600_000_000,
            28_800_000_000,
        ],
        per_unit: 1_000_000,
    };
    /// Loads of models, from 50 ms to five minutes.
    pub const LOAD: Self = Self {
        bounds: &[
            50_000,
            100_000,
            250_000,
            500_000,
            1_000_000,
            2_500_000,
            5_000_000,
            10_000_000,
            30_000_000,
            60_000_000,
            300_000_000,
        ],
        per_unit: 1_000_000,
    };
    /// Frames of a batch.
    pub const FRAMES: Self = Self {
        bounds: &[1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128],
        per_unit: 1,
    };
}

/// Counts observations by size. One observation is two additions.
#[derive(Debug)]
pub struct Histogram {
    buckets: &'static Buckets,
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A [`Histogram`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// The bounds.
    pub buckets: &'static Buckets,
    /// Observations in each bucket alone, one more than there are bounds.
    pub counts: Vec<u64>,
    /// Sum of what was observed. It may be an observation ahead of or behind the counts.
    pub sum: u64,
}

impl Histogram {
    /// Nothing observed yet.
    #[must_use]
    pub fn new(buckets: &'static Buckets) -> Self {
        Self {
            buckets,
            counts: (0..=buckets.bounds.len())
                .map(|_| AtomicU64::new(0))
                .collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a number, in the unit of the bounds.
    pub fn observe(&self, n: u64) {
        let place = self.buckets.bounds.partition_point(|&bound| bound < n);
        // There is one count more than there are bounds.
        self.counts[place].fetch_add(1, Relaxed);
        self.sum.fetch_add(n, Relaxed);
    }

    /// Counts a time, where the bounds are microseconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// All of it now.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: self.buckets,
            sum: self.sum.load(Relaxed),
            counts: self.counts.iter().map(|n| n.load(Relaxed)).collect(),
        }
    }
}

impl HistogramSnapshot {
    /// A histogram in which nothing was observed.
    #[must_use]
    pub fn empty(buckets: &'static Buckets) -> Self {
        Histogram::new(buckets).snapshot()
    }

    /// All observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds the observations of another histogram of the same buckets.
    pub fn add(&mut self, other: &Self) {
        for (sum, n) in self.counts.iter_mut().zip(&other.counts) {
            *sum += n;
        }
        self.sum += other.sum;
    }

    /// A quantile of what was observed since `before`, in the metric's unit; `None` where that is nothing.
    ///
    /// As Prometheus reckons: evenly spread within a bucket, and not beyond the last bound.
    #[must_use]
    pub fn quantile_since(&self, before: &Self, quantile: f64) -> Option<f64> {
        let new = self.counts.iter().zip(&before.counts);
        let new: Vec<u64> = new.map(|(n, before)| n.saturating_sub(*before)).collect();
        let n_all: u64 = new.iter().sum();
        let rank = quantile * n_all as f64;
        let (mut lower, mut n_below) = (0, 0);
        let mut found = None;
        for (&bound, &n) in self.buckets.bounds.iter().zip(&new) {
            if n > 0 && (n_below + n) as f64 >= rank {
                let part = (rank - n_below as f64) / n as f64;
                found = Some(lower as f64 + part.max(0.0) * (bound - lower) as f64);
                break;
            }
            (lower, n_below) = (bound, n_below + n);
        }
        let found = found.unwrap_or(lower as f64);
        (n_all > 0).then(|| found / self.buckets.per_unit as f64)
    }

    /// Each bound with the observations up to it, and last those without a bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.buckets.bounds.iter().copied().map(Some);
        let mut sum = 0;
        bounds
            .chain([None])
            .zip(&self.counts)
            .map(move |(bound, n)| {
                sum += n;
                (bound, sum)
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_observed_is_lost(times in prop::collection::vec(0_u64..20_000_000, 0..200)) {
            let histogram = Histogram::new(&Buckets::LATENCY);
            for &time in &times {
                histogram.observe(time);
            }
            let seen = histogram.snapshot();
            prop_assert_eq!(seen.count(), times.len() as u64);
            prop_assert_eq!(seen.sum, times.iter().sum::<u64>());
            for (bound, n) in seen.cumulative() {
                let within = |time: &&u64| bound.is_none_or(|bound| **time <= bound);
                prop_assert_eq!(n, times.iter().filter(within).count() as u64);
            }
        }
    }

    #[test]
    fn quantiles_are_of_what_is_new() {
        let histogram = Histogram::new(&Buckets::LATENCY);
        histogram.observe(5_000_000);
        let before = histogram.snapshot();
        assert_eq!(before.quantile_since(&before, 0.5), None);
        for _ in 0..4 {
            histogram.observe(30_000);
        }
        let seen = histogram.snapshot();
        // Half of the way from 25 to 33 ms.
        assert_eq!(seen.quantile_since(&before, 0.5), Some(0.029));
        assert_eq!(seen.quantile_since(&before, 1.0), Some(0.033));
        histogram.observe(u64::from(u32::MAX));
        let last = histogram.snapshot().quantile_since(&seen, 0.5);
        assert_eq!(last, Some(10.0), "nothing is known beyond the last bound");
        let mut both = seen.clone();
        both.add(&seen);
        assert_eq!((both.count(), both.sum), (2 * seen.count(), 2 * seen.sum));
    }

    #[test]
    fn bounds_ascend() {
        for buckets in [
            &Buckets::LATENCY,
            &Buckets::LIFE,
            &Buckets::LOAD,
            &Buckets::FRAMES,
        ] {
            assert!(buckets.bounds.is_sorted_by(|a, b| a < b), "{buckets:?}");
        }
    }

    #[test]
    fn many_threads_count_together() {
        let histogram = Histogram::new(&Buckets::FRAMES);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|n| histogram.observe(n)));
            }
        });
        let seen = histogram.snapshot();
        assert_eq!((seen.count(), seen.sum), (4000, 4 * 999 * 1000 / 2));
    }
}
