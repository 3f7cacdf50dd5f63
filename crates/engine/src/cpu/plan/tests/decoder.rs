//! What networks of the Wav2Lip family have beside dense convolutions: transposed ones, and attention.

use super::*;
use crate::graph::{Activation, Reduction};

/// A graph of one input and the nodes that `add` gives it.
fn graph_of(shape: Shape, add: impl FnOnce(&mut Builder, ValueId) -> ValueId) -> Graph {
    let mut builder = Builder {
        graph: Graph::default(),
        random: SplitMix64::new(11),
    };
    let x = builder.graph.add_value(shape);
    builder.graph.inputs = vec![x];
    let y = add(&mut builder, x);
    builder.graph.outputs = vec![y];
    builder.graph
}

/// Runs a graph on every instruction set, on memory full of rubbish, and compares with the scalar executor.
fn check(graph: &Graph, about: &str) {
    let mut random = SplitMix64::new(5);
    let input = random.floats(graph.shapes[graph.inputs[0]].len(), -1.0, 1.0);
    let expected = reference::run(graph, &[&input]).swap_remove(0);
    let norm: f64 = expected.iter().map(|&e| f64::from(e).powi(2)).sum();
    for isa in Isa::available() {
        for (bound, result) in [
            (
                1e-5,
                same_result::<f32>(graph, (isa, Products::Stored), std::slice::from_ref(&input)),
            ),
            (
                0.02,
                same_result::<Bf16>(graph, (isa, Products::Stored), std::slice::from_ref(&input)),
            ),
        ] {
            assert_eq!(result.len(), expected.len());
            let pairs = result.iter().zip(&expected);
            let error: f64 = pairs.map(|(x, e)| f64::from(x - e).powi(2)).sum();
            let relative = (error / norm.max(1e-12)).sqrt();
            assert!(relative <= bound, "{about}, {}: {relative}", isa.name());
        }
    }
}

#[test]
fn transposed_convolutions_of_all_forms() {
    // Kernel, stride, pads, pixels beyond the last one; rows and columns.
    for (kernel, stride, pad, more) in [
        ([3, 3], [2, 2], 1, [1, 1]),
        ([3, 3], [2, 2], 1, [0, 0]),
        ([4, 4], [1, 1], 0, [0, 0]),
        ([3, 3], [1, 1], 0, [0, 0]),
        ([3, 3], [1, 1], 1, [0, 0]),
        ([4, 4], [2, 2], 1, [0, 0]),
        ([5, 3], [3, 2], 1, [1, 0]),
        ([2, 2], [2, 2], 0, [0, 0]),
    ] {
        for (h, w) in [(1, 1), (5, 3), (2, 7)] {
            for relu in [false, true] {
                let shape = Shape { c: 19, h, w };
                let size = |n: usize, i: usize| (n - 1) * stride[i] + kernel[i] + more[i] - 2 * pad;
                let out = Shape {
                    c: 21,
                    h: size(h, 0),
                    w: size(w, 1),
                };
                let graph = graph_of(shape, |builder, x| {
                    let op = Op::ConvTranspose(Conv {
                        weights: builder
                            .random
                            .floats(21 * 19 * kernel[0] * kernel[1], -0.1, 0.1),
                        bias: builder.random.floats(21, -0.1, 0.1),
                        window: Window {
                            kernel,
                            stride,
                            pads: [pad; 4],
                        },
                        groups: 1,
                        relu,
                    });
                    builder.node(op, vec![x], out)
                });
                check(
                    &graph,
                    &format!("{kernel:?} / {stride:?}, {pad} of {h}x{w}"),
                );
            }
        }
    }
}

#[test]
fn attention_weighs_pixels_by_their_channels() {
    let shape = Shape { c: 18, h: 6, w: 7 };
    let one = Shape { c: 1, ..shape };
    let graph = graph_of(shape, |builder, x| {
        let mean = builder.node(Op::Reduce(Reduction::Mean), vec![x], one);
        let max = builder.node(Op::Reduce(Reduction::Max), vec![x], one);
        let sum = builder.node(Op::Add, vec![mean, max], one);
        let gate = builder.node(Op::Activation(Activation::Sigmoid), vec![sum], one);
        let gated = builder.node(Op::Gate, vec![x, gate], shape);
        builder.node(Op::Add, vec![gated, x], shape)
    });
    check(&graph, "attention");
}

#[test]
fn dense_convolutions_of_large_maps_multiply_less() {
    let shape = Shape {
        c: 32,
        h: 13,
        w: 18,
    };
    let out = Shape { c: 48, ..shape };
    let graph = graph_of(shape, |builder, x| {
        let mut conv = |c_in: usize, c_out: usize| {
            Op::Conv(Conv {
                weights: builder.random.floats(9 * c_in * c_out, -0.1, 0.1),
                bias: builder.random.floats(c_out, -0.1, 0.1),
                window: Window {
                    kernel: [3; 2],
                    stride: [1; 2],
                    pads: [1; 4],
                },
                groups: 1,
                relu: true,
            })
        };
        let (first, second) = (conv(32, 48), conv(48, 48));
        let y = builder.node(first, vec![x], out);
        // The sum comes before the ReLU.
        builder.node(second, vec![y, y], out)
    });
    let isa = CpuIsa::Portable.resolve().unwrap();
    let report = Plan::<f32>::new(&graph, isa, None, Products::Stored).report();
    assert!(
        report.steps.iter().all(|step| step.kernel == "winograd"),
        "{report}"
    );
    assert_eq!(report.macs(), graph.macs());
    check(&graph, "winograd");
}

/// A convolution of one channel is a depthwise one, which writes whole tensors only.
#[test]
fn one_channel_beside_another() {
    let shape = Shape { c: 1, h: 5, w: 6 };
    let both = Shape { c: 2, ..shape };
    let graph = graph_of(shape, |builder, x| {
        let op = builder.depthwise(1, 1);
        let y = builder.node(op, vec![x], shape);
        let joined = builder.node(Op::Concat, vec![y, x], both);
        let op = builder.conv([2, 3], true);
        builder.node(op, vec![joined], Shape { c: 3, ..shape })
    });
    check(&graph, "one channel");
}
