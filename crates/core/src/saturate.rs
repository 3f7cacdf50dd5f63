//! Conversions that stop at the end of the narrower type.
//!
//! For counts, sizes and times that stay far below that end, or for limits, where "as many as there
//! can be" is what a larger number means. Not for what a client or a file says and somebody must be
//! told about: that is refused.

use std::time::Duration;

/// A number without a sign, so that what does not fit is too large.
pub trait Unsigned:
    TryInto<u32> + TryInto<u64> + TryInto<usize> + TryInto<i64> + sealed::Sealed
{
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! unsigned {
    ($($number:ty),*) => {$(
        impl sealed::Sealed for $number {}
        impl Unsigned for $number {}
    )*};
}

unsigned!(u32, u64, u128, usize);

/// `n`, or [`u32::MAX`] where that is too small.
pub fn u32_of(n: impl Unsigned) -> u32 {
    n.try_into().unwrap_or(u32::MAX)
}

/// `n`, or [`u64::MAX`] where that is too small.
pub fn u64_of(n: impl Unsigned) -> u64 {
    n.try_into().unwrap_or(u64::MAX)
}

/// `n`, or [`usize::MAX`] where that is too small.
pub fn usize_of(n: impl Unsigned) -> usize {
    n.try_into().unwrap_or(usize::MAX)
}

/// `n`, or [`i64::MAX`] where that is too small.
pub fn i64_of(n: impl Unsigned) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// Whole microseconds.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64_of(duration.as_micros())
}

/// Whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64_of(duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_kept_and_the_rest_is_the_end() {
        assert_eq!((u32_of(7_usize), u32_of(u32::MAX)), (7, u32::MAX));
        assert_eq!(u32_of(u64::from(u32::MAX) + 8), u32::MAX);
        assert_eq!((u64_of(7_u128), u64_of(u128::MAX)), (7, u64::MAX));
        assert_eq!((usize_of(7_u32), usize_of(u128::MAX)), (7, usize::MAX));
        assert_eq!((i64_of(7_usize), i64_of(u64::MAX)), (7, i64::MAX));
    }

    #[test]
    fn times_are_rounded_down() {
        assert_eq!(micros(Duration::from_nanos(1_999)), 1);
        assert_eq!(millis(Duration::from_micros(1_999)), 1);
        assert_eq!(micros(Duration::MAX), u64::MAX);
        // 2^64 seconds are more milliseconds than 64 bits count.
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }
}
