//! Every operator, in shapes that the family's full-size networks do not have, against the scalar
//! reference.

use lipsync_core::SplitMix64;
use lipsync_engine::{
    CpuIsa, Network, Workspace,
    import::import,
    network_writer::builder::{
        ConvSpec, NetworkBuilder, float_attribute, int_attribute, ints_attribute,
    },
    reference,
};
use proptest::prelude::*;

/// A network of one input `x` of `[1, c, h, w]` and one output `y`.
fn network([c, h, w]: [usize; 3], body: impl FnOnce(&mut NetworkBuilder)) -> Vec<u8> {
    let mut net = NetworkBuilder::new(13, false, 1);
    net.input("x", &[None, Some(c), Some(h), Some(w)]);
    net.output("y", &[]);
    body(&mut net);
    net.finish()
}

/// Runs a network with both executors, on every instruction set of this machine.
fn assert_agreement(onnx: &[u8]) {
    let graph = import(onnx).expect("a valid file").graph;
    let mut random = SplitMix64::new(2);
    let x = random.floats(graph.shapes[graph.inputs[0]].len(), -1.0, 1.0);
    let expected = reference::run(&graph, &[&x]).swap_remove(0);
    for isa in [CpuIsa::Avx512, CpuIsa::Avx2, CpuIsa::Neon, CpuIsa::Portable] {
        if isa.resolve().is_err() {
            continue;
        }
        let network = Network::load(onnx, isa).expect("a network of known operators");
        // Leftovers of other runs must not show.
        let mut workspace = Workspace::new();
        for run in 0..2 {
            let actual = network
                .run(&mut workspace, &[&x])
                .expect("a whole frame")
                .swap_remove(0);
            assert_eq!(actual.len(), expected.len());
            for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
                assert!(
                    (a - e).abs() <= 2e-5 * (1.0 + e.abs()),
                    "{isa} run {run} at {i}: {a}, {e}"
                );
            }
        }
    }
}

#[test]
fn pools() {
    let pool = |op: &str, include: i64| {
        network([3, 9, 7], |net| {
            let mut attributes = vec![
                ints_attribute("kernel_shape", &[3, 2]),
                ints_attribute("strides", &[2, 1]),
                ints_attribute("pads", &[1, 0, 2, 1]),
            ];
            if op == "AveragePool" {
                attributes.push(int_attribute("count_include_pad", include));
            }
            net.node_to(op, &["x"], attributes, "y");
        })
    };
    assert_agreement(&pool("MaxPool", 0));
    assert_agreement(&pool("AveragePool", 0));
    assert_agreement(&pool("AveragePool", 1));
}

#[test]
fn a_classifier_tail() {
    let onnx = network([5, 6, 4], |net| {
        let x = net.node("LeakyRelu", &["x"], vec![float_attribute("alpha", 0.2)]);
        let flat = net.node("Flatten", &[&x], vec![]);
        let weights = net.floats(&[7, 120], &SplitMix64::new(4).floats(840, -0.2, 0.2));
        let bias = net.floats(&[7], &[0.5; 7]);
        let inputs = [flat.as_str(), &weights, &bias];
        let z = net.node("Gemm", &inputs, vec![int_attribute("transB", 1)]);
        let weights = net.floats(&[7, 12], &SplitMix64::new(5).floats(84, -0.5, 0.5));
        let z = net.node("MatMul", &[&z, &weights], vec![]);
        let dims = net.ints(&[-1, 3, 2, 2]);
        let z = net.node("Reshape", &[&z, &dims], vec![]);
        let [low, high] = [-0.3, 0.4].map(|limit| net.floats(&[], &[limit]));
        net.node_to("Clip", &[&z, &low, &high], vec![], "y");
    });
    assert_agreement(&onnx);
}

#[test]
fn constants_by_channel_and_sums() {
    let onnx = network([3, 5, 5], |net| {
        let by_channel = net.floats(&[3, 1, 1], &[0.5, -1.0, 2.0]);
        let one = net.floats(&[], &[1.0]);
        let a = net.node("Mul", &["x", &by_channel], vec![]);
        let b = net.node("Sub", &[&one, &a], vec![]);
        let c = net.node("Div", &[&b, &by_channel], vec![]);
        let d = net.node("Add", &[&c, "x"], vec![]);
        let e = net.node("Add", &[&d, &d], vec![]);
        let pads = net.ints(&[0, 0, 1, 2, 0, 0, 0, 1]);
        let value = net.floats(&[], &[0.25]);
        let e = net.node("Pad", &[&e, &pads, &value], vec![]);
        let mean = net.node("GlobalAveragePool", &[&e], vec![]);
        net.node_to("Sigmoid", &[&mean], vec![], "y");
    });
    assert_agreement(&onnx);
}

/// Concatenations whose parts are read while other parts are written, or that hold a value twice.
#[test]
fn concatenations_that_cannot_all_be_placed() {
    let onnx = network([8, 6, 6], |net| {
        let a = net.conv("x", ConvSpec::point(8, 8));
        let b = net.conv(&a, ConvSpec::point(8, 4));
        let dense = net.concat(&[&a, &b]);
        let c = net.conv(&dense, ConvSpec::dense_3x3(12, 8, [1, 1], 1));
        let twice = net.concat(&[&c, &c, "x"]);
        let both = net.concat(&[&dense, &twice, &b]);
        let d = net.conv(&both, ConvSpec::point(40, 8));
        let sum = net.node("Add", &[&d, &a], vec![]);
        let sum = net.relu(&sum);
        let e = net.conv(&sum, ConvSpec::depthwise_3x3(8, 2));
        net.node_to("Relu", &[&e], vec![], "y");
    });
    assert_agreement(&onnx);
}

/// A value that is an output and read on, an input that is an output.
#[test]
fn outputs_inside_the_network() {
    let mut net = NetworkBuilder::new(13, true, 1);
    net.input("x", &[None, Some(2), Some(3), Some(3)]);
    let a = net.conv("x", ConvSpec::point(2, 4));
    let b = net.relu(&a);
    let both = net.concat(&[&a, &b]);
    for name in [both.as_str(), &a, "x"] {
        net.output(name, &[]);
    }
    let onnx = net.finish();
    let graph = import(&onnx).unwrap().graph;
    let x = SplitMix64::new(2).floats(18, -1.0, 1.0);
    let expected = reference::run(&graph, &[&x]);
    let network = Network::load(&onnx, CpuIsa::Portable).unwrap();
    let actual = network.run(&mut Workspace::new(), &[&x]).unwrap();
    assert_eq!(actual[2], x);
    for (a, e) in actual.iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - e).abs() <= 1e-5, "{a}, {e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn convolutions(
        (groups, c_in, c_out) in (1_usize..4, 1_usize..5, 1_usize..20),
        kernel in prop::array::uniform2(1_usize..5),
        stride in prop::array::uniform2(1_usize..4),
        pads in prop::array::uniform4(0_usize..4),
        size in prop::array::uniform2(4_usize..12),
    ) {
        let n_weights = groups * c_out * c_in * kernel[0] * kernel[1];
        let weights = SplitMix64::new(6).floats(n_weights, -0.5, 0.5);
        let int = |&v: &usize| i64::try_from(v).expect("small");
        let ints = |name, values: &[usize]| {
            ints_attribute(name, &values.iter().map(int).collect::<Vec<_>>())
        };
        let onnx = network([groups * c_in, size[0], size[1]], |net| {
            let dims = [groups * c_out, c_in, kernel[0], kernel[1]];
            let weights = net.floats(&dims, &weights);
            let attributes = vec![
                int_attribute("group", int(&groups)),
                ints("kernel_shape", &kernel),
                ints("strides", &stride),
                ints("pads", &pads),
            ];
            net.node_to("Conv", &["x", &weights], attributes, "y");
        });
        assert_agreement(&onnx);
    }

    #[test]
    fn fused_blocks(
        (c_in, wide, c_out) in (1_usize..20, 1_usize..40, 1_usize..20),
        (h, w) in (1_usize..24, 1_usize..24),
        stride in 1_usize..3,
        residual in any::<bool>(),
    ) {
        let residual = residual && stride == 1;
        let c_out = if residual { c_in } else { c_out };
        let onnx = network([c_in, h, w], |net| {
            let y = net.conv("x", ConvSpec::point(c_in, wide));
            let y = net.relu(&y);
            let y = net.conv(&y, ConvSpec::depthwise_3x3(wide, stride));
            let y = net.relu(&y);
            let y = net.conv(&y, ConvSpec::point(wide, c_out));
            let y = if residual { net.node("Add", &[&y, "x"], vec![]) } else { y };
            net.node_to("Relu", &[&y], vec![], "y");
        });
        assert_agreement(&onnx);
    }
}
