//! When the server is worse than it usually is, and what is done about it: a state machine.
//!
//! [`Watch`] is told figures every ten seconds, and memory every second. It reads no clock, so it is tested in
//! virtual time.
//!
//! What is usual is the median of the last ten minutes in which nothing was wrong. Where something is wrong for
//! long enough, one step is taken, and after the same time the next: smaller batches, then no new work of low
//! priority, then smaller caches, the last only where memory is short. When it is over, steps are taken back one by
//! one. What has been so for ten minutes, whatever was done, is what is usual from then on.
//!
//! Memory has steps of its own, which follow each other in seconds: caches of a half, caches of a quarter and smaller
//! batches, no new work of low priority.

use std::{collections::VecDeque, fmt};

/// Seconds that a measurement takes.
pub(crate) const MEASURED_S: u64 = 10;
/// Measurements that make what is usual, at least and at most.
const USUAL: (usize, usize) = (6, 60);
/// Calls and jobs of a measurement below which it says nothing.
const FEW: u64 = 20;
/// Seconds after which what was bad is usual.
const GIVE_UP_S: u64 = 600;
/// Seconds between two steps for memory.
const MEMORY_PAUSE_S: u64 = 10;
/// Below the limit by this much, memory is no longer short.
const MEMORY_MARGIN: f64 = 0.05;
/// Memory in use from which on smaller caches may make anything quicker.
const TIGHT_MEMORY: f64 = 0.8;

/// From when on something is worse than usual, and for how long it must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchRules {
    /// Rise of the time of a job for a frame, a part; `None`: any.
    pub latency: Option<f64>,
    /// Fall of the work done a second while jobs wait, a part.
    pub throughput: Option<f64>,
    /// Part of calls that fail by the server's fault.
    pub errors: Option<f64>,
    /// Part of memory that is in use.
    pub memory: Option<f64>,
    /// Seconds before the first step, and between two of them.
    pub act_after_s: u64,
    /// Seconds before a step is taken back.
    pub undo_after_s: u64,
}

/// What was measured in [`MEASURED_S`] seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Jobs that were completed.
    pub(crate) n_jobs: u64,
    /// Time of a job for each of its frames, from its coming to its end, seconds.
    pub(crate) frame_time_s: f64,
    /// Work a second, in any unit.
    pub(crate) work_per_s: f64,
    /// Whether jobs waited at each look.
    pub(crate) is_full: bool,
    /// Calls that ended.
    pub(crate) n_calls: u64,
    /// Those of them that failed by the server's fault.
    pub(crate) n_failed: u64,
    /// Part of memory in use; not a number where nobody knows.
    pub(crate) memory: f64,
}

/// What holds beside the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posture {
    /// By what the frames of a batch are divided.
    pub(crate) batch_divisor: usize,
    /// Whether new work of low priority is refused.
    pub(crate) sheds_low: bool,
    /// The part of the configured caches that is used, percent.
    pub(crate) cache_percent: u32,
}

impl Posture {
    /// As configured.
    pub(crate) const USUAL: Self = Self {
        batch_divisor: 1,
        sheds_low: false,
        cache_percent: 100,
    };

    /// Both at once.
    fn and(self, other: Self) -> Self {
        Self {
            batch_divisor: self.batch_divisor.max(other.batch_divisor),
            sheds_low: self.sheds_low || other.sheds_low,
            cache_percent: self.cache_percent.min(other.cache_percent),
        }
    }
}

/// Steps that were taken.
const STEPS: [Posture; 4] = [
    Posture::USUAL,
    Posture {
        batch_divisor: 2,
        ..Posture::USUAL
    },
    Posture {
        batch_divisor: 2,
        sheds_low: true,
        ..Posture::USUAL
    },
    Posture {
        batch_divisor: 2,
        sheds_low: true,
        cache_percent: 50,
    },
];
/// The same for memory.
const MEMORY_STEPS: [Posture; 4] = [
    Posture::USUAL,
    Posture {
        cache_percent: 50,
        ..Posture::USUAL
    },
    Posture {
        batch_divisor: 2,
        cache_percent: 25,
        ..Posture::USUAL
    },
    Posture {
        batch_divisor: 4,
        sheds_low: true,
        cache_percent: 10,
    },
];

/// What is wrong, or that it is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cause {
    Latency { is: f64, usual: f64 },
    Throughput { is: f64, usual: f64 },
    Errors { ratio: f64 },
    Memory { ratio: f64 },
    Over,
    NewNormal,
    SwitchedOff,
}

impl Cause {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Throughput { .. } => "throughput",
            Self::Errors { .. } => "errors",
            Self::Memory { .. } => "memory",
            Self::Over => "over",
            Self::NewNormal => "new_normal",
            Self::SwitchedOff => "switched_off",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |is: &f64, usual: &f64| (is / usual - 1.0) * 100.0;
        match self {
            Self::Latency { is, usual } => write!(
                f,
                "jobs take {:.1} ms for a frame, {:+.0} % beside what is usual",
                is * 1e3,
                percent(is, usual)
            ),
            Self::Throughput { is, usual } => write!(
                f,
                "jobs wait, and {:+.0} % of the usual work is done",
                percent(is, usual)
            ),
            Self::Errors { ratio } => write!(f, "{:.1} % of calls fail", ratio * 100.0),
            Self::Memory { ratio } => write!(f, "{:.0} % of memory is in use", ratio * 100.0),
            Self::Over => f.write_str("it is over"),
            Self::NewNormal => f.write_str("it has been so for ten minutes, and is usual now"),
            Self::SwitchedOff => f.write_str("adapt.watch is off"),
        }
    }
}

/// A change of the posture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) before: Posture,
    pub(crate) now: Posture,
    pub(crate) cause: Cause,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    frame_times: Usual,
    works: Usual,
    performance: Ladder,
    memory: Ladder,
}

/// How many steps were taken, and since when something has been so.
#[derive(Debug, Default)]
struct Ladder {
    n_steps: usize,
    bad_since_s: Option<u64>,
    good_since_s: Option<u64>,
    begun_s: u64,
}

/// The measurements in which nothing was wrong.
#[derive(Debug, Default)]
struct Usual(VecDeque<f64>);

impl Usual {
    fn note(&mut self, value: f64) {
        if self.0.len() >= USUAL.1 {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    fn median(&self) -> Option<f64> {
        if self.0.len() < USUAL.0 {
            return None;
        }
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

impl Ladder {
    /// A step up or down, by how long it has been bad or good.
    fn look(&mut self, is_bad: bool, now_s: u64, pauses_s: (u64, u64), n_most: usize) -> Move {
        let (up_after_s, down_after_s) = pauses_s;
        let for_s = |since: &mut Option<u64>| now_s.saturating_sub(*since.get_or_insert(now_s));
        if is_bad {
            self.good_since_s = None;
            let bad_s = for_s(&mut self.bad_since_s);
            if self.n_steps < n_most && bad_s >= up_after_s {
                self.n_steps += 1;
                self.bad_since_s = Some(now_s);
                if self.n_steps == 1 {
                    self.begun_s = now_s;
                }
                return Move::Up;
            }
            return Move::None;
        }
        self.bad_since_s = None;
        let good_s = for_s(&mut self.good_since_s);
        if self.n_steps > 0 && good_s >= down_after_s {
            self.n_steps -= 1;
            self.good_since_s = Some(now_s);
            return Move::Down;
        }
        Move::None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Up,
    Down,
    None,
}

impl Watch {
    /// What holds now.
    pub(crate) fn posture(&self) -> Posture {
        STEPS[self.performance.n_steps].and(MEMORY_STEPS[self.memory.n_steps])
    }

    /// Takes note of a measurement that ends at `now_s`.
    pub(crate) fn look(&mut self, rules: &WatchRules, is: &Measured, now_s: u64) -> Option<Step> {
        let before = self.posture();
        let cause = self.worse(rules, is);
        let n_most = match is.memory > TIGHT_MEMORY {
            true => STEPS.len() - 1,
            false => STEPS.len() - 2,
        };
        if self.performance.n_steps > 0
            && cause.is_some()
            && now_s.saturating_sub(self.performance.begun_s) >= GIVE_UP_S
        {
            *self = Self {
                memory: std::mem::take(&mut self.memory),
                ..Self::default()
            };
            return self.step(before, Cause::NewNormal);
        }
        if cause.is_none() && self.performance.n_steps == 0 {
            self.learn(is);
        }
        let pauses = (rules.act_after_s, rules.undo_after_s);
        match self
            .performance
            .look(cause.is_some(), now_s, pauses, n_most)
        {
            Move::Up => cause.and_then(|cause| self.step(before, cause)),
            Move::Down => self.step(before, Cause::Over),
            Move::None => None,
        }
    }

    /// Takes note of the memory that is in use.
    pub(crate) fn look_at_memory(
        &mut self,
        rules: &WatchRules,
        ratio: f64,
        now_s: u64,
    ) -> Option<Step> {
        let before = self.posture();
        let limit = rules.memory.unwrap_or(f64::INFINITY);
        let is_short = ratio > limit;
        // Between the limit and where it is over, nothing changes.
        if !is_short && ratio > limit - MEMORY_MARGIN {
            self.memory.good_since_s = None;
            return None;
        }
        let up_after_s = match self.memory.n_steps {
            0 => 0,
            _ => MEMORY_PAUSE_S,
        };
        let pauses = (up_after_s, rules.undo_after_s);
        match self
            .memory
            .look(is_short, now_s, pauses, MEMORY_STEPS.len() - 1)
        {
            Move::Up => self.step(before, Cause::Memory { ratio }),
            Move::Down => self.step(before, Cause::Over),
            Move::None => None,
        }
    }

    /// Takes everything back, and forgets what is usual.
    pub(crate) fn switch_off(&mut self) -> Option<Step> {
        let before = self.posture();
        *self = Self::default();
        self.step(before, Cause::SwitchedOff)
    }

    fn step(&self, before: Posture, cause: Cause) -> Option<Step> {
        let now = self.posture();
        (now != before).then_some(Step { before, now, cause })
    }

    fn worse(&self, rules: &WatchRules, is: &Measured) -> Option<Cause> {
        let ratio = is.n_failed as f64 / is.n_calls.max(1) as f64;
        if is.n_calls >= FEW && rules.errors.is_some_and(|limit| ratio > limit) {
            return Some(Cause::Errors { ratio });
        }
        if let (Some(rise), Some(usual)) = (rules.latency, self.frame_times.median())
            && is.n_jobs >= FEW
            && is.frame_time_s > usual * (1.0 + rise)
        {
            let is = is.frame_time_s;
            return Some(Cause::Latency { is, usual });
        }
        if let (Some(fall), Some(usual)) = (rules.throughput, self.works.median())
            && is.is_full
            && is.work_per_s < usual * (1.0 - fall)
        {
            let is = is.work_per_s;
            return Some(Cause::Throughput { is, usual });
        }
        None
    }

    fn learn(&mut self, is: &Measured) {
        if is.n_jobs >= FEW {
            self.frame_times.note(is.frame_time_s);
        }
        if is.is_full && is.n_jobs >= FEW {
            self.works.note(is.work_per_s);
        }
    }
}

#[cfg(test)]
mod tests;
