use proptest::prelude::*;

use super::*;
use crate::{mel, steps::PATCH_FLOATS, testing::*};

#[test]
fn the_parts_put_together_by_hand_give_the_same() {
    let samples = noise(20_000);
    let rows = mel::spectrogram(&samples);
    let n_rows = rows.len() / mel::N_MELS;
    let mut encoded_steps = Vec::new();
    for k in 0..(n_rows - 16) * 25 / 80 + 2 {
        let s = (16 * k / 5).min(n_rows - 16);
        let mut patch = Vec::new();
        for band in 0..80 {
            patch.extend((s..s + 16).map(|row| rows[row * 80 + band]));
        }
        encoded_steps.extend(fake_encoder(&patch).unwrap());
    }
    let mut stream = WindowStream::new(SpeechForm::AVE, 0);
    let mut windows = Vec::new();
    stream.push(&encoded_steps, &mut windows).unwrap();
    stream.finish(32, &mut windows);
    assert!(windows == windows_of(&samples, 16_000));
}

#[test]
fn frames_are_those_that_the_audio_covers() {
    for (n_samples, rate_hz, n_frames) in [
        (0, 16_000, 0),
        (1, 16_000, 1),
        (640, 16_000, 1),
        (641, 16_000, 2),
        (2_999, 16_000, 5),
        (3_000, 16_000, 5),
        (3_001, 48_000, 2),
        (20_000, 16_000, 32),
        (44_100, 44_100, 25),
        (44_101, 44_100, 26),
        (1, 192_000, 1),
    ] {
        let windows = windows_of(&noise(n_samples), rate_hz);
        assert_eq!(windows.len(), n_frames * WINDOW_FLOATS, "{n_samples}");
    }
}

#[test]
fn a_short_clip_is_one_followed_by_silence() {
    let mut samples = noise(1_000);
    let mut short = PatchStream::new(SpeechForm::AVE, 16_000).unwrap();
    let mut patches = Vec::new();
    short.push(&samples, &mut patches);
    assert!(patches.is_empty());
    assert_eq!(short.finish(&mut patches).n_frames, 2);

    samples.resize(3_000, 0.0);
    let mut padded = PatchStream::new(SpeechForm::AVE, 16_000).unwrap();
    let mut expected = Vec::new();
    padded.push(&samples, &mut expected);
    padded.finish(&mut expected);
    assert_eq!(patches, expected);
    assert_eq!(patches.len(), 2 * PATCH_FLOATS);
}

#[test]
fn an_encoder_that_fails_or_answers_short_is_an_error() {
    let stream = || FeatureStream::new(SpeechForm::AVE, 16_000, 0).unwrap();
    // What the first step needs.
    let samples = noise(3_400);
    let short = |_: &[f32]| Ok::<_, AudioError>(vec![0.0; 7]);
    assert_eq!(
        stream().push(&samples, short, &mut Vec::new()),
        Err(AudioError::EncoderOutput {
            expected: STEP_FLOATS,
            actual: 7
        })
    );
    let failing = |_: &[f32]| Err(AudioError::Channels { n_channels: 9 });
    assert_eq!(
        stream().push(&samples, failing, &mut Vec::new()),
        Err(AudioError::Channels { n_channels: 9 })
    );
}

#[test]
fn a_long_stream_holds_no_more_than_its_look_ahead() {
    let mut stream = FeatureStream::new(SpeechForm::AVE, 24_000, 0).unwrap();
    let chunk = noise(2_400);
    let mut windows = Vec::new();
    for _ in 0..100 {
        stream.push(&chunk, fake_encoder, &mut windows).unwrap();
        windows.clear();
        // The look-ahead, and at most one frame that is not complete.
        assert!(stream.buffered_seconds() < 0.456 + 0.04);
    }
    assert_eq!(stream.next_frame(), 239);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_stream_gives_the_windows_of_the_whole_clip(
        rate_hz in prop::sample::select(vec![8_000, 11_025, 16_000, 22_050, 44_100, 48_000]),
        n_samples in 0..40_000usize,
        n_chunk in 1..6_000usize,
        first_frame in 0..20usize,
    ) {
        let samples = noise(n_samples);
        let whole = windows_of(&samples, rate_hz);
        let mut stream = FeatureStream::new(SpeechForm::AVE, rate_hz, first_frame as u64).unwrap();
        let mut windows = Vec::new();
        for chunk in samples.chunks(n_chunk) {
            stream.push(chunk, fake_encoder, &mut windows).unwrap();
        }
        stream.finish(fake_encoder, &mut windows).unwrap();
        let skipped = (first_frame * WINDOW_FLOATS).min(whole.len());
        // Not prop_assert_eq: a failure would print a million floats.
        prop_assert!(windows == whole[skipped..]);
    }
}
