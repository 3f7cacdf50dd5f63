use super::*;
use crate::{AudioError, FeatureStream, WindowStream, testing::*, windows::*};

const RATES: [u32; 9] = [
    4_000, 8_000, 11_025, 16_000, 22_050, 24_000, 44_099, 44_100, 48_000,
];

/// The windows of one call over part of an utterance.
fn call(samples: &[f32], rate_hz: u32, first_frame: u64, end_of_utterance: bool) -> Vec<f32> {
    let mut stream = FeatureStream::new(rate_hz, first_frame).unwrap();
    let mut windows = Vec::new();
    stream.push(samples, fake_encoder, &mut windows).unwrap();
    if end_of_utterance {
        stream.finish(fake_encoder, &mut windows).unwrap();
    }
    windows
}

fn at(frame: u64, rate_hz: u32) -> usize {
    usize::try_from(frame_sample(frame, rate_hz)).unwrap()
}

#[test]
fn calls_with_context_give_the_frames_of_one_whole_call() {
    for rate_hz in RATES {
        let n_frames = 90;
        let samples = noise(at(n_frames, rate_hz) - 17);
        let whole = call(&samples, rate_hz, 0, true);
        assert_eq!(whole.len() as u64, n_frames * WINDOW_FLOATS as u64);

        let mut joined = Vec::new();
        let mut wanted = 0;
        for n_wanted in [7, 20, 1, 30, 32] {
            let align = cut_alignment_frames(rate_hz);
            let cut = wanted.max(CONTEXT_LEFT_FRAMES) - CONTEXT_LEFT_FRAMES;
            let cut = cut / align * align;
            let end = wanted + n_wanted + CONTEXT_RIGHT_FRAMES;
            let is_last = end >= n_frames;
            let end = at(end, rate_hz).min(samples.len());
            let part = &samples[at(cut, rate_hz)..end];
            let mut windows = call(part, rate_hz, wanted - cut, is_last);
            let n_floats = usize::try_from(n_wanted).unwrap() * WINDOW_FLOATS;
            assert!(windows.len() >= n_floats, "{rate_hz} Hz: context too short");
            windows.truncate(n_floats);
            joined.extend(windows);
            wanted += n_wanted;
        }
        assert!(joined == whole, "{rate_hz} Hz");
    }
}

#[test]
fn the_left_context_and_the_alignment_are_as_short_as_can_be() {
    let samples = noise(at(60, 16_000));
    let whole = call(&samples, 16_000, 0, true);
    let is_exact = |cut: u64, context: u64| {
        let frame = cut + context;
        let windows = call(&samples[at(cut, 16_000)..], 16_000, context, true);
        let place = usize::try_from(frame).unwrap() * WINDOW_FLOATS;
        windows[..WINDOW_FLOATS] == whole[place..][..WINDOW_FLOATS]
    };
    assert!(is_exact(20, CONTEXT_LEFT_FRAMES));
    assert!(!is_exact(20, CONTEXT_LEFT_FRAMES - 1));
    for cut in 21..25 {
        assert!(!is_exact(cut, CONTEXT_LEFT_FRAMES), "cut at {cut}");
    }
}

#[test]
fn frames_come_out_exactly_with_the_sample_that_they_need() {
    for rate_hz in RATES {
        let samples = noise(at(40, rate_hz));
        for frame in 0..7 {
            let needed = usize::try_from(samples_needed(frame, rate_hz)).unwrap();
            let mut stream = FeatureStream::new(rate_hz, 0).unwrap();
            let mut push = |part: &[f32]| {
                let mut windows = Vec::new();
                stream
                    .push::<AudioError>(part, fake_encoder, &mut windows)
                    .unwrap();
                stream.next_frame()
            };
            assert_eq!(push(&samples[..needed - 1]), frame, "{rate_hz} Hz");
            assert_eq!(
                push(&samples[needed - 1..needed]),
                frame + 1,
                "{rate_hz} Hz"
            );
        }
    }
}

#[test]
fn look_ahead_by_hand() {
    let ahead: Vec<u64> = (0..6)
        .map(|i| samples_needed(i, 16_000) - frame_sample(i, 16_000))
        .collect();
    assert_eq!(ahead, [7_200, 7_160, 7_120, 7_080, 7_240, 7_200]);
    assert_eq!(look_ahead_ms(16_000), 453);
    assert_eq!(look_ahead_ms(8_000), 459);
    assert_eq!(look_ahead_ms(48_000), 456);
    for rate_hz in 4_000..=192_000 {
        let limit = frame_sample(1 + CONTEXT_RIGHT_FRAMES, rate_hz);
        let ahead = samples_needed(4, rate_hz) - frame_sample(4, rate_hz);
        assert!(ahead <= limit, "{rate_hz} Hz");
    }
}

#[test]
fn steps_cut_anywhere() {
    let n_steps = 60;
    let steps: Vec<f32> = noise(n_steps * STEP_FLOATS);
    let windows = |from: usize, to: usize, first_frame: u64, n_frames: Option<u64>| {
        let mut stream = WindowStream::new(first_frame);
        let mut out = Vec::new();
        let part = &steps[from * STEP_FLOATS..to * STEP_FLOATS];
        stream.push(part, &mut out).unwrap();
        if let Some(n_frames) = n_frames {
            stream.finish(n_frames, &mut out);
        }
        out
    };
    let whole = windows(0, n_steps, 0, Some(62));
    for (cut, n_wanted) in [(0, 5), (3, 1), (11, 20)] {
        let first = cut + usize::try_from(STEP_CONTEXT_LEFT).unwrap();
        let end = first + n_wanted + usize::try_from(STEP_CONTEXT_RIGHT).unwrap();
        let part = windows(cut, end, STEP_CONTEXT_LEFT, None);
        assert_eq!(part.len(), n_wanted * WINDOW_FLOATS);
        assert!(part == whole[first * WINDOW_FLOATS..][..part.len()]);
    }
}
