use std::f64::consts::PI;

use proptest::prelude::*;

use super::*;

#[expect(clippy::cast_possible_truncation, reason = "samples are f32")]
fn sine(frequency_hz: f64, rate_hz: u32, n_samples: usize) -> Vec<f32> {
    let sample = |i| (0.5 * (2.0 * PI * frequency_hz * i as f64 / f64::from(rate_hz)).sin()) as f32;
    (0..n_samples).map(sample).collect()
}

fn resample(samples: &[f32], rate_hz: u32) -> Vec<f32> {
    let mut resampler = Resampler::new(rate_hz).unwrap();
    let mut out = Vec::new();
    resampler.push(samples, &mut out);
    resampler.finish(&mut out);
    out
}

fn power(samples: &[f64]) -> f64 {
    samples.iter().map(|x| x * x).sum::<f64>() / samples.len() as f64
}

#[test]
fn a_sine_stays_the_ideal_sine_at_its_place() {
    for (rate_hz, frequency_hz) in [
        (4_000, 1_000.0),
        (8_000, 440.0),
        (8_000, 3_400.0),
        (11_025, 1_000.0),
        (11_025, 4_700.0),
        (22_050, 440.0),
        (22_050, 7_000.0),
        (24_000, 3_000.0),
        (24_000, 7_000.0),
        (44_099, 5_000.0),
        (44_100, 440.0),
        (44_100, 7_000.0),
        (48_000, 100.0),
        (48_000, 7_000.0),
        (192_000, 6_000.0),
    ] {
        let n_samples = rate_hz as usize / 4;
        let out = resample(&sine(frequency_hz, rate_hz, n_samples), rate_hz);
        assert_eq!(out.len(), 4_000, "{rate_hz} Hz");
        let ideal = sine(frequency_hz, FEATURE_RATE_HZ, out.len());
        let steady = 200..out.len() - 200;
        let error: Vec<f64> = steady
            .clone()
            .map(|i| f64::from(out[i] - ideal[i]))
            .collect();
        let signal: Vec<f64> = steady.map(|i| f64::from(ideal[i])).collect();
        let snr_db = 10.0 * (power(&signal) / power(&error)).log10();
        assert!(
            snr_db >= 75.0,
            "{frequency_hz} Hz at {rate_hz} Hz: {snr_db} dB"
        );
    }
}

#[test]
fn tones_above_the_new_nyquist_frequency_vanish() {
    for (rate_hz, frequency_hz) in [
        (22_050, 8_100.0),
        (24_000, 9_000.0),
        (44_099, 15_000.0),
        (44_100, 8_100.0),
        (44_100, 20_000.0),
        (48_000, 8_001.0),
        (48_000, 15_000.0),
        (192_000, 40_000.0),
    ] {
        let tone = sine(frequency_hz, rate_hz, rate_hz as usize / 4);
        let out = resample(&tone, rate_hz);
        let steady: Vec<f64> = out[200..out.len() - 200]
            .iter()
            .map(|x| (*x).into())
            .collect();
        let attenuation_db = 10.0 * (0.125 / power(&steady)).log10();
        assert!(
            attenuation_db >= 80.0,
            "{frequency_hz} Hz at {rate_hz} Hz: {attenuation_db} dB"
        );
    }
}

#[test]
fn sixteen_khz_passes_untouched() {
    let tone = sine(7_990.0, 16_000, 1_000);
    assert_eq!(resample(&tone, 16_000), tone);
}

#[test]
fn a_table_of_coefficients_changes_nothing() {
    let noise: Vec<f32> = (0..3_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 - 0.5)
        .collect();
    let with_table = resample(&noise, 44_100);
    let mut filter = Filter::new(44_100);
    assert!(!filter.table.is_empty());
    filter.table = Vec::new();
    let mut without = Vec::new();
    filter.push(&noise, &mut without, usize::MAX);
    assert_eq!(without, with_table[..without.len()]);
    assert!(Filter::new(44_099).table.is_empty());
}

#[test]
fn the_largest_samples_stay_finite() {
    let samples: Vec<f32> = (0..2_000)
        .map(|i| if i / 7 % 2 == 0 { f32::MAX } else { f32::MIN })
        .collect();
    assert!(resample(&samples, 24_000).iter().all(|x| x.is_finite()));
}

#[test]
fn rates_outside_the_range_are_refused() {
    for rate_hz in [0, 1, 3_999, 192_001, u32::MAX] {
        assert_eq!(
            Resampler::new(rate_hz).unwrap_err(),
            AudioError::SampleRate { rate_hz }
        );
    }
}

fn any_rate() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![
            4_000, 8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 192_000
        ]),
        4_000..=192_000u32,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn chunks_change_nothing(
        rate_hz in any_rate(),
        samples in prop::collection::vec(-1.0f32..1.0, 0..3_000),
        chunk_lens in prop::collection::vec(0..500usize, 1..8),
    ) {
        let whole = resample(&samples, rate_hz);
        prop_assert_eq!(whole.len() as u64, resampled_len(samples.len() as u64, rate_hz));

        let mut resampler = Resampler::new(rate_hz).unwrap();
        let mut chunked = Vec::new();
        let mut rest = samples.as_slice();
        for n in chunk_lens {
            let (chunk, after) = rest.split_at(n.min(rest.len()));
            resampler.push(chunk, &mut chunked);
            rest = after;
        }
        resampler.push(rest, &mut chunked);
        resampler.finish(&mut chunked);
        prop_assert_eq!(chunked, whole);
    }
}
