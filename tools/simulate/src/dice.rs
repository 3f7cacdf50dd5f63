//! Random numbers that are the same on every machine: one seed, one day.

use std::f64::consts::TAU;

/// Mixes all bits of a number (the finisher of SplitMix64).
pub(crate) fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mixed(seed ^ 0x5eed))
    }

    /// All 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// From 0 up to, but not including, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).unwrap_or(u32::MAX);
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    /// One of `n`, from 0; 0 where there is none.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let wide = u128::from(self.next()) * n as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// Exponential, with this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Log-normal, with this mean; `sigma` is the deviation of its logarithm.
    pub(crate) fn log_normal(&mut self, mean: f64, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (TAU * self.unit()).cos();
        (mean.ln() - sigma * sigma / 2.0 + sigma * normal).exp()
    }
}

/// Draws numbers by weights.
#[derive(Debug, Clone)]
pub(crate) struct Wheel {
    /// Sums of the weights up to each.
    sums: Vec<f64>,
}

impl Wheel {
    pub(crate) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let sums = weights.into_iter().map(|weight| {
            sum += weight;
            sum
        });
        Self {
            sums: sums.collect(),
        }
    }

    /// Zipf's law over `n`: the one of rank r is drawn in proportion to `1 / r^exponent`.
    pub(crate) fn zipf(n: u32, exponent: f64) -> Self {
        Self::new((1..=n).map(|rank| f64::from(rank).powf(-exponent)))
    }

    pub(crate) fn total(&self) -> f64 {
        self.sums.last().copied().unwrap_or(0.0)
    }

    pub(crate) fn draw(&self, dice: &mut Dice) -> usize {
        let at = dice.unit() * self.total();
        let place = self.sums.partition_point(|&sum| sum <= at);
        place.min(self.sums.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_what_was_asked_for_and_a_seed_gives_the_same() {
        let mut dice = Dice::new(1);
        let n = 200_000;
        let mean = |draws: f64| draws / f64::from(n);
        let log_normal = mean((0..n).map(|_| dice.log_normal(200.0, 1.0)).sum());
        assert!((log_normal - 200.0).abs() < 4.0, "{log_normal}");
        let exponential = mean((0..n).map(|_| dice.exponential(6.0)).sum());
        assert!((exponential - 6.0).abs() < 0.1, "{exponential}");
        assert_eq!(Dice::new(7).next(), Dice::new(7).next());
        assert_ne!(Dice::new(7).next(), Dice::new(8).next());
    }

    #[test]
    fn a_wheel_draws_by_weight() {
        let mut dice = Dice::new(1);
        let wheel = Wheel::new([1.0, 0.0, 3.0]);
        let mut counts = [0; 3];
        for _ in 0..40_000 {
            counts[wheel.draw(&mut dice)] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((29_000..31_000).contains(&counts[2]), "{counts:?}");
        assert!(Wheel::zipf(3, 1.0).total() - 11.0 / 6.0 < 1e-9);
        assert!((0..1000).all(|_| dice.below(3) < 3));
    }
}
