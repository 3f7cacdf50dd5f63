//! The production executor gives what the scalar reference executor gives, on every instruction set.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use lipsync_core::SplitMix64;
use lipsync_engine::{
    CpuIsa, LoadOptions, Network, Precision, Workspace,
    graph::{Graph, simplify::simplify},
    import::import,
    network_writer::variants::write_variant,
    reference,
};

fn seeded_inputs(graph: &Graph, seed: u64) -> Vec<Vec<f32>> {
    let mut random = SplitMix64::new(seed);
    graph
        .inputs
        .iter()
        .map(|&id| random.floats(graph.shapes[id].len(), 0.0, 1.0))
        .collect()
}

fn borrowed(inputs: &[Vec<f32>]) -> Vec<&[f32]> {
    inputs.iter().map(Vec::as_slice).collect()
}

/// Instruction sets that this machine has.
fn isas() -> impl Iterator<Item = CpuIsa> {
    CpuIsa::EACH.into_iter().filter(|isa| isa.resolve().is_ok())
}

#[test]
fn all_forms_agree_with_the_reference_on_all_instruction_sets() {
    let mut workspace = Workspace::new();
    let opsets = (11..=17).map(|opset| format!("small-opset{opset}"));
    for name in opsets.chain(["small-328-plumbing".into(), "ave-encoder".into()]) {
        let onnx = write_variant(&name).unwrap();
        let unsimplified = import(&onnx).unwrap().graph;
        let inputs = seeded_inputs(&unsimplified, 3);
        let expected = reference::run(&unsimplified, &borrowed(&inputs));
        let mut graph = unsimplified.clone();
        simplify(&mut graph);
        let simplified = reference::run(&graph, &borrowed(&inputs));
        let error = reference::relative_l2(&simplified[0], &expected[0]);
        assert!(error < 1e-6, "{name}: simplified {error:e}");
        for isa in isas() {
            let network = Network::load(&onnx, isa).unwrap();
            let outputs = network.run(&mut workspace, &borrowed(&inputs)).unwrap();
            let error = reference::relative_l2(&outputs[0], &expected[0]);
            assert!(error < 2e-6, "{name} on {isa}: {error:e}");
        }
    }
}

fn in_bf16(isa: CpuIsa) -> LoadOptions {
    LoadOptions {
        precision: Precision::Bf16,
        ..isa.into()
    }
}

#[test]
fn bf16_is_near_f32_on_all_instruction_sets() {
    let mut workspace = Workspace::new();
    for name in ["small-opset14", "small-328-plumbing"] {
        let onnx = write_variant(name).unwrap();
        let inputs = seeded_inputs(&import(&onnx).unwrap().graph, 3);
        let mut run = |options: LoadOptions| {
            let network = Network::load(&onnx, options).unwrap();
            let outputs = network.run(&mut workspace, &borrowed(&inputs)).unwrap();
            (outputs, network.weights_bytes())
        };
        let (expected, f32_bytes) = run(CpuIsa::Auto.into());
        for isa in isas() {
            let (outputs, n_bytes) = run(in_bf16(isa));
            let error = reference::relative_l2(&outputs[0], &expected[0]);
            assert!((1e-4..2e-2).contains(&error), "{name} on {isa}: {error:e}");
            assert!(
                n_bytes * 10 < f32_bytes * 7,
                "{name} on {isa}: {n_bytes} bytes of weights, {f32_bytes} in f32"
            );
        }
    }
}

#[test]
fn a_frame_is_bit_equal_in_every_batch_and_workspace() {
    for options in [CpuIsa::Auto.into(), in_bf16(CpuIsa::Auto)] {
        check_bit_equality(&options);
    }
}

fn check_bit_equality(options: &LoadOptions) {
    let onnx = write_variant("small-opset14").unwrap();
    let network = Network::load(&onnx, options.clone()).unwrap();
    let graph = import(&onnx).unwrap().graph;
    let frames: Vec<_> = (0..3).map(|seed| seeded_inputs(&graph, seed)).collect();
    let batch: Vec<Vec<f32>> = (0..2)
        .map(|i| frames.iter().flat_map(|frame| frame[i].clone()).collect())
        .collect();
    let mut shared = Workspace::new();
    let together = network
        .run(&mut shared, &borrowed(&batch))
        .unwrap()
        .swap_remove(0);
    let apart: Vec<f32> = frames
        .iter()
        .flat_map(|frame| {
            network
                .run(&mut Workspace::new(), &borrowed(frame))
                .unwrap()
                .swap_remove(0)
        })
        .collect();
    assert!(
        together
            .iter()
            .map(|y| y.to_bits())
            .eq(apart.iter().map(|y| y.to_bits()))
    );
    // Another network in the same workspace leaves nothing behind that could show.
    let other = Network::load(&write_variant("small-opset13").unwrap(), options.clone()).unwrap();
    let other_inputs = seeded_inputs(
        &import(&write_variant("small-opset13").unwrap())
            .unwrap()
            .graph,
        9,
    );
    other.run(&mut shared, &borrowed(&other_inputs)).unwrap();
    assert_eq!(
        network.run(&mut shared, &borrowed(&batch)).unwrap()[0],
        together
    );
}
