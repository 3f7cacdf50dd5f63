use proptest::prelude::*;

use super::*;

#[test]
fn silence_lies_on_the_floor() {
    let rows = spectrogram(&[0.0; 1_000]);
    assert_eq!(rows, [-4.0; 6 * N_MELS]);
    assert_eq!(spectrogram(&[]).len(), N_MELS);
}

#[test]
fn every_band_hears_something() {
    // At 20 Hz a bin even the narrowest band must cover one.
    let bands: Vec<f64> = MelFilters::new().apply(&[1.0; WINDOW / 2 + 1]).collect();
    assert_eq!(bands.len(), N_MELS);
    assert!(bands.iter().all(|b| *b > 0.0));
}

#[test]
fn a_full_scale_click_reaches_into_the_rows_around_it_only() {
    let mut samples = vec![0.0; 4_000];
    samples[2_000] = 1.0;
    let rows = spectrogram(&samples);
    let heard: Vec<usize> = rows
        .chunks_exact(N_MELS)
        .enumerate()
        .filter(|(_, row)| row.iter().any(|v| *v > -4.0))
        .map(|(r, _)| r)
        .collect();
    // Row 8 ends before 2,000, and row 12 begins there, where the window is all but zero.
    assert_eq!(heard, [9, 10, 11]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn chunks_change_nothing(
        samples in prop::collection::vec(-1.0f32..1.0, 0..4_000),
        chunk_lens in prop::collection::vec(0..900usize, 1..8),
    ) {
        let whole = spectrogram(&samples);
        prop_assert_eq!(whole.len() as u64, n_rows(samples.len() as u64) * N_MELS as u64);

        let mut stream = MelStream::new();
        let mut chunked = Vec::new();
        let mut rest = samples.as_slice();
        for n in chunk_lens {
            let (chunk, after) = rest.split_at(n.min(rest.len()));
            stream.push(chunk, &mut chunked);
            rest = after;
        }
        stream.push(rest, &mut chunked);
        stream.finish(&mut chunked);
        prop_assert_eq!(chunked, whole);
    }
}
