//! Rewrites that make a graph smaller without changing what it computes.

use super::{Activation, Graph, Node, Op, ValueId, branches::merge_branches};

/// Merges the parallel branches of training, folds normalisations, residual sums and `ReLU`s into the convolutions before them, then drops what
/// no output needs.
pub fn simplify(graph: &mut Graph) {
    fold_affine(graph);
    merge_branches(graph);
    // What was merged would still count as a reader.
    drop_unused(graph);
    fuse_residual(graph);
    fuse_relu(graph);
    drop_unused(graph);
}

/// Which node writes each value.
pub(super) fn writers(graph: &Graph) -> Vec<Option<usize>> {
    let mut writers = vec![None; graph.shapes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        writers[node.output] = Some(index);
    }
    writers
}

/// The node that writes `value`, if the value is read once only.
pub(super) fn sole_writer(
    value: ValueId,
    writers: &[Option<usize>],
    use_counts: &[usize],
) -> Option<usize> {
    (use_counts[value] == 1).then_some(writers[value]).flatten()
}

pub(super) fn is_plain_conv(node: &Node) -> bool {
    matches!(&node.op, Op::Conv(conv) if !conv.relu) && node.inputs.len() == 1
}

/// Lets node `from` write what node `to` wrote, at the place of `to`; `to` is left without an effect.
pub(super) fn move_into(graph: &mut Graph, from: usize, to: usize) {
    let output = graph.nodes[to].output;
    let unused = graph.nodes[from].output;
    graph.nodes.swap(from, to);
    graph.nodes[to].output = output;
    // The husk now computes from values that may not exist yet at its place: take them away.
    let husk = &mut graph.nodes[from];
    husk.output = unused;
    husk.inputs.clear();
    husk.op = Op::Add;
}

/// `affine(conv(x))` becomes one convolution: `s (W x + b) + t = (s W) x + (s b + t)`.
fn fold_affine(graph: &mut Graph) {
    for index in 0..graph.nodes.len() {
        let Op::Affine { scale, shift } = &graph.nodes[index].op else {
            continue;
        };
        let (scale, shift) = (scale.clone(), shift.clone());
        let input = graph.nodes[index].inputs[0];
        let Some(before) = sole_writer(input, &writers(graph), &graph.use_counts()) else {
            continue;
        };
        let is_transposed =
            matches!(&graph.nodes[before].op, Op::ConvTranspose(conv) if !conv.relu);
        if !is_plain_conv(&graph.nodes[before]) && !is_transposed {
            continue;
        }
        if let Op::Conv(conv) | Op::ConvTranspose(conv) = &mut graph.nodes[before].op {
            let per_channel = conv.weights.len() / scale.len();
            for (weights, s) in conv.weights.chunks_exact_mut(per_channel).zip(&scale) {
                weights.iter_mut().for_each(|w| *w *= s);
            }
            for ((b, s), t) in conv.bias.iter_mut().zip(&scale).zip(&shift) {
                *b = *b * s + t;
            }
        }
        move_into(graph, before, index);
    }
}

/// `conv(x) + y` becomes a convolution with a second input.
fn fuse_residual(graph: &mut Graph) {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        if !matches!(node.op, Op::Add) || node.inputs.len() != 2 || node.inputs[0] == node.inputs[1]
        {
            continue;
        }
        let (writers, use_counts) = (writers(graph), graph.use_counts());
        let [a, b] = [node.inputs[0], node.inputs[1]];
        let candidate = |value| {
            sole_writer(value, &writers, &use_counts).filter(|&w| is_plain_conv(&graph.nodes[w]))
        };
        // Of two convolutions the later one is the branch; the earlier one the shortcut.
        let (before, other) = match (candidate(a), candidate(b)) {
            (Some(wa), Some(wb)) if wa < wb => (wb, a),
            (Some(wa), _) => (wa, b),
            (None, Some(wb)) => (wb, a),
            (None, None) => continue,
        };
        graph.nodes[before].inputs.push(other);
        move_into(graph, before, index);
    }
}

/// `relu(conv(x))` becomes one convolution.
fn fuse_relu(graph: &mut Graph) {
    for index in 0..graph.nodes.len() {
        if !matches!(graph.nodes[index].op, Op::Activation(Activation::Relu)) {
            continue;
        }
        let input = graph.nodes[index].inputs[0];
        let Some(before) = sole_writer(input, &writers(graph), &graph.use_counts()) else {
            continue;
        };
        if let Op::Conv(conv) | Op::ConvTranspose(conv) = &mut graph.nodes[before].op {
            conv.relu = true;
            move_into(graph, before, index);
        }
    }
}

/// Drops nodes that no output depends on. Their values stay as unused ids.
fn drop_unused(graph: &mut Graph) {
    let mut needed = vec![false; graph.shapes.len()];
    graph.outputs.iter().for_each(|&v| needed[v] = true);
    for node in graph.nodes.iter().rev() {
        if needed[node.output] {
            node.inputs.iter().for_each(|&v| needed[v] = true);
        }
    }
    graph.nodes.retain(|node| needed[node.output]);
}
