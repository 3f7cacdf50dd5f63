//! Figures of the last ten minutes, three hours and seven days, in bounded memory.
//!
//! Each scale keeps means and peaks of its steps in a ring. The time is an argument, so that tests play a year in a
//! moment. A clock that is set back is ignored until it has caught up; a pause leaves a gap, and takes no memory.

use std::{array, collections::VecDeque};

/// How finely a part of the past is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Its name in requests.
    pub name: &'static str,
    /// Length of a step, seconds.
    pub step_s: u64,
    /// Steps that are kept.
    pub n_steps: usize,
}

/// The scales: ten minutes by seconds, three hours by ten seconds, seven days by five minutes.
pub const SCALES: [Scale; 3] = [
    Scale {
        name: "1s",
        step_s: 1,
        n_steps: 600,
    },
    Scale {
        name: "10s",
        step_s: 10,
        n_steps: 1080,
    },
    Scale {
        name: "5m",
        step_s: 300,
        n_steps: 2016,
    },
];

/// What `N` figures were in one step. A figure that was never known in it is not a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step<const N: usize> {
    /// When it began, seconds since the Unix epoch; a multiple of the scale's step.
    pub at_s: u64,
    /// Means.
    pub means: [f32; N],
    /// Peaks.
    pub peaks: [f32; N],
}

/// The past of `N` figures.
#[derive(Debug, Clone)]
pub struct History<const N: usize>(pub(crate) [Ring<N>; SCALES.len()]);

#[derive(Debug, Clone)]
pub(crate) struct Ring<const N: usize> {
    pub(crate) scale: Scale,
    pub(crate) steps: VecDeque<Step<N>>,
    open: Option<Sums<N>>,
}

/// A step that goes on.
#[derive(Debug, Clone)]
struct Sums<const N: usize> {
    at_s: u64,
    sums: [f64; N],
    counts: [u32; N],
    peaks: [f32; N],
}

impl<const N: usize> Default for History<N> {
    fn default() -> Self {
        Self(SCALES.map(|scale| Ring {
            scale,
            steps: VecDeque::with_capacity(scale.n_steps),
            open: None,
        }))
    }
}

impl<const N: usize> History<N> {
    /// Notes the figures at `now_s`, seconds since the Unix epoch; unknown ones are not numbers.
    pub fn note(&mut self, now_s: u64, figures: [f32; N]) {
        for ring in &mut self.0 {
            ring.note(now_s, &figures);
        }
    }

    /// Steps of a scale that are over, the oldest first; none of a scale that there is not.
    pub fn steps(&self, scale: &str) -> impl Iterator<Item = &Step<N>> {
        let ring = self.0.iter().find(|ring| ring.scale.name == scale);
        ring.into_iter().flat_map(|ring| &ring.steps)
    }

    /// Memory that it takes, bytes.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let steps = self.0.iter().map(|ring| ring.steps.capacity());
        size_of::<Self>() + steps.sum::<usize>() * size_of::<Step<N>>()
    }
}

impl<const N: usize> Ring<N> {
    fn note(&mut self, now_s: u64, figures: &[f32; N]) {
        let at_s = now_s - now_s % self.scale.step_s;
        match &self.open {
            Some(open) if at_s < open.at_s => return,
            Some(open) if at_s > open.at_s => {
                let over = open.step();
                if self.steps.len() == self.scale.n_steps {
                    self.steps.pop_front();
                }
                self.steps.push_back(over);
                self.open = None;
            }
            _ => {}
        }
        // Of a history that was read from a file, when the clock has been set back since.
        if self.open.is_none() && self.steps.back().is_some_and(|last| at_s <= last.at_s) {
            return;
        }
        self.open
            .get_or_insert_with(|| Sums::new(at_s))
            .add(figures);
    }
}

impl<const N: usize> Sums<N> {
    fn new(at_s: u64) -> Self {
        Self {
            at_s,
            sums: [0.0; N],
            counts: [0; N],
            peaks: [f32::NAN; N],
        }
    }

    fn add(&mut self, figures: &[f32; N]) {
        for (n, &figure) in figures.iter().enumerate().filter(|(_, x)| x.is_finite()) {
            self.sums[n] += f64::from(figure);
            self.counts[n] += 1;
            // A number is larger than none.
            self.peaks[n] = self.peaks[n].max(figure);
        }
    }

    fn step(&self) -> Step<N> {
        #[expect(clippy::cast_possible_truncation, reason = "a mean of f32 is one")]
        let mean = |n: usize| (self.sums[n] / f64::from(self.counts[n])) as f32;
        Step {
            at_s: self.at_s,
            means: array::from_fn(mean),
            peaks: self.peaks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_means_and_peaks() {
        let mut history = History::<2>::default();
        for second in 0..=20 {
            let figure = if second == 13 { 100.0 } else { 1.0 };
            history.note(1000 + second, [figure, f32::NAN]);
        }
        let seconds: Vec<_> = history.steps("1s").map(|s| (s.at_s, s.means[0])).collect();
        assert_eq!(seconds.len(), 20, "the last one is not over");
        assert_eq!((seconds[0], seconds[13]), ((1000, 1.0), (1013, 100.0)));
        let tens: Vec<_> = history.steps("10s").collect();
        assert_eq!((tens[1].at_s, tens[1].peaks[0]), (1010, 100.0));
        assert!((tens[1].means[0] - 10.9).abs() < 1e-4);
        assert!(tens[1].means[1].is_nan() && tens[1].peaks[1].is_nan());
        assert_eq!(history.steps("1h").count(), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_is_waited_for() {
        let mut history = History::<1>::default();
        for now in [100, 50, 60, 101, 102] {
            history.note(now, [1.0]);
        }
        let seconds: Vec<_> = history.steps("1s").map(|s| s.at_s).collect();
        assert_eq!(seconds, [100, 101]);
    }

    #[test]
    fn a_year_takes_no_more_memory_than_a_moment() {
        assert!(History::<32>::default().n_bytes() < 1 << 20);
        let mut history = History::<2>::default();
        let n_bytes = history.n_bytes();
        let year_s = 365 * 24 * 3600;
        // Every ten seconds, and every second in the last hour.
        let last_hour = year_s - 3600;
        for now in (0..last_hour).step_by(10).chain(last_hour..year_s) {
            history.note(now, [1.0; 2]);
        }
        assert_eq!(history.n_bytes(), n_bytes);
        for scale in SCALES {
            let steps: Vec<_> = history.steps(scale.name).map(|s| s.at_s).collect();
            assert_eq!(steps.len(), scale.n_steps, "{}", scale.name);
            assert!(
                steps.is_sorted_by(|a, b| a + scale.step_s == *b),
                "{}",
                scale.name
            );
        }
    }
}
