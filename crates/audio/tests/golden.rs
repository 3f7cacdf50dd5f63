//! The mel spectrogram against librosa's, the filter banks against torchaudio's; `golden/README.md` says how the values were made.

use lipsync_audio::{
    AudioError, SampleEncoding, decode_pcm, fbank, features::decode_features, mel,
};

/// The signal of `make_goldens.py`.
fn test_signal(n_samples: u32) -> Vec<u8> {
    let (mut phase, mut increment, mut noise) = (0u32, 20_000_000u32, 1u32);
    let sample = |n: u32| {
        increment += 4_000;
        phase = phase.wrapping_add(increment);
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let saw = (phase >> 16) as i32 - 32_768;
        let hiss = (noise >> 16) as i32 - 32_768;
        let sample = match n / 2_000 % 4 {
            0 => saw >> 2,
            1 => (saw >> 3) + (hiss >> 4),
            2 => hiss >> 6,
            _ => 0,
        };
        i16::try_from(sample)
            .expect("at most 3/16 of full scale, or 1/4")
            .to_le_bytes()
    };
    (0..n_samples).flat_map(sample).collect()
}

fn largest_difference(n_samples: u32, golden: &[u8]) -> Result<f32, AudioError> {
    let samples = decode_pcm(&test_signal(n_samples), SampleEncoding::S16Le, 1)?;
    let expected = decode_features(golden, mel::N_MELS, "golden")?;
    let rows = mel::spectrogram(&samples);
    assert_eq!(rows.len(), expected.len());
    assert!(
        n_samples < 8_000 || expected.contains(&-4.0),
        "the longer signal falls silent"
    );
    assert!(rows.iter().all(|v| v.is_finite()));
    let differences = rows.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    Ok(differences.fold(0.0, f32::max))
}

#[test]
fn mel_rows_are_librosas() -> Result<(), AudioError> {
    for (n_samples, golden) in [
        (3_000, include_bytes!("golden/mel_3000.f32").as_slice()),
        (20_777, include_bytes!("golden/mel_20777.f32").as_slice()),
    ] {
        let difference = largest_difference(n_samples, golden)?;
        assert!(difference <= 1e-5, "{n_samples} samples: {difference}");
    }
    Ok(())
}

#[test]
fn filter_banks_are_torchaudios() -> Result<(), AudioError> {
    let samples = decode_pcm(&test_signal(20_777), SampleEncoding::S16Le, 1)?;
    let expected = decode_features(include_bytes!("golden/fbank_20777.f32"), 1, "golden")?;
    let rows = fbank::filter_banks(&samples);
    let kept: Vec<f32> = rows.iter().copied().step_by(13).collect();
    assert_eq!((rows.len(), kept.len()), (195 * 80, expected.len()));
    let differences = kept.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let difference = differences.fold(0.0, f32::max);
    // torchaudio computes its window and bands in f32.
    assert!(difference <= 1e-4, "{difference}");
    Ok(())
}
