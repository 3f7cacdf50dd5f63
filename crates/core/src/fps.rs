//! Frames per second.

use std::{fmt, num::NonZeroU32, time::Duration};

use crate::saturate::u64_of;

/// Frames per second, at least 1: what times of frames are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fps(NonZeroU32);

impl Fps {
    /// `fps` frames per second; `None` for 0.
    #[must_use]
    pub const fn new(fps: u32) -> Option<Self> {
        match NonZeroU32::new(fps) {
            Some(fps) => Some(Self(fps)),
            None => None,
        }
    }

    /// `fps` frames per second; 0 counts as 1. For numbers that were checked before, where nobody is
    /// left to tell.
    #[must_use]
    pub const fn at_least_1(fps: u32) -> Self {
        match NonZeroU32::new(fps) {
            Some(fps) => Self(fps),
            None => Self(NonZeroU32::MIN),
        }
    }

    /// As a number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Presentation time of frame `n` in microseconds, rounded down: `n x 1,000,000 / fps`.
    #[must_use]
    pub fn pts_us(self, n: u64) -> u64 {
        u64_of(u128::from(n) * 1_000_000 / u128::from(self.get()))
    }

    /// How long `n` frames are shown, in whole nanoseconds, rounded down.
    #[must_use]
    pub fn span(self, n: u64) -> Duration {
        Duration::from_nanos(u64_of(
            u128::from(n) * 1_000_000_000 / u128::from(self.get()),
        ))
    }
}

impl From<Fps> for u32 {
    fn from(fps: Fps) -> Self {
        fps.get()
    }
}

impl From<Fps> for u64 {
    fn from(fps: Fps) -> Self {
        fps.get().into()
    }
}

impl fmt::Display for Fps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rate_is_zero() {
        assert_eq!(Fps::new(0), None);
        assert_eq!(Fps::at_least_1(0).get(), 1);
        assert_eq!(Fps::new(25), Some(Fps::at_least_1(25)));
        assert_eq!(Fps::at_least_1(25).to_string(), "25");
    }

    #[test]
    fn times_are_rounded_down_and_stop_at_the_end() {
        let fps = Fps::at_least_1(30);
        assert_eq!((fps.pts_us(0), fps.pts_us(1)), (0, 33_333));
        assert_eq!(fps.pts_us(u64::MAX), u64::MAX);
        assert_eq!(fps.span(1), Duration::from_nanos(33_333_333));
        assert_eq!(fps.span(u64::MAX), Duration::from_nanos(u64::MAX));
    }
}
