//! The order of background frames and the times of output frames.
//!
//! All of it is exact integer arithmetic in 64 bits or more, so nothing drifts however long a session
//! lives.

use crate::saturate::{u32_of, u64_of};

/// The background frame shown at place `timeline_index` of an avatar's walk over `n_frames` frames.
///
/// The walk is the ping-pong order `1, 2, ..., N-1, N-2, ..., 1, 0, 1, ...`: it starts at 1, the
/// ends are not repeated, and its period is `2 (N - 1)`. With one frame it is always 0.
///
/// # Panics
/// Never; `n_frames == 0` gives 0.
#[must_use]
pub fn background_index(timeline_index: u64, n_frames: u32) -> u32 {
    if n_frames <= 1 {
        return 0;
    }
    let last = u64::from(n_frames) - 1;
    let place = (timeline_index % (2 * last) + 1) % (2 * last);
    let index = if place <= last {
        place
    } else {
        2 * last - place
    };
    u32_of(index)
}

/// Duration of `n_samples` at `rate_hz` in microseconds, rounded down.
#[must_use]
pub fn duration_us(n_samples: u64, rate_hz: u32) -> u64 {
    u64_of(u128::from(n_samples) * 1_000_000 / u128::from(rate_hz.max(1)))
}

/// Output frames that a clip covers: `ceil(n_samples x fps / rate_hz)`.
#[must_use]
pub fn frames_in(n_samples: u64, rate_hz: u32, fps: u32) -> u64 {
    let frames = (u128::from(n_samples) * u128::from(fps)).div_ceil(u128::from(rate_hz.max(1)));
    u64_of(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walk_starts_at_one_and_does_not_repeat_the_ends() {
        let walk: Vec<u32> = (0..9).map(|i| background_index(i, 5)).collect();
        assert_eq!(walk, [1, 2, 3, 4, 3, 2, 1, 0, 1]);
        let walk: Vec<u32> = (0..5).map(|i| background_index(i, 2)).collect();
        assert_eq!(walk, [1, 0, 1, 0, 1]);
        assert_eq!(background_index(u64::MAX, 1), 0);
        assert_eq!(background_index(7, 0), 0);
    }

    #[test]
    fn neighbours_differ_by_one_frame_even_at_the_end_of_time() {
        for start in [0, 10_000, u64::MAX - 20] {
            for i in start..start + 19 {
                let (a, b) = (background_index(i, 7), background_index(i + 1, 7));
                // The period does not divide 2^64, but no index wraps inside this range.
                assert_eq!(a.abs_diff(b), 1, "at {i}");
            }
        }
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(duration_us(3, 25), 120_000);
        assert_eq!(frames_in(334_739, 16_000, 25), 524);
        assert_eq!(frames_in(640, 16_000, 25), 1);
        assert_eq!(frames_in(641, 16_000, 25), 2);
        assert_eq!(frames_in(0, 16_000, 25), 0);
    }
}
