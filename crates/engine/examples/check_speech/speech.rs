//! Encoders of speech as they are exported, with what ONNX Runtime answers.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use lipsync_core::SplitMix64;
use lipsync_engine::{CpuIsa, Workspace, load_audio_encoder};
use serde_json::Value;

/// How a file fared.
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// What was measured, or what is wrong.
    pub outcome: Result<Measured, String>,
}

/// An encoder's figures.
pub struct Measured {
    /// Relative L2 distance from ONNX Runtime.
    pub relative_l2: f64,
    /// The largest difference of two numbers.
    pub largest: f64,
    /// The shortest time of a patch, on this thread.
    pub patch_time: Duration,
}

/// The largest difference that is accepted. Sums of a network of 24 layers of a thousand channels differ by 1.4e-4.
pub const TOLERANCE: f64 = 1e-3;

/// Checks every file that `speech.json` in a folder lists.
pub fn check(folder: &Path) -> Result<Vec<Finding>, String> {
    let list = fs::read(folder.join("speech.json")).map_err(|e| format!("speech.json: {e}"))?;
    let cases: Vec<Value> =
        serde_json::from_slice(&list).map_err(|e| format!("speech.json: {e}"))?;
    let finding = |case: &Value| {
        let file = case["file"].as_str().unwrap_or_default().to_owned();
        let outcome = check_one(&folder.join(&file), case);
        Finding { file, outcome }
    };
    Ok(cases.iter().map(finding).collect())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers of our own list"
)]
fn check_one(path: &Path, case: &Value) -> Result<Measured, String> {
    let number = |key: &str| case[key].as_f64().unwrap_or(f64::NAN);
    let onnx = fs::read(path).map_err(|e| e.to_string())?;
    let encoder = load_audio_encoder(&onnx, CpuIsa::Auto).map_err(|e| e.to_string())?;
    let mut random = SplitMix64::new(number("seed") as u64);
    let (low, high) = (number("low") as f32, number("high") as f32);
    let patches = random.floats(number("n") as usize, low, high);
    let mut workspace = Workspace::new();
    let n_floats = encoder.step_form().patch.n_floats();
    let mut steps = Vec::new();
    let mut patch_time = Duration::MAX;
    for _ in 0..2 {
        steps.clear();
        for patch in patches.chunks_exact(n_floats) {
            let begun = Instant::now();
            let step = encoder.encode(&mut workspace, patch);
            patch_time = patch_time.min(begun.elapsed());
            steps.extend(step.map_err(|e| e.to_string())?);
        }
    }
    let whole = encoder.encode(&mut workspace, &patches);
    if whole.map_err(|e| e.to_string())? != steps {
        return Err("patches together give other numbers".into());
    }
    let expected: Vec<f64> = case["expected"]
        .as_array()
        .map(|list| list.iter().filter_map(Value::as_f64).collect())
        .unwrap_or_default();
    let actual = steps.iter().step_by(number("step") as usize);
    let actual: Vec<f64> = actual.map(|&x| f64::from(x)).collect();
    if actual.len() != expected.len() {
        return Err(format!("{} numbers, not {}", actual.len(), expected.len()));
    }
    let pairs = || actual.iter().zip(&expected);
    let error: f64 = pairs().map(|(a, e)| (a - e).powi(2)).sum();
    let norm: f64 = expected.iter().map(|e| e * e).sum();
    let largest = pairs().map(|(a, e)| (a - e).abs()).fold(0.0, f64::max);
    if largest > TOLERANCE {
        return Err(format!(
            "a number is {largest:e} off, at most {TOLERANCE:e}"
        ));
    }
    Ok(Measured {
        relative_l2: (error / norm).sqrt(),
        largest,
        patch_time,
    })
}
