use proptest::prelude::*;

use super::*;
use crate::{
    SpeechForm,
    testing::{AVE_FPS, FPS, noise},
};

/// Frames a second.
const S: usize = FPS as usize;

fn verdicts(samples: &[f32], rate_hz: u32, n_chunk: usize) -> Vec<bool> {
    let mut gate = SilenceGate::new(rate_hz, AVE_FPS).unwrap();
    let mut frames = Vec::new();
    for chunk in samples.chunks(n_chunk) {
        gate.push(chunk, &mut frames);
    }
    gate.finish(n_frames(samples.len(), rate_hz), &mut frames);
    frames.iter().map(|verdict| verdict.speaks).collect()
}

fn n_frames(n_samples: usize, rate_hz: u32) -> u64 {
    lipsync_core::frames_in(n_samples as u64, rate_hz, FPS)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some seconds"
)]
fn n_samples(seconds: f32, rate_hz: u32) -> usize {
    (seconds * rate_hz as f32) as usize
}

fn db(level: f32) -> f32 {
    10.0f32.powf(level / 20.0)
}

/// Seconds of noise at a level, dB of mean square.
fn hiss(seconds: f32, level_db: f32, rate_hz: u32) -> Vec<f32> {
    // Noise between -0.5 and 0.5 has a mean square of 1/12.
    let scale = db(level_db) * 12.0f32.sqrt();
    noise(n_samples(seconds, rate_hz))
        .iter()
        .map(|s| s * scale)
        .collect()
}

/// Syllables: a tone of 150 Hz and its harmonics, 160 ms on, 90 ms off.
fn speech(seconds: f32, level_db: f32, rate_hz: u32) -> Vec<f32> {
    let tone = |i: usize| {
        let t = i as f32 / rate_hz as f32;
        let is_on = t % 0.25 < 0.16;
        let harmonics = |n: f32| (std::f32::consts::TAU * 150.0 * n * t).sin() / n;
        if is_on {
            (1..8u8).map(|n| harmonics(f32::from(n))).sum::<f32>() * db(level_db)
        } else {
            0.0
        }
    };
    (0..n_samples(seconds, rate_hz)).map(tone).collect()
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

#[test]
fn opens_before_speech_and_closes_after_it() {
    for rate_hz in [8_000, 16_000, 22_050, 24_000, 44_100, 48_000] {
        let samples = [
            hiss(2.0, -70.0, rate_hz),
            speech(2.0, -26.0, rate_hz),
            hiss(4.0, -70.0, rate_hz),
        ]
        .concat();
        let frames = verdicts(&samples, rate_hz, samples.len());
        let first = frames.iter().position(|&open| open).unwrap();
        let last = frames.iter().rposition(|&open| open).unwrap();
        assert!(
            (2 * S - 6..=2 * S - 5).contains(&first),
            "{first} at {rate_hz}"
        );
        // Within half a second of the last sound.
        assert!(
            (4 * S..4 * S + S / 2).contains(&last),
            "{last} at {rate_hz}"
        );
        assert!(frames[first..=last].iter().all(|&open| open), "no flutter");
    }
}

#[test]
fn silence_offsets_hum_and_steady_noise_stay_closed() {
    let rate_hz = 16_000;
    let n = 10 * rate_hz as usize;
    let hum = |i: usize| db(-50.0) * (std::f32::consts::TAU * 50.0 * i as f32 / 16_000.0).sin();
    let closed: [(&str, Vec<f32>); 4] = [
        ("zeros", vec![0.0; n]),
        ("faint noise", hiss(10.0, -54.0, rate_hz)),
        ("hum", (0..n).map(hum).collect()),
        ("zeros after an offset", vec![1e-3; n]),
    ];
    for (what, samples) in closed {
        assert!(
            !verdicts(&samples, rate_hz, 4_000).contains(&true),
            "{what}"
        );
    }
    // Louder noise is taken for speech until it is known to be noise.
    let frames = verdicts(&hiss(10.0, -43.0, rate_hz), rate_hz, 4_000);
    assert!(
        !frames[4 * S..].contains(&true),
        "noise for longer than the memory"
    );
}

#[test]
fn soft_speech_and_speech_in_noise_open_it() {
    let rate_hz = 16_000;
    let soft = [vec![0.0; 32_000], speech(2.0, -38.0, rate_hz)].concat();
    assert!(
        verdicts(&soft, rate_hz, 999)[2 * S..]
            .iter()
            .all(|&open| open)
    );
    let voice = [
        vec![0.0; 80_000],
        speech(2.0, -22.0, rate_hz),
        vec![0.0; 48_000],
    ]
    .concat();
    let noisy = sum(&voice, &hiss(10.0, -45.0, rate_hz));
    let frames = verdicts(&noisy, rate_hz, 999);
    assert!(!frames[4 * S..5 * S - 7].contains(&true), "noise alone");
    assert!(
        frames[5 * S..7 * S].iter().all(|&open| open),
        "the voice in it"
    );
    assert!(!frames[8 * S..].contains(&true), "noise alone again");
}

#[test]
fn the_loudest_samples_do_no_harm() {
    let loud = [f32::MAX, f32::MIN].repeat(16_000);
    let frames = verdicts(&loud, 16_000, 777);
    assert!(frames.iter().all(|&open| open));
}

#[test]
fn no_frame_waits_for_its_verdict() {
    for rate_hz in [4_000, 8_000, 11_025, 16_000, 44_099, 48_000, 192_000] {
        for frame in 0..50 {
            let needed = SilenceGate::samples_needed(frame, (rate_hz, AVE_FPS));
            assert!(needed <= SpeechForm::AVE.samples_needed(frame, rate_hz));
            let mut gate = SilenceGate::new(rate_hz, AVE_FPS).unwrap();
            let mut frames = Vec::new();
            gate.push(&vec![0.0; usize::try_from(needed).unwrap()], &mut frames);
            assert_eq!(frames.len() as u64, frame + 1, "{rate_hz}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn chunks_change_nothing(
        rate_hz in prop::sample::select(vec![8_000, 11_025, 16_000, 22_050, 44_100, 48_000]),
        seconds in 0.0..3.0f32,
        level_db in -60.0..-10.0f32,
        n_chunk in 1..6_000usize,
    ) {
        let samples = sum(&speech(seconds, level_db, rate_hz), &hiss(seconds, -55.0, rate_hz));
        let whole = verdicts(&samples, rate_hz, samples.len().max(1));
        prop_assert_eq!(whole.len() as u64, n_frames(samples.len(), rate_hz));
        prop_assert_eq!(verdicts(&samples, rate_hz, n_chunk), whole);
    }
}

/// Speech in noise that comes and goes, with a hum at a level between those that open and close the gate.
fn conversation(rate_hz: u32) -> Vec<f32> {
    let mut samples = Vec::new();
    for (seconds, speech_db, noise_db) in [
        (2.3, -26.0, -70.0),
        (3.1, -120.0, -52.5),
        (1.7, -35.0, -55.0),
        (4.4, -120.0, -45.0),
        (2.0, -30.0, -45.0),
        (3.0, -120.0, -80.0),
    ] {
        let speech = speech(seconds, speech_db, rate_hz);
        samples.extend(sum(&speech, &hiss(seconds, noise_db, rate_hz)));
    }
    samples
}

#[test]
fn a_gate_that_resumes_anywhere_says_what_one_that_heard_everything_says() {
    for rate_hz in [8_000, 16_000, 22_050, 44_099] {
        let samples = conversation(rate_hz);
        let mut gate = SilenceGate::new(rate_hz, AVE_FPS).unwrap();
        let mut whole = Vec::new();
        gate.push(&samples, &mut whole);
        gate.finish(n_frames(samples.len(), rate_hz), &mut whole);
        assert!(whole.iter().any(|v| v.speaks) && whole.iter().any(|v| !v.speaks));
        for frame in (1..whole.len()).step_by(7) {
            let wanted = (frame as u64).saturating_sub(CONTEXT_S * u64::from(FPS));
            let cut = wanted - wanted % (RESUME_ALIGNMENT_S * u64::from(FPS));
            let relative = frame as u64 - cut;
            let mut gate = if cut == 0 {
                SilenceGate::from_frame((rate_hz, AVE_FPS), relative).unwrap()
            } else {
                SilenceGate::resumed((rate_hz, AVE_FPS), relative, whole[frame - 1].mark).unwrap()
            };
            let start = usize::try_from(frame_sample(cut, (rate_hz, AVE_FPS))).unwrap();
            let mut verdicts = Vec::new();
            gate.push(&samples[start..], &mut verdicts);
            let n_frames = n_frames(samples.len() - start, rate_hz);
            gate.finish(n_frames, &mut verdicts);
            assert_eq!(verdicts, whole[frame..], "{rate_hz} Hz from frame {frame}");
        }
    }
}
