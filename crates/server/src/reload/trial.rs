//! Whether a new configuration does harm. Time and figures are arguments.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use lipsync_core::saturate::micros;

use super::figures::Figures;
use crate::config::Reload;

/// Fewer calls than this prove nothing.
const MIN_CALLS: u64 = 20;
/// What came before is remembered for this long.
const MEMORY: Duration = Duration::from_secs(60);

/// How calls ended in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    n_served: u64,
    n_failed: u64,
    /// Of the served ones, all together.
    served_us: u64,
}

impl Rates {
    fn between(before: Figures, after: Figures) -> Self {
        Self {
            n_served: after.n_served.saturating_sub(before.n_served),
            n_failed: after.n_failed.saturating_sub(before.n_failed),
            served_us: after.served_us.saturating_sub(before.served_us),
        }
    }

    /// Percent, where there are enough calls to say so.
    fn failed_percent(&self) -> Option<u64> {
        let n = self.n_served + self.n_failed;
        (n >= MIN_CALLS).then(|| self.n_failed.saturating_mul(100) / n)
    }

    /// Where there are enough calls to say so.
    fn mean(&self) -> Option<Duration> {
        let mean = self.served_us.checked_div(self.n_served)?;
        (self.n_served >= MIN_CALLS).then(|| Duration::from_micros(mean))
    }
}

/// How calls have ended lately, while no configuration was on trial.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(Instant, Figures)>);

impl History {
    /// Called about once a second, so there are about as many entries as seconds.
    pub(super) fn note(&mut self, now: Instant, figures: Figures) {
        self.0.push_back((now, figures));
        while let Some((then, _)) = self.0.front()
            && now.duration_since(*then) > MEMORY
        {
            self.0.pop_front();
        }
    }

    /// Since the oldest entry.
    pub(super) fn rates(&self, now: Figures) -> Rates {
        let before = self.0.front().map_or(now, |(_, figures)| *figures);
        Rates::between(before, now)
    }
}

/// A configuration on trial.
#[derive(Debug)]
pub(super) struct Trial {
    rules: Reload,
    before: Rates,
    begun: Instant,
    at_begin: Figures,
}

/// What is known of a configuration on trial.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Open,
    /// Its time is over, and it has done no harm.
    Good,
    /// It does harm.
    Bad(Reason),
}

/// What is worse than before.
#[derive(Debug, PartialEq)]
pub(super) enum Reason {
    /// More calls fail than may.
    Errors {
        /// Of all since the reload.
        percent: u64,
        limit: u32,
    },
    /// Calls take longer than they may.
    Latency {
        now: Duration,
        before: Duration,
        factor: f64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors { percent, limit } => write!(
                f,
                "{percent} % of the calls failed since the reload \
                 (reload.rollback_error_percent: {limit})"
            ),
            Self::Latency {
                now,
                before,
                factor,
            } => write!(
                f,
                "a call takes {now:.1?} since the reload, and took {before:.1?} before \
                 (reload.rollback_latency_factor: {factor})"
            ),
        }
    }
}

impl Trial {
    pub(super) fn begin(rules: Reload, before: Rates, begun: Instant, at_begin: Figures) -> Self {
        Self {
            rules,
            before,
            begun,
            at_begin,
        }
    }

    /// How it was before the configuration on trial.
    pub(super) fn before(self) -> Rates {
        self.before
    }

    pub(super) fn judge(&self, now: Instant, figures: Figures) -> Verdict {
        let since = Rates::between(self.at_begin, figures);
        if let Some(reason) = self.harm(since) {
            return Verdict::Bad(reason);
        }
        if now.duration_since(self.begun) >= self.rules.window {
            return Verdict::Good;
        }
        Verdict::Open
    }

    fn harm(&self, since: Rates) -> Option<Reason> {
        let limit = self.rules.error_percent;
        let is_over = |rates: Rates| rates.failed_percent().filter(|&p| p >= u64::from(limit));
        // Where as many failed before, the new configuration is not to blame.
        if let (Some(percent), None) = (is_over(since), is_over(self.before)) {
            return Some(Reason::Errors { percent, limit });
        }
        let (now, before) = (since.mean()?, self.before.mean()?);
        let factor = self.rules.latency_factor;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a call")]
        let is_slow = micros(now) as f64 >= micros(before) as f64 * factor;
        is_slow.then_some(Reason::Latency {
            now,
            before,
            factor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Reload = Reload {
        watch: true,
        window: Duration::from_secs(60),
        error_percent: 20,
        latency_factor: 3.0,
    };

    /// A server in virtual time that serves and fails this many calls a second, each in this time.
    struct World {
        now: Instant,
        figures: Figures,
        history: History,
    }

    impl World {
        fn new() -> Self {
            Self {
                now: Instant::now(),
                figures: Figures::default(),
                history: History::default(),
            }
        }

        fn second(&mut self, n_served: u64, n_failed: u64, ms: u64) {
            self.now += Duration::from_secs(1);
            self.figures.n_served += n_served;
            self.figures.n_failed += n_failed;
            self.figures.served_us += n_served * ms * 1000;
        }

        fn quiet(&mut self, n_seconds: u32, (n_served, n_failed, ms): (u64, u64, u64)) {
            for _ in 0..n_seconds {
                self.second(n_served, n_failed, ms);
                self.history.note(self.now, self.figures);
            }
        }

        /// A trial of seconds like these: its verdict, and after how many of them it came.
        fn trial(&mut self, (n_served, n_failed, ms): (u64, u64, u64)) -> (u32, Verdict) {
            let before = self.history.rates(self.figures);
            let trial = Trial::begin(RULES, before, self.now, self.figures);
            for n in 1.. {
                self.second(n_served, n_failed, ms);
                match trial.judge(self.now, self.figures) {
                    Verdict::Open => {}
                    verdict => return (n, verdict),
                }
            }
            unreachable!("it has an end")
        }
    }

    #[test]
    fn a_configuration_that_does_no_harm_is_good_when_its_time_is_over() {
        for before in [(10, 0, 20), (0, 0, 0), (10, 9, 20)] {
            for since in [(10, 0, 20), (0, 0, 0), (10, 2, 55), (1, 0, 59)] {
                let mut world = World::new();
                world.quiet(100, before);
                assert_eq!(
                    world.trial(since),
                    (60, Verdict::Good),
                    "{before:?} {since:?}"
                );
            }
        }
    }

    #[test]
    fn errors_are_noticed_as_soon_as_there_are_enough_calls() {
        let mut world = World::new();
        world.quiet(100, (10, 0, 20));
        let (n, verdict) = world.trial((5, 5, 20));
        assert_eq!(n, 2);
        let reason = Reason::Errors {
            percent: 50,
            limit: 20,
        };
        assert_eq!(verdict, Verdict::Bad(reason));
        // Without calls before there is nothing else to blame.
        assert!(matches!(
            World::new().trial((0, 1, 0)),
            (20, Verdict::Bad(_))
        ));
        // Few calls prove nothing.
        let mut world = World::new();
        world.quiet(100, (10, 0, 20));
        let before = world.history.rates(world.figures);
        let trial = Trial::begin(RULES, before, world.now, world.figures);
        world.second(0, MIN_CALLS - 1, 0);
        assert_eq!(trial.judge(world.now, world.figures), Verdict::Open);
    }

    #[test]
    fn who_failed_before_is_not_the_new_configurations_fault() {
        let mut world = World::new();
        world.quiet(100, (5, 5, 20));
        assert_eq!(world.trial((5, 5, 20)), (60, Verdict::Good));
    }

    #[test]
    fn calls_that_take_much_longer_are_noticed() {
        let mut world = World::new();
        world.quiet(100, (10, 0, 20));
        let (n, verdict) = world.trial((10, 0, 60));
        assert_eq!(n, 2);
        let Verdict::Bad(reason) = verdict else {
            panic!("{verdict:?}")
        };
        let text = reason.to_string();
        assert!(
            text.contains("60.0ms since") && text.contains("20.0ms before"),
            "{text}"
        );
    }

    #[test]
    fn the_memory_is_bounded_and_forgets() {
        let mut world = World::new();
        world.quiet(100, (0, 100, 0));
        world.quiet(1000, (10, 0, 20));
        assert!(world.history.0.len() <= 62);
        assert_eq!(world.history.rates(world.figures).n_failed, 0);
    }
}
