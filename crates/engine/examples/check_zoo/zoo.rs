//! Files by every route of export, with what each should give: an output, or a refusal.

use std::{fs, path::Path};

use lipsync_core::SplitMix64;
use lipsync_engine::{CpuIsa, Network, Workspace, inspect, onnx::external};
use serde_json::Value;

/// How a file fared.
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// The relative L2 distance, the refusal that was expected, or what is wrong.
    pub outcome: Result<String, String>,
}

/// Checks every file that `zoo.json` in a folder lists.
pub fn check(folder: &Path) -> Result<Vec<Finding>, String> {
    let list = fs::read(folder.join("zoo.json")).map_err(|e| format!("zoo.json: {e}"))?;
    let cases: Vec<Value> = serde_json::from_slice(&list).map_err(|e| format!("zoo.json: {e}"))?;
    let finding = |case: &Value| Finding {
        file: text(case, "file").to_owned(),
        outcome: check_one(folder, case),
    };
    Ok(cases.iter().map(finding).collect())
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

fn number(case: &Value, key: &str) -> f64 {
    case[key].as_f64().unwrap_or(f64::NAN)
}

/// Reads a file and those beside it that hold its weights.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut onnx = fs::read(path).map_err(|e| e.to_string())?;
    for name in external::data_files(&onnx).map_err(|e| e.to_string())? {
        let data = fs::read(path.with_file_name(&name)).map_err(|e| format!("{name}: {e}"))?;
        external::attach(&mut onnx, &name, data);
    }
    Ok(onnx)
}

fn check_one(folder: &Path, case: &Value) -> Result<String, String> {
    let onnx = read(&folder.join(text(case, "file")))?;
    let refused = text(case, "refused");
    if !refused.is_empty() {
        let said = match inspect(&onnx) {
            Ok(found) if found.serves_as.is_ok() => {
                return Err("it is served, but should be refused".into());
            }
            Ok(found) => found.to_string(),
            Err(error) => error.to_string(),
        };
        return if said.contains(refused) {
            Ok(format!("refused as expected ({refused})"))
        } else {
            Err(format!("refused without {refused:?}: {said}"))
        };
    }
    inspect(&onnx).map_err(|e| e.to_string())?.serves_as?;
    let output = run(&onnx, case)?;
    let distance = distance(&output, folder, case)?;
    let tolerance = number(case, "tolerance");
    if distance <= tolerance {
        Ok(format!("{distance:.1e}"))
    } else {
        Err(format!("relative L2 {distance:e}, at most {tolerance:e}"))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small whole numbers of our own list"
)]
fn run(onnx: &[u8], case: &Value) -> Result<Vec<f32>, String> {
    let network = Network::load(onnx, CpuIsa::Auto).map_err(|e| e.to_string())?;
    let mut random = SplitMix64::new(number(case, "seed") as u64);
    let low = number(case, "low") as f32;
    let shapes = network.input_shapes();
    let inputs: Vec<Vec<f32>> = shapes
        .iter()
        .map(|s| random.floats(s.len(), low, 1.0))
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs = network
        .run(&mut Workspace::new(), &inputs)
        .map_err(|e| e.to_string())?;
    if outputs.is_empty() {
        return Err("it has no output".into());
    }
    Ok(outputs.swap_remove(0))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small whole numbers of our own list"
)]
fn distance(output: &[f32], folder: &Path, case: &Value) -> Result<f64, String> {
    let n_floats = number(case, "n_floats") as usize;
    if output.len() != n_floats {
        return Err(format!("{} floats, not {n_floats}", output.len()));
    }
    let bytes = fs::read(folder.join(text(case, "expected"))).map_err(|e| e.to_string())?;
    let (expected, _) = bytes.as_chunks::<4>();
    let actual = output.iter().step_by(number(case, "step") as usize);
    let pairs = actual
        .zip(expected)
        .map(|(&a, &e)| (f64::from(a), f64::from(f32::from_le_bytes(e))));
    let (error, norm) = pairs.fold((0.0, 0.0), |(error, norm), (a, e)| {
        (error + (a - e).powi(2), norm + e * e)
    });
    Ok((error / norm).sqrt())
}
