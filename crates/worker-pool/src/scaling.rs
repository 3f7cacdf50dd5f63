//! How many workers there should be: a climb by what is measured.
//!
//! A [`Scaler`] is told once a second what a pool has done, and says when workers should join or leave. It starts
//! no thread, reads no clock and takes no lock: time is an argument, so it is tested in virtual time.
//!
//! - **Jobs wait:** more workers are tried, half as many again. They stay if the pool then does more work, or if
//!   jobs are done sooner. Otherwise they leave, a smaller step is tried, and then nothing for a while, which
//!   doubles, unless the wait does.
//! - **Jobs are cut for all workers:** twice as many are tried. They stay if jobs are done sooner.
//! - **More workers do not help, and all are busy:** fewer are tried. If the pool does as much work, the rest had
//!   only been in the way.
//! - **Workers idle for a while:** those that nobody needs leave, unless jobs are cut for all of them.
//!
//! Gains below `MIN_GAIN` count as none, so noise moves nobody. A trial that the load ends tells nothing.

use std::{collections::VecDeque, fmt, time::Duration};

/// How often a [`Scaler`] should be told.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks after a change that count for nothing: batches that began before are still among them.
const SETTLING: usize = 2;
/// Looks that make a measurement.
const MEASURED: usize = 5;
/// Gain in work for which more workers stay.
const MIN_GAIN: f64 = 0.03;
/// Loss in work at which fewer workers stay, against the most that was measured.
const MAX_LOSS: f64 = 0.015;
/// Mean wait of jobs above which more workers may help.
const LONG_WAIT: Duration = Duration::from_millis(10);
/// Part of a job's time before at which more workers stay, where the load does not fill them.
const SHORTER: f64 = 0.85;
/// Part of their time in which workers are busy where the load fills them.
const FULL: f64 = 0.9;
/// The same where so many are left that jobs find one idle.
const COMFORTABLE: f64 = 0.65;
/// Looks in a row at which workers are too many, before they leave.
const IDLE_FOR: usize = 15;
/// Time without trials after those that gained nothing; it doubles from the first to the second.
const RESTS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(960)];

/// How many workers there may be, all devices together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerRange {
    /// At least 1.
    pub min: usize,
    /// At least `min`.
    pub max: usize,
}

/// What a pool has done since it started, at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Since any moment, the same for all looks.
    pub now: Duration,
    /// Workers that there are.
    pub n_workers: usize,
    /// Work done so far, in any unit.
    pub work: f64,
    /// Time that workers have been busy so far, all together.
    pub busy: Duration,
    /// Jobs begun so far.
    pub n_begun: u64,
    /// Their waits so far, all together.
    pub waited: Duration,
    /// Jobs done so far.
    pub n_done: u64,
    /// Their times so far from their coming to their end, all together.
    pub lasted: Duration,
    /// Jobs so far that came with a frame or more for each worker, where jobs are cut for all of them.
    pub n_wide: u64,
    /// Jobs that wait now.
    pub n_waiting: usize,
    /// Workers that the load of the next minutes is expected to need; 0 where nobody knows.
    pub n_expected: usize,
}

/// There should be another number of workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// How many there are.
    pub from: usize,
    /// How many there should be.
    pub to: usize,
    /// Why.
    pub reason: Reason,
}

/// Why workers join or leave. Its text is a sentence for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// Jobs wait: whether more workers help is tried.
    Wait {
        /// The mean of the last seconds.
        mean_wait: Duration,
    },
    /// Jobs are cut for all workers: whether they are done sooner by more is tried.
    Wide,
    /// More workers did not help, so they leave again.
    NoGain {
        /// Work beside that before, percent.
        gain_percent: f64,
    },
    /// All workers are busy, and whether fewer do as much is tried.
    Crowded,
    /// Fewer workers did less, so they join again.
    Loss {
        /// Work beside the most that was measured, percent.
        loss_percent: f64,
    },
    /// Workers idle.
    Idle {
        /// Part of their time in which they were busy, percent.
        busy_percent: f64,
    },
    /// A load is expected.
    Expected,
    /// There are fewer than there must be, or more than there may be.
    Range,
}

impl Reason {
    /// A word for metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Wait { .. } => "wait",
            Self::Wide => "wide",
            Self::NoGain { .. } => "no_gain",
            Self::Crowded => "crowded",
            Self::Loss { .. } => "loss",
            Self::Idle { .. } => "idle",
            Self::Expected => "expected",
            Self::Range => "range",
        }
    }

    /// All names, in the order of [`Reason`].
    pub const NAMES: [&'static str; 8] = [
        "wait", "wide", "no_gain", "crowded", "loss", "idle", "expected", "range",
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait { mean_wait } => {
                let ms = mean_wait.as_secs_f64() * 1e3;
                write!(f, "jobs wait {ms:.0} ms on average")
            }
            Self::Wide => f.write_str("jobs are cut for all workers"),
            Self::NoGain { gain_percent } => {
                write!(f, "with more workers, work changed by {gain_percent:+.1} %")
            }
            Self::Crowded => f.write_str("all are busy, and fewer may do as much"),
            Self::Loss { loss_percent } => {
                write!(f, "fewer workers did {loss_percent:.1} % less work")
            }
            Self::Idle { busy_percent } => {
                write!(f, "workers were busy {busy_percent:.0} % of their time")
            }
            Self::Expected => f.write_str("more load is expected at this time of the day"),
            Self::Range => f.write_str("the configured range"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Scaler {
    range: WorkerRange,
    /// Looks since the last change, the newest last.
    looks: VecDeque<Look>,
    n_idle_looks: usize,
    trial: Option<Trial>,
    climb: Climb,
}

/// What is known of the load that there is.
#[derive(Debug, Default)]
struct Climb {
    /// Workers that were found to be too many.
    ceiling: Option<usize>,
    /// Workers that were found to be too few.
    floor: Option<usize>,
    /// The most work a second that was measured.
    best: f64,
    /// No trials before.
    rests_until: Option<Duration>,
    /// How long jobs waited when the rest began.
    rested_wait: Duration,
    n_rests: u32,
}

/// Another number of workers, to see what comes of it.
#[derive(Debug, Clone, Copy)]
struct Trial {
    from: usize,
    before: Figures,
}

/// What was measured with one number of workers.
#[derive(Debug, Clone, Copy)]
struct Figures {
    work_per_s: f64,
    mean_wait: Duration,
    /// Of a job, from its coming to its end.
    mean_time: Duration,
    busy: f64,
    /// Jobs waited.
    is_pressed: bool,
    /// Jobs were cut for all workers.
    is_wide: bool,
}

impl Figures {
    /// Whether the load would have filled more workers.
    fn is_full(&self) -> bool {
        self.is_pressed && self.busy >= FULL
    }
}

impl Scaler {
    /// Nothing measured yet. A range that is upside down is its minimum.
    #[must_use]
    pub fn new(range: WorkerRange) -> Self {
        let min = range.min.max(1);
        let max = range.max.max(min);
        Self {
            range: WorkerRange { min, max },
            looks: VecDeque::new(),
            n_idle_looks: 0,
            trial: None,
            climb: Climb::default(),
        }
    }

    /// Whether it tries nothing at the moment.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.trial.is_none()
    }

    /// Takes note of what the pool has done, and says whether there should be another number of workers.
    pub fn look(&mut self, look: Look) -> Option<Change> {
        let is_another = |last: &Look| last.n_workers != look.n_workers;
        if self.looks.back().is_some_and(is_another) {
            self.looks.clear();
            self.n_idle_looks = 0;
        }
        self.looks.push_back(look);
        let n = look.n_workers;
        let within = n.clamp(self.range.min, self.range.max);
        if within != n {
            self.trial = None;
            return Some(self.change(n, within, Reason::Range));
        }
        if self.looks.len() > SETTLING + MEASURED + 1 {
            self.looks.pop_front();
        }
        let expected = look.n_expected.min(self.range.max);
        if expected > n && self.trial.is_none() {
            return Some(self.change(n, expected, Reason::Expected));
        }
        let figures = self.figures()?;
        match self.trial.take() {
            Some(trial) => self.judge(trial, n, &figures, look.now),
            None => self.rest_or_try(n, &figures, &look),
        }
    }

    fn change(&mut self, from: usize, to: usize, reason: Reason) -> Change {
        self.looks.clear();
        self.n_idle_looks = 0;
        Change { from, to, reason }
    }

    /// The last looks, once there are enough of them since the last change.
    fn figures(&self) -> Option<Figures> {
        if self.looks.len() <= SETTLING + MEASURED {
            return None;
        }
        let last = self.looks.back()?;
        let first = self.looks.get(self.looks.len() - 1 - MEASURED)?;
        let seconds = last.now.checked_sub(first.now)?.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let mean_wait = mean(last.waited, first.waited, last.n_begun, first.n_begun);
        let busy = last.busy.saturating_sub(first.busy).as_secs_f64();
        let measured = self.looks.iter().rev().take(MEASURED);
        let n_waited = measured.filter(|look| look.n_waiting > 0).count();
        Some(Figures {
            work_per_s: (last.work - first.work).max(0.0) / seconds,
            mean_wait,
            mean_time: mean(last.lasted, first.lasted, last.n_done, first.n_done),
            is_wide: last.n_wide > first.n_wide,
            busy: busy / seconds / last.n_workers.max(1) as f64,
            is_pressed: n_waited == MEASURED || (n_waited > 0 && mean_wait > LONG_WAIT),
        })
    }

    /// What comes of a trial.
    fn judge(&mut self, trial: Trial, n: usize, now: &Figures, at: Duration) -> Option<Change> {
        let Trial { from, before } = trial;
        if n == from {
            // Nobody could join, or leave.
            self.climb.ceiling = Some(n + 1);
            self.rest(at, now.mean_wait);
            return None;
        }
        let ratio = |base: f64| match base > 0.0 {
            true => now.work_per_s / base - 1.0,
            false => 0.0,
        };
        if n < from {
            // The load has gone, so fewer are enough; or it is as before, and they do as much.
            let loss = -ratio(self.climb.best.max(before.work_per_s));
            if !now.is_full() {
                return None;
            }
            if loss <= MAX_LOSS {
                self.climb.ceiling = Some(from);
                return None;
            }
            self.climb.floor = Some(n);
            self.rest(at, now.mean_wait);
            let loss_percent = loss * 100.0;
            return Some(self.change(n, from, Reason::Loss { loss_percent }));
        }
        let gain = ratio(before.work_per_s);
        let is_sooner = now.mean_time.as_secs_f64() <= before.mean_time.as_secs_f64() * SHORTER;
        let is_better = match before.is_full() && now.is_full() {
            true => gain >= MIN_GAIN,
            // More load has come meanwhile, and more of it is done.
            false if now.is_full() && gain >= MIN_GAIN => true,
            false => is_sooner || (before.is_pressed && !now.is_pressed),
        };
        if is_better {
            self.climb.best = now.work_per_s;
            self.climb.floor = Some(from);
            return None;
        }
        self.climb.ceiling = Some(n);
        let gain_percent = gain * 100.0;
        Some(self.change(n, from, Reason::NoGain { gain_percent }))
    }

    fn rest(&mut self, now: Duration, mean_wait: Duration) {
        let climb = &mut self.climb;
        let rest = RESTS[0].saturating_mul(1 << climb.n_rests.min(16));
        climb.rests_until = Some(now + rest.min(RESTS[1]));
        climb.rested_wait = mean_wait;
        climb.n_rests += 1;
    }

    fn rest_or_try(&mut self, n: usize, figures: &Figures, look: &Look) -> Option<Change> {
        let is_wide = figures.is_wide && !figures.is_pressed;
        if !figures.is_pressed && !is_wide {
            return self.shrink(n, figures, look);
        }
        self.n_idle_looks = 0;
        let climb = &mut self.climb;
        if let Some(until) = climb.rests_until {
            // A wait that has doubled is another load.
            let is_worse = figures.mean_wait > 2 * climb.rested_wait + LONG_WAIT;
            if look.now < until && !is_worse {
                return None;
            }
            // What was found may be so no longer.
            let n_rests = climb.n_rests;
            *climb = Climb {
                n_rests,
                ..Climb::default()
            };
        }
        if figures.is_full() {
            climb.best = climb.best.max(figures.work_per_s);
        }
        let above = climb.ceiling.map_or(self.range.max, |ceiling| ceiling - 1);
        let above = above.min(self.range.max);
        // Where jobs are merely cut, one try is enough: they are done sooner with twice as many, or never.
        let (to, reason) = if above > n && !(is_wide && climb.ceiling.is_some()) {
            let step = match climb.ceiling {
                // Half of what is left to try.
                Some(_) => (above - n).div_ceil(2),
                None if is_wide => n,
                None => (n / 2).max(1),
            };
            let mean_wait = figures.mean_wait;
            let reason = match is_wide {
                true => Reason::Wide,
                false => Reason::Wait { mean_wait },
            };
            ((n + step).min(above), reason)
        } else if figures.is_full()
            && n > self.range.min
            && climb.floor.is_none_or(|floor| floor + 1 < n)
        {
            (n - 1, Reason::Crowded)
        } else {
            self.rest(look.now, figures.mean_wait);
            return None;
        };
        self.trial = Some(Trial {
            from: n,
            before: *figures,
        });
        Some(self.change(n, to, reason))
    }

    /// Has workers leave that nobody needs.
    fn shrink(&mut self, n: usize, figures: &Figures, look: &Look) -> Option<Change> {
        let wanted = wanted(figures.busy * n as f64);
        let target = wanted.max(self.range.min).max(look.n_expected);
        // Half of them at a time: a load that pauses finds the others.
        let target = target.max(n.div_ceil(2));
        if target >= n || figures.mean_wait > LONG_WAIT {
            self.n_idle_looks = 0;
            return None;
        }
        self.n_idle_looks += 1;
        if self.n_idle_looks < IDLE_FOR {
            return None;
        }
        // The next load may be another.
        self.climb = Climb::default();
        let busy_percent = figures.busy * 100.0;
        Some(self.change(n, target, Reason::Idle { busy_percent }))
    }
}

/// The mean of what came between two looks; nothing where nothing came.
fn mean(now: Duration, before: Duration, n_now: u64, n_before: u64) -> Duration {
    let n = u32::try_from(n_now.saturating_sub(n_before));
    let total = now.saturating_sub(before);
    n.ok()
        .and_then(|n| total.checked_div(n))
        .unwrap_or_default()
}

/// Workers of which this many are busy on average, if jobs are to find one idle.
#[must_use]
pub fn wanted(n_busy: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small number that is not negative"
    )]
    let n = (n_busy.clamp(0.0, 1e6) / COMFORTABLE).ceil() as usize;
    n.max(1)
}

#[cfg(test)]
mod tests;
