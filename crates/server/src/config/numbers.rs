//! Numbers of a configuration, checked.

use std::ops::RangeInclusive;

use super::BadValue;

/// The value, if it lies in the range.
pub(super) fn in_range(key: &str, value: u64, range: RangeInclusive<u64>) -> Result<u64, BadValue> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(BadValue {
        key: key.into(),
        message: format!(
            "expected {} to {}, found {value}",
            range.start(),
            range.end()
        ),
    })
}

/// The value, if it lies above 0 and not above `max`.
pub(super) fn positive(key: &str, value: f64, max: f64) -> Result<f64, BadValue> {
    if value > 0.0 && value <= max {
        return Ok(value);
    }
    Err(BadValue {
        key: key.into(),
        message: format!("expected a number above 0 and up to {max}, found {value}"),
    })
}

/// The value, or the largest that this machine can count to.
pub(super) fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A number of GiB in bytes.
pub(super) fn gibibytes(key: &str, value: Option<f64>, default: f64) -> Result<u64, BadValue> {
    multiple(key, value.unwrap_or(default), 1024.0 * 1024.0 * 1024.0)
}

/// A number of GMAC in MACs.
pub(super) fn gmacs(key: &str, value: Option<f64>, default: f64) -> Result<u64, BadValue> {
    multiple(key, value.unwrap_or(default), 1e9)
}

/// So many of `unit`, which is up to some 10^9.
fn multiple(key: &str, value: f64, unit: f64) -> Result<u64, BadValue> {
    let value = positive(key, value, 1e6)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be positive and at most 10^6 units"
    )]
    let n = (value * unit) as u64;
    Ok(n)
}
