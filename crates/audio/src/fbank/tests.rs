use super::*;
use crate::testing::noise;

#[test]
fn silence_is_the_floor_and_rows_are_counted() {
    let rows = filter_banks(&[0.0; 1_600]);
    assert_eq!(rows.len() as u64 / 80, n_rows(1_600));
    // As the training scripts count: 67 x 160 samples of silence around the clip.
    assert_eq!(n_rows(1_600), 1 + (1_600 + 67 * 160 - 400) / 160);
    let floor = (2.0f32.powi(-23)).ln();
    assert!(rows.iter().all(|&v| (v - floor).abs() < 1e-6));
}

#[test]
fn a_stream_gives_the_rows_of_the_whole_clip_and_holds_little() {
    let samples = noise(9_999);
    let whole = filter_banks(&samples);
    for n_chunk in [1, 159, 160, 1_000] {
        let mut stream = FbankStream::new();
        let mut rows = Vec::new();
        for chunk in samples.chunks(n_chunk) {
            stream.push(chunk, &mut rows);
            assert!(stream.recent.len() < WINDOW);
        }
        stream.finish(&mut rows);
        assert!(rows == whole, "by {n_chunk}");
    }
}

#[test]
fn a_row_is_a_function_of_its_own_samples() {
    let mut samples = noise(6_400);
    let before = filter_banks(&samples);
    samples[3_200] = 0.9;
    let after = filter_banks(&samples);
    let changed: Vec<usize> = (0..before.len() / 80)
        .filter(|row| before[row * 80..][..80] != after[row * 80..][..80])
        .collect();
    // Sample 3,200 is at 8,320 of the padded clip.
    assert_eq!(changed, [50, 51, 52]);
}

#[test]
fn samples_are_cut_to_sixteen_bits() {
    for (sample, expected) in [
        (0.0, 0.0),
        (1.0, 32_767.0),
        (-1.0, -32_767.0),
        (3.0, 32_767.0),
        (-3.0, -32_768.0),
        (0.000_06, 1.0),
        (-0.000_06, -1.0),
        (0.000_03, 0.0),
    ] {
        assert!((sixteen_bits(sample) - expected).abs() < 0.5, "{sample}");
    }
}
