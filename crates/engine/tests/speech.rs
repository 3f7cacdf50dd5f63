//! Encoders of speech, made by `tools/speech-goldens`: each gives the numbers that ONNX Runtime gives.

#[path = "../examples/check_speech/speech.rs"]
mod speech;

use std::{fs, path::Path};

use lipsync_core::family::StepForm;
use lipsync_engine::{CpuIsa, EngineError, Workspace, inspect, load_audio_encoder};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/speech")
}

fn wenet() -> Vec<u8> {
    fs::read(folder().join("wenet-small-torch-default.onnx")).expect("a file of the repository")
}

#[test]
fn encoders_give_the_numbers_of_onnx_runtime() {
    let findings = speech::check(&folder()).expect("the list of files");
    assert!(findings.len() >= 2, "only {} files", findings.len());
    for finding in findings {
        let found = finding.outcome.unwrap_or_else(|wrong| {
            panic!("{}: {wrong}", finding.file);
        });
        assert!(
            found.relative_l2 <= 1e-5,
            "{}: {:e}",
            finding.file,
            found.relative_l2
        );
        // These networks are small: their sums are short.
        assert!(found.largest <= speech::TOLERANCE / 10.0 && !found.patch_time.is_zero());
    }
}

#[test]
fn an_encoder_says_what_it_is() {
    let onnx = wenet();
    let text = inspect(&onnx).unwrap().to_string();
    assert!(
        text.ends_with("serves as a wenet audio encoder of 8192 floats a step\n"),
        "{text}"
    );
    let encoder = load_audio_encoder(&onnx, CpuIsa::Auto).unwrap();
    assert_eq!(encoder.step_form(), StepForm::WENET);
    let refused = encoder.encode(&mut Workspace::new(), &[0.0; 100]);
    assert!(matches!(refused, Err(EngineError::Input { .. })));
}

#[test]
fn numbers_that_are_not_finite_are_an_error() {
    let encoder = load_audio_encoder(&wenet(), CpuIsa::Auto).unwrap();
    let mut patch = vec![10.0; 67 * 80];
    patch[4_000] = f32::NAN;
    let refused = encoder.encode(&mut Workspace::new(), &patch).err();
    let text = refused.map(|e| e.to_string()).unwrap_or_default();
    assert!(text.contains("not finite"), "{text}");
}

/// The file with one of its texts replaced by another of the same length.
fn with(from: &str, to: &str) -> Vec<u8> {
    let mut onnx = wenet();
    assert_eq!(from.len(), to.len());
    let mut n_found = 0;
    for at in 0..onnx.len() - from.len() {
        if onnx[at..].starts_with(from.as_bytes()) {
            onnx[at..at + to.len()].copy_from_slice(to.as_bytes());
            n_found += 1;
        }
    }
    assert!(n_found > 0, "{from}");
    onnx
}

#[test]
fn what_cannot_be_run_is_named() {
    let refused = |onnx: &[u8]| {
        load_audio_encoder(onnx, CpuIsa::Auto)
            .err()
            .unwrap()
            .to_string()
    };
    let unknown = refused(&with("Sigmoid", "Sigmoib"));
    assert!(unknown.contains("operator Sigmoib"), "{unknown}");
    // The second output of the same number of dimensions.
    let torn = refused(&wenet()[..20_000]);
    assert!(torn.contains("not a usable ONNX model"), "{torn}");
}

#[test]
fn no_change_of_a_byte_does_harm() {
    let good = wenet();
    let mut random = lipsync_core::SplitMix64::new(3);
    for at in random.floats(150, 0.0, 1.0) {
        let mut onnx = good.clone();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in the file"
        )]
        let at = (at * (onnx.len() - 1) as f32) as usize;
        onnx[at] = onnx[at].wrapping_add(0x55);
        if let Ok(encoder) = load_audio_encoder(&onnx, CpuIsa::Auto) {
            let patch = vec![10.0; encoder.step_form().patch.n_floats()];
            let _ = encoder.encode(&mut Workspace::new(), &patch);
        }
    }
}
