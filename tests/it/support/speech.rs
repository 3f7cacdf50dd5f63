//! Speech for the tests, and requests that carry it.

use std::f32::consts::TAU;

use anyhow::Result;
use bytes::Bytes;
use lipsync::{
    v1::{self, infer_batch_composite_request::Audio},
    wav::Wav,
};

use super::server::repository;

/// A 16 kHz s16 mono tone whose pitch and loudness wander; different for each seed.
pub fn babble(seed: u32, n_samples: usize) -> Vec<i16> {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let phase = |n: usize, hz: f32| TAU * hz * (n as f32) / 16_000.0;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let hz = 110.0 + 17.0 * (seed as f32);
    (0..n_samples)
        .map(|n| {
            let loud = 0.5 + 0.5 * phase(n, 3.1).sin();
            let voice = phase(n, hz).sin() + 0.5 * phase(n, 7.3 * hz).sin();
            #[expect(clippy::cast_possible_truncation, reason = "within the range of i16")]
            let sample = (9000.0 * loud * voice) as i16;
            sample
        })
        .collect()
}

/// Samples as bytes.
pub fn to_bytes(samples: &[i16]) -> Bytes {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

/// A WAV of `assets/speech`, 16 kHz mono.
pub fn sample_speech(name: &str) -> Result<Vec<i16>> {
    Ok(Wav::open(&repository().join("assets/speech").join(name))?.samples)
}

/// A request for all frames of some 16 kHz samples.
pub fn pcm_request(model: &str, samples: &[i16]) -> v1::InferBatchCompositeRequest {
    v1::InferBatchCompositeRequest {
        model_id: model.into(),
        audio: Some(Audio::Pcm(v1::Pcm {
            samples: to_bytes(samples),
            sample_rate_hz: 16_000,
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// A request of whole AVE windows, one a frame, each filled with one value.
pub fn windows_request(model: &str, values: &[f32]) -> v1::InferBatchCompositeRequest {
    let window = |value: &f32| value.to_le_bytes().repeat(32 * 16 * 16);
    v1::InferBatchCompositeRequest {
        model_id: model.into(),
        audio: Some(Audio::Windows(v1::FeatureWindows {
            data: values.iter().flat_map(window).collect(),
        })),
        ..Default::default()
    }
}
