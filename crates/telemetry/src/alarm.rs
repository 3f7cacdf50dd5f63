//! Whether a figure has been too high, or too low, for too long.
//!
//! Time is an argument. An alarm is raised when the figure has been beyond a limit for a while without a break, and is
//! cleared when it has been well within it for as long: a figure that swings around its limit raises one alarm, not
//! many.

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody should look at it today.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// On which side of its limits a figure is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Large figures are bad.
    Above,
    /// Small figures are bad.
    Below,
}

/// Limits of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Which figures are bad.
    pub side: Side,
    /// Beyond this is a warning; `None`: nothing is.
    pub warning: Option<f64>,
    /// Beyond this is critical; `None`: nothing is.
    pub critical: Option<f64>,
    /// How long it must last, seconds.
    pub for_s: u64,
    /// Part of a limit under which the figure must fall for the alarm to end, over 0 to 1. Where small figures are bad,
    /// it must rise to the limit divided by this.
    pub clear_ratio: f64,
}

impl Rule {
    fn is_bad(&self, limit: f64, figure: f64) -> bool {
        match self.side {
            Side::Above => figure > limit,
            Side::Below => figure < limit,
        }
    }

    fn is_over(&self, limit: f64, figure: f64) -> bool {
        match self.side {
            Side::Above => figure <= limit * self.clear_ratio,
            Side::Below => figure >= limit / self.clear_ratio,
        }
    }
}

/// The state of the alarms of one figure.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alarm {
    warning: Level,
    critical: Level,
}

#[derive(Debug, Clone, Copy, Default)]
struct Level {
    is_raised: bool,
    /// Since when the figure has been where the level would change.
    since_s: Option<u64>,
}

impl Alarm {
    /// Looks at the figure at `now_s`. What is not a number changes nothing, and is no break either.
    ///
    /// Gives the severity before and after where that has changed.
    pub fn look(
        &mut self,
        rule: &Rule,
        figure: f64,
        now_s: u64,
    ) -> Option<(Option<Severity>, Option<Severity>)> {
        let before = self.severity();
        for (level, limit) in [
            (&mut self.warning, rule.warning),
            (&mut self.critical, rule.critical),
        ] {
            match limit {
                Some(limit) => level.look(rule, limit, figure, now_s),
                None => *level = Level::default(),
            }
        }
        let after = self.severity();
        (before != after).then_some((before, after))
    }

    /// How bad it is; `None` where all is well.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        if self.critical.is_raised {
            Some(Severity::Critical)
        } else if self.warning.is_raised {
            Some(Severity::Warning)
        } else {
            None
        }
    }
}

impl Level {
    fn look(&mut self, rule: &Rule, limit: f64, figure: f64, now_s: u64) {
        if figure.is_nan() {
            return;
        }
        let would_change = if self.is_raised {
            rule.is_over(limit, figure)
        } else {
            rule.is_bad(limit, figure)
        };
        if !would_change {
            self.since_s = None;
            return;
        }
        let since = *self.since_s.get_or_insert(now_s);
        if now_s.saturating_sub(since) >= rule.for_s {
            self.is_raised = !self.is_raised;
            self.since_s = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        side: Side::Above,
        warning: Some(1.0),
        critical: Some(2.0),
        for_s: 10,
        clear_ratio: 0.8,
    };

    /// Changes over a figure that is a function of the second.
    fn changes(figure: impl Fn(u64) -> f64) -> Vec<(u64, Option<Severity>)> {
        let mut alarm = Alarm::default();
        let look = |now| Some((now, alarm.look(&RULE, figure(now), now)?.1));
        (0..200).filter_map(look).collect()
    }

    #[test]
    fn it_must_last_and_then_be_over() {
        let bad = |now: u64| if (20..60).contains(&now) { 1.5 } else { 0.1 };
        assert_eq!(changes(bad), [(30, Some(Severity::Warning)), (70, None)]);
        let short = |now: u64| if (20..29).contains(&now) { 9.0 } else { 0.1 };
        assert_eq!(changes(short), []);
    }

    #[test]
    fn a_figure_around_its_limit_raises_one_alarm() {
        let swings = |now: u64| match now {
            0..40 => 1.2,
            _ if now.is_multiple_of(2) => 1.1,
            _ => 0.9,
        };
        assert_eq!(changes(swings), [(10, Some(Severity::Warning))]);
    }

    #[test]
    fn it_gets_worse_and_better_step_by_step() {
        let wave = |now: u64| match now {
            0..50 => 1.5,
            50..100 => 3.0,
            100..150 => 1.5,
            _ => 0.0,
        };
        let expected = [
            (10, Some(Severity::Warning)),
            (60, Some(Severity::Critical)),
            (110, Some(Severity::Warning)),
            (160, None),
        ];
        assert_eq!(changes(wave), expected);
    }

    #[test]
    fn small_figures_can_be_the_bad_ones() {
        let rule = Rule {
            side: Side::Below,
            warning: Some(14.0),
            critical: Some(3.0),
            for_s: 0,
            clear_ratio: 0.8,
        };
        let mut alarm = Alarm::default();
        let mut after = |days, now| alarm.look(&rule, days, now).map(|(_, after)| after);
        assert_eq!(after(14.0, 0), None);
        assert_eq!(after(13.9, 1), Some(Some(Severity::Warning)));
        assert_eq!(after(2.9, 2), Some(Some(Severity::Critical)));
        // A new certificate that lasts a little longer than the limit is not enough.
        assert_eq!(after(15.0, 3), Some(Some(Severity::Warning)));
        assert_eq!(after(90.0, 4), Some(None));
    }

    #[test]
    fn what_is_unknown_changes_nothing() {
        let unknown = |now: u64| if now < 30 { 1.5 } else { f64::NAN };
        assert_eq!(changes(unknown), [(10, Some(Severity::Warning))]);
    }
}
