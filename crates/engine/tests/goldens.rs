//! Networks against ONNX Runtime, whose answers are in `tests/golden/engine/`.
//!
//! `tools/engine-goldens/` made them. Inputs and weights are seeded, so only answers are committed.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{fs, path::PathBuf};

use lipsync_core::SplitMix64;
use lipsync_engine::{
    CpuIsa, Network, Workspace,
    network_writer::variants::write_variant,
    onnx::proto::{ModelProto, ValueInfoProto},
    reference,
};
use prost::Message;
use serde_json::Value;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Appends what a final sigmoid reads to the outputs, as the tool does.
fn with_logits(onnx: &[u8]) -> Vec<u8> {
    let mut model = ModelProto::decode(onnx).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let output = &graph.output[0];
    let last = graph
        .node
        .iter()
        .find(|n| n.op_type == "Sigmoid" && n.output[0] == output.name);
    if let Some(sigmoid) = last {
        let logits = ValueInfoProto {
            name: sigmoid.input[0].clone(),
            ..output.clone()
        };
        graph.output.push(logits);
    }
    model.encode_to_vec()
}

fn read_floats(file: &str) -> Vec<f32> {
    let bytes = fs::read(repository().join("tests/golden/engine").join(file)).unwrap();
    let (floats, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    floats
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}

fn integer(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "limits of inputs are small whole numbers"
)]
fn float(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn check(case: &Value) {
    let (name, network) = (&case["name"], case["network"].as_str().unwrap());
    let onnx =
        write_variant(network).unwrap_or_else(|| fs::read(repository().join(network)).unwrap());
    let network = Network::load(&with_logits(&onnx), CpuIsa::Auto).unwrap();
    let mut random = SplitMix64::new(case["seed"].as_u64().unwrap());
    let (low, high) = (float(&case["low"]), float(&case["high"]));
    let inputs: Vec<Vec<f32>> = network
        .input_shapes()
        .iter()
        .map(|s| random.floats(s.len(), low, high))
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let outputs = network.run(&mut Workspace::new(), &inputs).unwrap();
    for (output, kind) in outputs.iter().zip(["output", "logits"]) {
        let file = &case["files"][kind];
        assert_eq!(output.len(), integer(&file["n_floats"]), "{name} {kind}");
        let thinned: Vec<f32> = output
            .iter()
            .step_by(integer(&case["step"]))
            .copied()
            .collect();
        let error = reference::relative_l2(&thinned, &read_floats(file["file"].as_str().unwrap()));
        assert!(error <= 1e-5, "{name} {kind}: relative L2 {error:e}");
    }
}

#[test]
fn outputs_and_logits_are_those_of_onnx_runtime() {
    let list = fs::read(repository().join("tests/golden/engine/goldens.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&list).unwrap();
    assert!(cases.len() >= 12, "only {} cases", cases.len());
    cases.iter().for_each(check);
}
