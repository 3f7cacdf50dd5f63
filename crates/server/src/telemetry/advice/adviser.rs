//! Which advice holds: time, and what was said before.

use std::collections::VecDeque;

use super::{
    evidence::{Evidence, Keys, State, Totals},
    rules::RULES,
    words::Advice,
};

/// Evidence is of this long at most, and at least, seconds.
const LONGEST_S: u64 = 600;
const SHORTEST_S: u64 = 60;
/// Looks in a row at which a rule must say the same key before it is shown, and say nothing before it is over.
const LOOKS_TO_SHOW: u32 = 3;
const LOOKS_TO_END: u32 = 12;

/// Keeps what was counted lately, and the advice that follows from it.
#[derive(Debug, Default)]
pub(crate) struct Adviser {
    /// What was counted, the oldest first; all under the same keys.
    seen: VecDeque<Totals>,
    keys: Option<Keys>,
    standing: Vec<Standing>,
}

/// One piece of advice on its way in or out.
#[derive(Debug)]
struct Standing {
    advice: Advice,
    is_shown: bool,
    /// Looks in a row that would change that.
    n_looks: u32,
    since_s: u64,
}

/// Advice that is shown, and since when; seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counsel {
    pub(crate) advice: Advice,
    pub(crate) since_s: u64,
}

/// Advice that is new, or not true any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    Given(Advice),
    Over(Advice),
}

impl Adviser {
    /// Looks at new counts, about every ten seconds; gives what has changed. `now_s` is the wall clock, for people.
    pub(crate) fn look(&mut self, totals: Totals, state: &State, now_s: u64) -> Vec<Turn> {
        let has_changed = self.keys.as_ref().is_some_and(|keys| *keys != state.keys);
        if has_changed {
            // What was counted under other settings says nothing about these.
            self.seen.clear();
        }
        self.keys = Some(state.keys.clone());
        let is_old = |seen: &Totals| totals.at_s.saturating_sub(seen.at_s) > LONGEST_S;
        while self.seen.front().is_some_and(is_old) {
            self.seen.pop_front();
        }
        let looks: &[Totals] = self.seen.make_contiguous();
        let found = looks.first().map(|before| {
            let evidence = Evidence {
                before,
                looks,
                now: &totals,
                state,
            };
            evidence.advice()
        });
        self.seen.push_back(totals);
        let found = found.unwrap_or_default();
        self.follow(found, has_changed, now_s)
    }

    /// All that is shown.
    pub(crate) fn counsels(&self) -> Vec<Counsel> {
        let shown = self.standing.iter().filter(|standing| standing.is_shown);
        let counsel = |standing: &Standing| Counsel {
            advice: standing.advice.clone(),
            since_s: standing.since_s,
        };
        shown.map(counsel).collect()
    }

    fn follow(&mut self, mut found: Vec<Advice>, has_changed: bool, now_s: u64) -> Vec<Turn> {
        let mut turns = Vec::new();
        self.standing.retain_mut(|standing| {
            let same = found.iter().position(|new| new.key == standing.advice.key);
            let turn = match same.map(|place| found.swap_remove(place)) {
                Some(new) => standing.confirm(new, now_s),
                None if has_changed || standing.doubt() => {
                    if standing.is_shown {
                        turns.push(Turn::Over(standing.advice.clone()));
                    }
                    return false;
                }
                None => None,
            };
            turns.extend(turn);
            true
        });
        self.standing
            .extend(found.into_iter().map(|advice| Standing {
                advice,
                is_shown: false,
                n_looks: 1,
                since_s: now_s,
            }));
        turns
    }
}

impl Standing {
    /// The rule says it again.
    fn confirm(&mut self, new: Advice, now_s: u64) -> Option<Turn> {
        let is_near = new.to.is_near(self.advice.to) && new.from == self.advice.from;
        if self.is_shown {
            self.n_looks = 0;
            // Measured anew each time; the value stays where it is while it is about right.
            let to = if is_near { self.advice.to } else { new.to };
            self.advice = Advice { to, ..new };
            return (!is_near).then(|| Turn::Given(self.advice.clone()));
        }
        self.advice = new;
        self.n_looks += 1;
        self.is_shown = self.n_looks >= LOOKS_TO_SHOW;
        self.is_shown.then(|| {
            (self.n_looks, self.since_s) = (0, now_s);
            Turn::Given(self.advice.clone())
        })
    }

    /// The rule is silent; whether it is over.
    fn doubt(&mut self) -> bool {
        self.n_looks += 1;
        !self.is_shown || self.n_looks >= LOOKS_TO_END
    }
}

impl Evidence<'_> {
    /// What all rules say, one piece a key.
    fn advice(&self) -> Vec<Advice> {
        let mut found = Vec::<Advice>::new();
        if self.seconds() < SHORTEST_S {
            return found;
        }
        for advice in RULES.iter().filter_map(|rule| rule(self)) {
            if found.iter().all(|known| known.key != advice.key) {
                found.push(advice);
            }
        }
        found
    }
}

impl Turn {
    /// Writes it to the log.
    pub(crate) fn log(&self) {
        // Each key is a line of its own to the limit of the log.
        match self {
            Self::Given(Advice {
                key,
                from,
                to,
                cause,
            }) => tracing::info!(what = key, %from, %to, %cause, "advice"),
            Self::Over(Advice { key, .. }) => tracing::info!(what = key, "advice: over"),
        }
    }
}
