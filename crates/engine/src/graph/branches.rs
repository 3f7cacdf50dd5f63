//! Merging the parallel branches that some networks have while they are trained.
//!
//! `MobileOne` and `RepVGG` add the results of several convolutions of one value, some of them 1x1, and of the value
//! itself, each normalised. A sum of convolutions is a convolution: their kernels are added, the smaller ones in
//! the middle of the larger. That is what those projects do when they export for inference.

use super::{
    Conv, Graph, Op, ValueId,
    op::Window,
    simplify::{is_plain_conv, move_into, sole_writer, writers},
};

/// Replaces sums of convolutions of one value by one convolution.
pub fn merge_branches(graph: &mut Graph) {
    for index in 0..graph.nodes.len() {
        if let Some((conv, writer)) = merged(graph, index) {
            graph.nodes[writer].op = Op::Conv(conv);
            move_into(graph, writer, index);
        }
    }
}

/// A summand that is a convolution: which node, and its numbers.
struct Branch {
    writer: usize,
    input: ValueId,
    conv: Conv,
}

/// The convolution that the sum at `index` is, and a node that computes a part of it and nothing else.
fn merged(graph: &Graph, index: usize) -> Option<(Conv, usize)> {
    let sum = &graph.nodes[index];
    let (Op::Add, &[a, b]) = (&sum.op, &sum.inputs[..]) else {
        return None;
    };
    let (writers, use_counts) = (writers(graph), graph.use_counts());
    let writer = |value| sole_writer(value, &writers, &use_counts);
    let (a, b) = (writer(a)?, writer(b)?);
    let groups = [a, b]
        .into_iter()
        .find_map(|node| match &graph.nodes[node].op {
            Op::Conv(conv) => Some(conv.groups),
            _ => None,
        })?;
    let branch = |writer| branch(graph, writer, groups);
    let (a, b) = (branch(a)?, branch(b)?);
    if a.input != b.input || a.conv.groups != b.conv.groups {
        return None;
    }
    // The later one moves to the place of the sum; nothing reads either of them.
    let conv = sum_of(&a.conv, &b.conv)?;
    Some((conv, a.writer.max(b.writer)))
}

/// What a node computes, as a convolution in `groups` groups.
fn branch(graph: &Graph, writer: usize, groups: usize) -> Option<Branch> {
    let node = &graph.nodes[writer];
    let conv = match &node.op {
        Op::Conv(conv) if is_plain_conv(node) => conv.clone(),
        Op::Affine { scale, shift } => {
            let per_group = scale.len().checked_div(groups)?;
            let weight = |(c, s): (usize, f32)| {
                (0..per_group).map(move |i| if i == c % per_group { s } else { 0.0 })
            };
            Conv {
                weights: scale.iter().copied().enumerate().flat_map(weight).collect(),
                bias: shift.clone(),
                window: Window::POINT,
                groups,
                relu: false,
            }
        }
        _ => return None,
    };
    Some(Branch {
        writer,
        input: node.inputs[0],
        conv,
    })
}

/// The convolution whose result is the sum of both, where the window of one holds that of the other.
fn sum_of(a: &Conv, b: &Conv) -> Option<Conv> {
    let holds = |large: &Window, small: &Window| {
        let along = |axis: usize| {
            let offset = large.pads[axis].checked_sub(small.pads[axis])?;
            (offset + small.kernel[axis] <= large.kernel[axis]).then_some(offset)
        };
        Some([along(0)?, along(1)?])
    };
    let (large, small, [top, left]) = match holds(&a.window, &b.window) {
        Some(offset) => (a, b, offset),
        None => (b, a, holds(&b.window, &a.window)?),
    };
    if large.window.stride != small.window.stride || large.bias.len() != small.bias.len() {
        return None;
    }
    let mut sum = large.clone();
    let ([rows, columns], [small_rows, small_columns]) = (large.window.kernel, small.window.kernel);
    let kernels = sum.weights.chunks_exact_mut(rows * columns);
    for (kernel, addend) in kernels.zip(small.weights.chunks_exact(small_rows * small_columns)) {
        for (row, addends) in addend.chunks_exact(small_columns).enumerate() {
            let at = (top + row) * columns + left;
            let places = &mut kernel[at..at + small_columns];
            places.iter_mut().zip(addends).for_each(|(w, a)| *w += a);
        }
    }
    sum.bias
        .iter_mut()
        .zip(&small.bias)
        .for_each(|(b, a)| *b += a);
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::{Activation, Node, Shape, simplify::simplify},
        oracle::reference,
    };
    use lipsync_core::SplitMix64;

    /// One block of `RepVGG` as it is trained: 3x3, 1x1 and the value itself, each normalised, then a `ReLU`.
    fn block(groups: usize) -> Graph {
        let shape = Shape { c: 4, h: 5, w: 5 };
        let mut graph = Graph::default();
        let mut random = SplitMix64::new(3);
        let mut floats = |n| random.floats(n, -1.0, 1.0);
        let ids: Vec<ValueId> = (0..9).map(|_| graph.add_value(shape)).collect();
        graph.inputs = vec![ids[0]];
        graph.outputs = vec![ids[8]];
        let mut push = |op, inputs: &[ValueId], output| {
            graph.nodes.push(Node {
                op,
                inputs: inputs.to_vec(),
                output,
                name: String::new(),
            });
        };
        let mut affine = |push: &mut dyn FnMut(Op, &[ValueId], ValueId), from, to| {
            let (scale, shift) = (floats(4), floats(4));
            push(Op::Affine { scale, shift }, &[from], to);
        };
        let mut other = SplitMix64::new(4);
        for (kernel, pad, from, to) in [(3, 1, ids[0], ids[1]), (1, 0, ids[0], ids[2])] {
            let conv = Conv {
                weights: other.floats(4 * (4 / groups) * kernel * kernel, -1.0, 1.0),
                bias: vec![0.0; 4],
                window: Window {
                    kernel: [kernel; 2],
                    stride: [1; 2],
                    pads: [pad; 4],
                },
                groups,
                relu: false,
            };
            push(Op::Conv(conv), &[from], to);
        }
        affine(&mut push, ids[1], ids[3]);
        affine(&mut push, ids[2], ids[4]);
        affine(&mut push, ids[0], ids[5]);
        push(Op::Add, &[ids[5], ids[3]], ids[6]);
        push(Op::Add, &[ids[6], ids[4]], ids[7]);
        push(Op::Activation(Activation::Relu), &[ids[7]], ids[8]);
        graph
    }

    #[test]
    fn a_block_becomes_one_convolution_with_the_same_result() {
        for groups in [1, 2, 4] {
            let mut graph = block(groups);
            let x = SplitMix64::new(5).floats(100, -1.0, 1.0);
            let expected = reference::run(&graph, &[&x]);
            simplify(&mut graph);
            assert_eq!(graph.nodes.len(), 1, "{groups} groups: {:?}", graph.nodes);
            let actual = reference::run(&graph, &[&x]);
            for (a, e) in actual[0].iter().zip(&expected[0]) {
                assert!((a - e).abs() <= 1e-5, "{groups} groups: {a} {e}");
            }
        }
    }
}
