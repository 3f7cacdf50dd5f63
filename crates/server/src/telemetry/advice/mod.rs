//! Advice to operators: which key of the configuration to set to which value, and what was measured that says so.
//!
//! The server counts ([`Totals`]) and knows what it has ([`State`]); a difference of two counts is [`Evidence`]; a rule
//! makes [`Advice`] of that, or none. Rules are pure, and time is an argument. Nothing changes a setting by itself.

mod adviser;
mod caches;
mod evidence;
mod gather;
mod memory;
mod models;
mod room;

#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use adviser::{Adviser, Counsel, Turn};
pub(crate) use evidence::{Evidence, Keys, ModelNow, ModelTotals, State, Totals};

/// A value of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Number(u64),
    /// A number with one decimal, in tenths.
    Tenths(u64),
    Word(&'static str),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Tenths(n) if n % 10 == 0 => write!(f, "{}", n / 10),
            Self::Tenths(n) => write!(f, "{}.{}", n / 10, n % 10),
            Self::Word(word) => f.write_str(word),
        }
    }
}

impl Setting {
    /// Whether another value is so near that nobody needs to be told of it.
    fn is_near(self, other: Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) | (Self::Tenths(a), Self::Tenths(b)) => {
                a.abs_diff(b) * 5 <= a.max(b)
            }
            (a, b) => a == b,
        }
    }
}

/// What to set, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advice {
    /// The key's path.
    pub(crate) key: &'static str,
    /// What it is now.
    pub(crate) from: Setting,
    /// What it should be.
    pub(crate) to: Setting,
    /// What was measured, a sentence without a full stop.
    pub(crate) cause: String,
}

/// A rule: what the evidence says about one key.
type Rule = fn(&Evidence<'_>) -> Option<Advice>;

/// All of them. Of several about one key, the first that says something counts.
const RULES: [Rule; 14] = [
    memory::visual_cache,
    memory::host_frames,
    memory::idle_models,
    caches::visual_cache,
    caches::host_frames,
    caches::background_frames,
    models::thrash,
    models::bake,
    models::precision,
    room::workers,
    room::queue,
    room::sessions,
    room::uploads,
    room::answers,
];

/// Fewer events than this prove nothing.
const MIN_FRAMES: u64 = 500;
const MIN_REFUSALS: u64 = 5;
/// One mebibyte, and one tenth of a gibibyte.
const MIB: u64 = 1 << 20;
const TENTH_GIB: u64 = (1 << 30) / 10;

/// `n` of them, in words.
fn counted(n: u64, one: &str, many: &str) -> String {
    let noun = if n == 1 { one } else { many };
    format!("{n} {noun}")
}

/// Up to the next hundred MiB, or the next ten below that.
fn round_mib(n_mib: u64) -> u64 {
    let step = if n_mib < 200 { 10 } else { 100 };
    n_mib.div_ceil(step) * step
}
