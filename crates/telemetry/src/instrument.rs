//! Counters and gauges.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number of things that there are now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Keeps the larger of the number and `n`: a peak.
    pub fn raise_to(&self, n: u64) {
        self.0.fetch_max(n, Relaxed);
    }
}

/// One of the things that a [`Gauge`] counts, until it is dropped.
#[derive(Debug)]
pub struct Rise(Arc<Gauge>);

impl Rise {
    /// One more from now on.
    #[must_use]
    pub fn new(gauge: Arc<Gauge>) -> Self {
        gauge.0.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for Rise {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_counts_what_there_is() {
        let gauge = Arc::<Gauge>::default();
        let two = [(); 2].map(|()| Rise::new(Arc::clone(&gauge)));
        assert_eq!(gauge.get(), 2);
        drop(two);
        assert_eq!(gauge.get(), 0);
        gauge.raise_to(7);
        gauge.raise_to(3);
        assert_eq!(gauge.get(), 7);
    }
}
