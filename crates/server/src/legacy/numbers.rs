//! Numbers in the forms of these protocols.

use std::time::Duration;

/// Milliseconds.
pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Milliseconds, where single precision does.
pub(super) fn short_ms(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1e3
}

/// A count of ours in the signed numbers of those protocols.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The same in 32 bits.
pub(super) fn small(n: u64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
