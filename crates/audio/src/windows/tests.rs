use proptest::prelude::*;

use super::*;
use crate::testing::*;

/// Steps whose values name them: step `k` is 512 times `k + 1`.
fn numbered_steps(n_steps: usize) -> Vec<f32> {
    (1..=n_steps)
        .flat_map(|k| [k as f32; STEP_FLOATS])
        .collect()
}

/// The value of each row of each window.
fn row_values(windows: &[f32]) -> Vec<f32> {
    windows
        .chunks_exact(STEP_FLOATS)
        .map(|row| {
            assert!(row.iter().all(|v| *v == row[0]));
            row[0]
        })
        .collect()
}

/// The definition, over the whole clip; one value a row.
fn expected_rows(n_steps: usize, frames: std::ops::Range<u64>) -> Vec<f32> {
    let mut f: Vec<f32> = (1..=n_steps).map(|k| k as f32).collect();
    f.insert(0, 1.0);
    f.push(n_steps as f32);
    frames
        .flat_map(|i| {
            let i = i64::try_from(i).unwrap();
            i - 8..i + 8
        })
        .map(|row| usize::try_from(row).map_or(0.0, |row| f.get(row).copied().unwrap_or(0.0)))
        .collect()
}

#[test]
fn the_first_and_last_windows_by_hand() {
    let mut windows = Vec::new();
    let mut stream = WindowStream::new(SpeechForm::AVE, 0);
    stream.push(&numbered_steps(20), &mut windows).unwrap();
    let rows = row_values(&windows);
    assert_eq!(
        rows[..16],
        [
            0., 0., 0., 0., 0., 0., 0., 0., 1., 1., 2., 3., 4., 5., 6., 7.
        ]
    );
    assert_eq!(stream.next_frame(), 14);
    assert_eq!(stream.n_steps(), 20);
    windows.clear();
    stream.finish(24, &mut windows);
    let rows = row_values(&windows);
    assert_eq!(rows.len(), 10 * 16);
    assert_eq!(
        rows[9 * 16..],
        [
            15., 16., 17., 18., 19., 20., 20., 0., 0., 0., 0., 0., 0., 0., 0., 0.
        ]
    );
}

#[test]
fn partial_steps_are_refused_and_nothing_is_taken() {
    let mut stream = WindowStream::new(SpeechForm::AVE, 0);
    assert_eq!(
        stream.push(&[0.0; 700], &mut Vec::new()),
        Err(AudioError::ValueCount {
            what: "steps",
            n_values: 700,
            item_values: STEP_FLOATS
        })
    );
    assert_eq!(stream.n_steps(), 0);
    let mut windows = Vec::new();
    stream.finish(10, &mut windows);
    assert!(windows.is_empty(), "no steps, no windows");
}

#[test]
fn memory_is_bounded_however_long_the_stream() {
    let mut stream = WindowStream::new(SpeechForm::AVE, 0);
    let mut windows = Vec::new();
    for _ in 0..500 {
        stream.push(&[1.0; STEP_FLOATS], &mut windows).unwrap();
        windows.clear();
        assert!(stream.recent.len() <= WINDOW_FLOATS);
    }
    let mut skipping = WindowStream::new(SpeechForm::AVE, u64::MAX);
    for _ in 0..500 {
        skipping.push(&[1.0; STEP_FLOATS], &mut windows).unwrap();
        assert!(skipping.recent.len() <= 2 * STEP_FLOATS);
    }
    skipping.finish(600, &mut windows);
    assert!(windows.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn windows_are_those_of_the_definition_however_the_steps_arrive(
        n_steps in 1..60usize,
        first_frame in 0..70u64,
        n_chunk in 1..20usize,
    ) {
        let n_frames = SpeechForm::AVE.frames_of_steps(n_steps as u64) + 2;
        let steps = numbered_steps(n_steps);
        let mut stream = WindowStream::new(SpeechForm::AVE, first_frame);
        let mut windows = Vec::new();
        for chunk in steps.chunks(n_chunk * STEP_FLOATS) {
            stream.push(chunk, &mut windows).unwrap();
        }
        stream.finish(n_frames, &mut windows);
        prop_assert_eq!(row_values(&windows), expected_rows(n_steps, first_frame..n_frames));
    }
}
