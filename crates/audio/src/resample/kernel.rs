//! The low-pass filter of the resampler, as one table for all rates.
//!
//! The filter is a sinc under a Kaiser window. Its argument is a distance in samples of the *lower*
//! of the two rates, so one prototype serves every ratio; it is tabulated finely and read by linear
//! interpolation. With 512 points a sample the interpolation errs by at most
//! `pi^2 / 3 / 8 / 512^2 = 1.6e-6` (-116 dB), far below the filter's own stopband.

use std::{f64::consts::PI, sync::OnceLock};

/// Reach of the filter to each side, in samples of the lower rate.
pub(super) const REACH: u32 = 48;
/// Table points per sample of the lower rate.
const RESOLUTION: u32 = 512;
/// Kaiser's beta for 85 dB: `0.1102 (85 - 8.7)`, rounded up.
const BETA: f64 = 8.5;
/// The -6 dB point in cycles per sample of the lower rate: half a transition band (0.0565 for this
/// length and beta) below the Nyquist frequency, so that the stopband begins at Nyquist.
const CUTOFF: f64 = 0.471_75;

/// The filter at `distance` samples of the lower rate from its centre; gain 1 at 0 Hz when summed
/// over a unit grid.
pub(super) fn prototype(distance: f64) -> f64 {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    let place = distance.abs() * f64::from(RESOLUTION);
    if place >= f64::from(REACH * RESOLUTION) {
        return 0.0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 <= place < REACH x RESOLUTION was just checked; the fraction is used below"
    )]
    let index = place as usize;
    let table = TABLE.get_or_init(tabulate);
    let fraction = place.fract();
    table[index] * (1.0 - fraction) + table[index + 1] * fraction
}

/// Values at `0, 1/RESOLUTION, ..., REACH`, both ends included.
fn tabulate() -> Vec<f64> {
    let value = |point: u32| {
        let distance = f64::from(point) / f64::from(RESOLUTION);
        let x = 2.0 * CUTOFF * distance;
        let sinc = if point == 0 {
            1.0
        } else {
            (PI * x).sin() / (PI * x)
        };
        let inside = (1.0 - (distance / f64::from(REACH)).powi(2)).max(0.0);
        2.0 * CUTOFF * sinc * bessel_i0(BETA * inside.sqrt()) / bessel_i0(BETA)
    };
    (0..=REACH * RESOLUTION).map(value).collect()
}

/// The modified Bessel function of order 0, by its power series; exact to rounding for `x <= BETA`.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..40 {
        term *= quarter / f64::from(k * k);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bessel_function_agrees_with_published_values() {
        // Abramowitz and Stegun, table 9.8.
        assert!((bessel_i0(1.0) - 1.266_065_877_752).abs() < 1e-11);
        assert!((bessel_i0(5.0) - 27.239_871_823_604).abs() < 1e-9);
    }

    /// The gain at `frequency` cycles per sample, from the filter on a fine grid.
    fn gain_db(frequency: f64) -> f64 {
        let per_sample = 16;
        let sum: f64 = (-48 * per_sample..=48 * per_sample)
            .map(|i| f64::from(i) / f64::from(per_sample))
            .map(|t| prototype(t) * (2.0 * PI * frequency * t).cos())
            .sum();
        20.0 * (sum / f64::from(per_sample)).abs().log10()
    }

    #[test]
    fn passes_up_to_0_443_and_stops_from_0_5() {
        for i in 0..=443 {
            let gain = gain_db(f64::from(i) / 1000.0);
            assert!(gain.abs() < 0.002, "{gain} dB at {i}/1000");
        }
        assert!((gain_db(CUTOFF) + 6.02).abs() < 0.1);
        for i in 500..4000 {
            let gain = gain_db(f64::from(i) / 1000.0);
            assert!(gain < -82.0, "{gain} dB at {i}/1000");
        }
    }
}
