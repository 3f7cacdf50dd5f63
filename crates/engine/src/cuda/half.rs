//! IEEE 754 binary16, as the device stores it.

/// The largest finite number.
const MAX: f32 = 65504.0;

/// The nearest binary16 number, ties to even. What is beyond the largest becomes the largest, and what is
/// no number becomes the smallest: the device's `max` and `min` prefer numbers.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::manual_clamp,
    reason = "the number is built of 16 bits; `clamp` would keep what is no number"
)]
pub(crate) fn from_f32(x: f32) -> u16 {
    let bits = x.max(-MAX).min(MAX).to_bits();
    let (sign, magnitude) = ((bits >> 16) as u16 & 0x8000, bits & 0x7fff_ffff);
    let rounded = if magnitude < 0x3880_0000 {
        // Below the normal numbers, which are 2^-24 apart as those from 0.5 to 1 are in f32.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0x3f00_0000
    } else {
        ((magnitude + 0x0fff + (magnitude >> 13 & 1)) >> 13) - (112 << 10)
    };
    sign | rounded as u16
}

/// The number itself; for what [`from_f32`] gives, which is finite.
#[must_use]
pub(crate) fn to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    // The exponents' biases are 112 apart; a product is exact for subnormal numbers too.
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * f32::from_bits(239 << 23);
    f32::from_bits(magnitude.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_number_survives() {
        for half in (0..=u16::MAX).filter(|half| half & 0x7c00 != 0x7c00) {
            assert_eq!(from_f32(to_f32(half)), half);
        }
        assert_eq!(to_f32(0x3c00).to_bits(), 1.0_f32.to_bits());
        assert_eq!(to_f32(0x0001).to_bits(), 2.0_f32.powi(-24).to_bits());
    }

    #[test]
    fn what_lies_between_goes_to_the_nearest_and_ties_to_even() {
        for low in (0..0x7bff_u16).step_by(7) {
            let (a, b) = (to_f32(low), to_f32(low + 1));
            let (middle, quarter) = (f32::midpoint(a, b), a + (b - a) / 4.0);
            assert_eq!(from_f32(middle), low + (low & 1), "{middle:e}");
            assert_eq!(from_f32(quarter), low);
            assert_eq!(from_f32(-quarter), low | 0x8000);
        }
        assert_eq!(to_f32(from_f32(1e9)).to_bits(), 65504.0_f32.to_bits());
        assert_eq!(
            to_f32(from_f32(f32::NEG_INFINITY)).to_bits(),
            (-65504.0_f32).to_bits()
        );
    }
}
