//! What advice is, and words and numbers that rules share.

use std::fmt;

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
    pub(super) fn is_near(self, other: Self) -> bool {
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

/// Fewer events than this prove nothing.
pub(super) const MIN_FRAMES: u64 = 500;
pub(super) const MIN_REFUSALS: u64 = 5;
/// One mebibyte, and one tenth of a gibibyte.
pub(super) const MIB: u64 = 1 << 20;
pub(super) const TENTH_GIB: u64 = (1 << 30) / 10;

/// `n` of them, in words.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    let noun = if n == 1 { one } else { many };
    format!("{n} {noun}")
}

/// Up to the next hundred MiB, or the next ten below that.
pub(super) fn round_mib(n_mib: u64) -> u64 {
    let step = if n_mib < 200 { 10 } else { 100 };
    n_mib.div_ceil(step) * step
}
