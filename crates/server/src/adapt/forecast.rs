//! What is usual at this minute of the day: a seasonal moving average.
//!
//! [`Forecast`] is told once a minute how many workers were busy, and which models each tenant used. It reads no
//! clock, so it is tested in virtual days. It measures its own accuracy: what it had expected of each minute is
//! compared with what came.

use std::collections::HashMap;

/// Minutes of a day.
const DAY: usize = 24 * 60;
/// The newest day's part of an average.
const NEWEST: f64 = 0.3;
/// Minutes that are looked ahead.
const AHEAD: usize = 5;
/// Minutes of a slot in which a tenant uses a model.
const SLOT: usize = 10;
const SLOTS: usize = DAY / SLOT;
/// Pairs of a tenant and a model that are remembered; each takes 1.2 KiB.
const MAX_PAIRS: usize = 1024;
/// Part of the days, the newest counting most, in which a model must have been used in a slot to be usual.
const USUAL: f32 = 0.5;
/// Days after which what came only once is forgotten.
const FORGOTTEN: f32 = 0.01;

/// A model that a tenant uses.
pub(crate) type Pair = [Box<str>; 2];

/// How good the forecasts were.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Accuracy {
    /// Minutes for which something was expected.
    pub(crate) n_minutes: u64,
    /// Sum of the differences between what was expected and what came.
    pub(crate) error: f64,
    /// Sum of what came.
    pub(crate) came: f64,
}

impl Accuracy {
    /// The error beside what came, a part; `None` where nothing has come.
    pub(crate) fn error_ratio(&self) -> Option<f64> {
        (self.came > 0.0).then(|| self.error / self.came)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Forecast {
    /// Busy workers in each minute of the day; `None`: not seen yet.
    busy: Vec<Option<f64>>,
    used: HashMap<Pair, Vec<f32>>,
    /// Pairs that were used in the slot that is under way, and which that is.
    slot: Option<(usize, Vec<Pair>)>,
    accuracy: Accuracy,
}

impl Default for Forecast {
    fn default() -> Self {
        Self {
            busy: vec![None; DAY],
            used: HashMap::new(),
            slot: None,
            accuracy: Accuracy::default(),
        }
    }
}

impl Forecast {
    /// A minute of the day is over, in which so many workers were busy on average, and these pairs were used.
    pub(crate) fn note(&mut self, minute: usize, busy: f64, pairs: impl Iterator<Item = Pair>) {
        let minute = minute % DAY;
        let average = &mut self.busy[minute];
        *average = Some(match *average {
            None => busy,
            Some(expected) => {
                self.accuracy.n_minutes += 1;
                self.accuracy.error += (expected - busy).abs();
                self.accuracy.came += busy;
                expected + NEWEST * (busy - expected)
            }
        });
        let slot = minute / SLOT;
        match &mut self.slot {
            Some((known, seen)) if *known == slot => seen.extend(pairs),
            over => {
                if let Some((of, seen)) = over.replace((slot, pairs.collect())) {
                    self.end_slot(of, seen);
                }
            }
        }
    }

    fn end_slot(&mut self, slot: usize, mut seen: Vec<Pair>) {
        seen.sort_unstable();
        seen.dedup();
        #[expect(clippy::cast_possible_truncation, reason = "a part of one")]
        let newest = NEWEST as f32;
        self.used.retain(|pair, weights| {
            if seen.binary_search(pair).is_err() {
                weights[slot] *= 1.0 - newest;
            }
            weights.iter().any(|weight| *weight > FORGOTTEN)
        });
        for pair in seen {
            if self.used.len() >= MAX_PAIRS && !self.used.contains_key(&pair) {
                continue;
            }
            let weights = self.used.entry(pair).or_insert_with(|| vec![0.0; SLOTS]);
            // The first day counts as if all before it had been like it.
            weights[slot] = match weights[slot] {
                0.0 => USUAL,
                weight => weight + newest * (1.0 - weight),
            };
        }
    }

    /// The most busy workers of the next minutes, as far as they are known.
    pub(crate) fn expected_busy(&self, minute: usize) -> Option<f64> {
        let minutes = (minute + 1..=minute + AHEAD).map(|minute| self.busy[minute % DAY]);
        minutes.flatten().reduce(f64::max)
    }

    /// Models that are usually used in the slot that comes in some minutes, by somebody.
    pub(crate) fn expected_models(&self, minute: usize) -> Vec<Box<str>> {
        let slot = (minute + AHEAD) % DAY / SLOT;
        let usual = self
            .used
            .iter()
            .filter(|(_, weights)| weights[slot] >= USUAL);
        let mut models: Vec<_> = usual.map(|([model, _], _)| model.clone()).collect();
        models.sort_unstable();
        models.dedup();
        models
    }

    pub(crate) fn accuracy(&self) -> Accuracy {
        self.accuracy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(model: &str, tenant: &str) -> Pair {
        [model.into(), tenant.into()]
    }

    /// Days of a load that is four workers from nine to five and nothing else.
    fn office(minute: usize) -> f64 {
        if (9 * 60..17 * 60).contains(&minute) {
            4.0
        } else {
            0.0
        }
    }

    #[test]
    fn what_is_usual_at_a_time_of_the_day_is_expected_before_it_comes() {
        let mut forecast = Forecast::default();
        assert_eq!(forecast.expected_busy(0), None);
        for day in 0..4 {
            for minute in 0..DAY {
                // One works every morning, one did on the first day only, one on every day but the second.
                let uses = [
                    (pair("mira", "a"), (540..600).contains(&minute)),
                    (pair("tomo", "b"), day == 0 && (540..600).contains(&minute)),
                    (pair("ben", "b"), day != 1 && (1200..1210).contains(&minute)),
                ];
                let used = uses.into_iter().filter(|(_, is_used)| *is_used);
                forecast.note(minute, office(minute), used.map(|(pair, _)| pair));
            }
        }
        let near =
            |is: Option<f64>, expected: f64| is.is_some_and(|is| (is - expected).abs() < 1e-9);
        assert!(near(forecast.expected_busy(8 * 60), 0.0));
        assert!(
            near(forecast.expected_busy(8 * 60 + 55), 4.0),
            "five minutes before"
        );
        assert!(near(forecast.expected_busy(17 * 60), 0.0));
        assert_eq!(forecast.expected_models(535), ["mira".into()]);
        assert_eq!(forecast.expected_models(534), [] as [Box<str>; 0]);
        assert_eq!(forecast.expected_models(1195), ["ben".into()]);
        let accuracy = forecast.accuracy();
        assert_eq!(accuracy.n_minutes, 3 * DAY as u64);
        assert!(accuracy.error_ratio().unwrap() < 1e-9, "each day was alike");
    }

    #[test]
    fn errors_are_measured_and_the_average_follows() {
        let mut forecast = Forecast::default();
        let none = || std::iter::empty();
        for busy in [2.0, 4.0, 4.0] {
            forecast.note(600, busy, none());
        }
        let accuracy = forecast.accuracy();
        assert_eq!(accuracy.n_minutes, 2);
        // 2 expected and 4 came; 2.6 expected and 4 came.
        let ratio = accuracy.error_ratio().unwrap();
        assert!((ratio - 3.4 / 8.0).abs() < 1e-9, "{ratio}");
        let expected = forecast.expected_busy(599).unwrap();
        assert!((expected - 3.02).abs() < 1e-9, "{expected}");
    }

    #[test]
    fn pairs_are_bounded_and_those_that_are_gone_are_forgotten() {
        let mut forecast = Forecast::default();
        let many = (0..2 * MAX_PAIRS).map(|n| pair(&format!("m{n}"), "a"));
        forecast.note(0, 0.0, many);
        forecast.note(SLOT, 0.0, std::iter::empty());
        assert_eq!(forecast.used.len(), MAX_PAIRS);
        for _ in 0..20 {
            forecast.note(0, 0.0, std::iter::empty());
            forecast.note(SLOT, 0.0, std::iter::empty());
        }
        assert!(forecast.used.is_empty());
    }
}
