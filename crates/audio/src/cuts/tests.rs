use super::*;
use crate::{AudioError, FeatureStream, WindowStream, testing::*};

const AVE: SpeechForm = SpeechForm::AVE;

const RATES: [u32; 9] = [
    4_000, 8_000, 11_025, 16_000, 22_050, 24_000, 44_099, 44_100, 48_000,
];

/// The windows of one call over part of an utterance.
fn call(samples: &[f32], rate_hz: u32, first_frame: u64, end_of_utterance: bool) -> Vec<f32> {
    let mut stream = FeatureStream::new(AVE, rate_hz, first_frame).unwrap();
    let mut windows = Vec::new();
    stream.push(samples, fake_encoder, &mut windows).unwrap();
    if end_of_utterance {
        stream.finish(fake_encoder, &mut windows).unwrap();
    }
    windows
}

fn at(frame: u64, rate_hz: u32) -> usize {
    usize::try_from(frame_sample(frame, (rate_hz, AVE_FPS))).unwrap()
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
            let align = AVE.cut_alignment_frames(rate_hz);
            let cut = wanted.max(AVE.context_left_frames()) - AVE.context_left_frames();
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
    assert!(is_exact(20, AVE.context_left_frames()));
    assert!(!is_exact(20, AVE.context_left_frames() - 1));
    for cut in 21..25 {
        assert!(!is_exact(cut, AVE.context_left_frames()), "cut at {cut}");
    }
}

#[test]
fn frames_come_out_exactly_with_the_sample_that_they_need() {
    for rate_hz in RATES {
        let samples = noise(at(40, rate_hz));
        for frame in 0..7 {
            let needed = usize::try_from(AVE.samples_needed(frame, rate_hz)).unwrap();
            let mut stream = FeatureStream::new(AVE, rate_hz, 0).unwrap();
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
        .map(|i| AVE.samples_needed(i, 16_000) - frame_sample(i, (16_000, AVE_FPS)))
        .collect();
    assert_eq!(ahead, [7_200, 7_160, 7_120, 7_080, 7_240, 7_200]);
    assert_eq!(AVE.look_ahead_ms(16_000), 453);
    assert_eq!(AVE.look_ahead_ms(8_000), 459);
    assert_eq!(AVE.look_ahead_ms(48_000), 456);
    for rate_hz in 4_000..=192_000 {
        let limit = frame_sample(1 + CONTEXT_RIGHT_FRAMES, (rate_hz, AVE_FPS));
        let ahead = AVE.samples_needed(4, rate_hz) - frame_sample(4, (rate_hz, AVE_FPS));
        assert!(ahead <= limit, "{rate_hz} Hz");
    }
}

#[test]
fn steps_cut_anywhere() {
    let n_steps = 60;
    let steps: Vec<f32> = noise(n_steps * STEP_FLOATS);
    let windows = |from: usize, to: usize, first_frame: u64, n_frames: Option<u64>| {
        let mut stream = WindowStream::new(AVE, first_frame);
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
        let first = cut + usize::try_from(AVE.step_context_left()).unwrap();
        let end = first + n_wanted + usize::try_from(AVE.step_context_right()).unwrap();
        let part = windows(cut, end, AVE.step_context_left(), None);
        assert_eq!(part.len(), n_wanted * WINDOW_FLOATS);
        assert!(part == whole[first * WINDOW_FLOATS..][..part.len()]);
    }
}

#[test]
fn calls_with_context_give_the_frames_of_one_whole_call_of_other_kinds() {
    for (form, rate_hz, n_frames) in [
        (WENET[0], 16_000, 60),
        (WENET[1], 4_000, 60),
        (WENET[0], 22_050, 60),
        (WENET[1], 48_000, 60),
        (HUBERT[0], 16_000, 130),
        (HUBERT[1], 22_050, 130),
    ] {
        let at = |frame| usize::try_from(frame_sample(frame, (rate_hz, form.fps()))).unwrap();
        let samples = noise(at(n_frames) - 17);
        let of = |samples: &[f32], first_frame, is_last| {
            let mut stream = FeatureStream::new(form, rate_hz, first_frame).unwrap();
            let mut encode = fake_encoder_of(form);
            let mut windows = Vec::new();
            stream.push(samples, &mut encode, &mut windows).unwrap();
            if is_last {
                stream.finish(&mut encode, &mut windows).unwrap();
            }
            windows
        };
        let whole = of(&samples, 0, true);
        assert_eq!(
            whole.len() / form.window_floats(),
            usize::try_from(n_frames).unwrap()
        );
        let (mut joined, mut wanted) = (Vec::new(), 0);
        for n_wanted in [3, 30, 1, 26, 70].map(|n: u64| n.min(n_frames)) {
            let n_wanted = n_wanted.min(n_frames - wanted);
            if n_wanted == 0 {
                break;
            }
            let align = form.cut_alignment_frames(rate_hz);
            let cut = wanted.max(form.context_left_frames()) - form.context_left_frames();
            let cut = cut / align * align;
            let needed = form.samples_needed(wanted + n_wanted - 1, rate_hz);
            let needed = usize::try_from(needed).unwrap();
            let part = &samples[at(cut)..needed.min(samples.len())];
            let mut windows = of(part, wanted - cut, needed >= samples.len());
            windows.truncate(usize::try_from(n_wanted).unwrap() * form.window_floats());
            joined.extend(windows);
            wanted += n_wanted;
        }
        assert!(joined == whole, "{rate_hz} Hz");
    }
}

#[test]
fn a_frame_of_other_kinds_comes_out_exactly_with_the_sample_that_it_needs() {
    for (form, rate_hz, ahead_ms) in [
        (WENET[0], 16_000, 715),
        (WENET[1], 48_000, 518),
        (HUBERT[0], 16_000, 1_485),
        (HUBERT[1], 16_000, 1_325),
    ] {
        assert_eq!(form.look_ahead_ms(rate_hz), ahead_ms);
        for frame in 0..3 {
            let needed = usize::try_from(form.samples_needed(frame, rate_hz)).unwrap();
            let silence = crate::SilenceGate::samples_needed(frame, (rate_hz, form.fps()));
            assert!(usize::try_from(silence).unwrap() <= needed);
            let samples = noise(needed);
            let mut stream = FeatureStream::new(form, rate_hz, 0).unwrap();
            let mut encode = fake_encoder_of(form);
            let mut windows = Vec::new();
            stream
                .push::<AudioError>(&samples[..needed - 1], &mut encode, &mut windows)
                .unwrap();
            // Steps of a patch come together.
            let step = frame + form.step_context_right();
            let before = frame.saturating_sub(step % form.step.patch.n_steps() as u64);
            assert_eq!(stream.next_frame(), before, "{rate_hz} Hz");
            let last = &samples[needed - 1..];
            stream
                .push::<AudioError>(last, &mut encode, &mut windows)
                .unwrap();
            assert!(stream.next_frame() > frame, "{rate_hz} Hz");
        }
    }
}

#[test]
fn contexts_by_hand() {
    let of = |form: SpeechForm| (form.context_left_frames(), form.step_context_left());
    assert_eq!((of(AVE), AVE.step_context_right()), ((10, 9), 6));
    assert_eq!(WENET.map(of), [(15, 8), (11, 4)]);
    assert_eq!(WENET.map(SpeechForm::step_context_right), [7, 3]);
    assert_eq!(WENET[0].cut_alignment_frames(44_100), 1);
    assert_eq!(WENET[0].cut_alignment_frames(44_101), 20);
    assert_eq!(HUBERT.map(of), [(47, 8), (43, 4)]);
    assert_eq!(HUBERT[0].cut_alignment_frames(44_100), 20);
    assert_eq!(HUBERT[0].cut_alignment_frames(44_101), 100);
}
