//! Moving a 1x1 convolution below the upsampling that it reads through a concatenation.

use super::{Conv, Graph, Node, Op, ValueId};

/// A 1x1 convolution of `concat(resize(z), s)`: indices of nodes.
struct Candidate {
    conv: usize,
    concat: usize,
    resize: usize,
    /// Which part of the concatenation is the resized one.
    part: usize,
}

/// Rewrites `conv(concat(resize(z), s))` as `conv_s(s) + resize(conv_z(z))`.
///
/// Both are linear and one mixes channels only, the other pixels only, so they commute: the products
/// with the channels of `z` are computed at a quarter of the pixels. Applies where nothing else reads
/// the concatenation and the resized value, and where resizing enlarges.
pub fn convolve_before_upsampling(graph: &mut Graph) {
    convolve_before_upsampling_but(graph, &[]);
}

/// The same, but not for convolutions with these results.
pub fn convolve_before_upsampling_but(graph: &mut Graph, results: &[ValueId]) {
    let may_move = |graph: &Graph, conv: &usize| !results.contains(&graph.nodes[*conv].output);
    while let Some(found) = (0..graph.nodes.len())
        .filter(|conv| may_move(graph, conv))
        .find_map(|conv| candidate(graph, conv))
    {
        rewrite(graph, &found);
    }
}

fn candidate(graph: &Graph, conv: usize) -> Option<Candidate> {
    let node = &graph.nodes[conv];
    let fits = matches!(&node.op, Op::Conv(conv) if conv.is_pointwise());
    let ([joined], true) = (&node.inputs[..], fits) else {
        return None;
    };
    let use_counts = graph.use_counts();
    let sole_writer = |value: ValueId| {
        let writes = |node: &Node| node.output == value;
        (use_counts[value] == 1).then(|| graph.nodes.iter().position(writes))?
    };
    let concat = sole_writer(*joined)?;
    let parts = &graph.nodes[concat].inputs;
    if !matches!(graph.nodes[concat].op, Op::Concat) || parts.len() != 2 {
        return None;
    }
    let enlarges = |&resize: &usize| {
        let node = &graph.nodes[resize];
        let (from, to) = (graph.shapes[node.inputs[0]], graph.shapes[node.output]);
        matches!(node.op, Op::ResizeBilinear) && from.h * from.w < to.h * to.w
    };
    let resized = |part: usize| sole_writer(parts[part]).filter(enlarges);
    let (part, resize) = match (resized(0), resized(1)) {
        (Some(resize), None) => (0, resize),
        (None, Some(resize)) => (1, resize),
        _ => return None,
    };
    Some(Candidate {
        conv,
        concat,
        resize,
        part,
    })
}

fn rewrite(graph: &mut Graph, found: &Candidate) {
    let parts = graph.nodes[found.concat].inputs.clone();
    let z = graph.nodes[found.resize].inputs[0];
    let s = parts[1 - found.part];
    let widths = [0, 1].map(|part| graph.shapes[parts[part]].c);
    let Op::Conv(whole) = graph.nodes[found.conv].op.clone() else {
        return;
    };
    let of_z = Conv {
        weights: columns(&whole, widths, found.part),
        bias: vec![0.0; whole.bias.len()],
        relu: false,
        ..whole.clone()
    };
    let of_s = Conv {
        weights: columns(&whole, widths, 1 - found.part),
        ..whole
    };
    let out = graph.shapes[graph.nodes[found.conv].output];
    let mut low = graph.shapes[z];
    low.c = out.c;
    let (product, resized) = (graph.add_value(low), graph.add_value(out));
    let name = graph.nodes[found.conv].name.clone();
    let node = |op, inputs, output| Node {
        op,
        inputs,
        output,
        name: name.clone(),
    };
    let output = graph.nodes[found.conv].output;
    let rewritten = [
        node(Op::Conv(of_z), vec![z], product),
        node(Op::ResizeBilinear, vec![product], resized),
        node(Op::Conv(of_s), vec![s, resized], output),
    ];
    graph.nodes.splice(found.conv..=found.conv, rewritten);
    // Both stand before the convolution, so their places are as they were.
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        index - 1 != found.concat && index - 1 != found.resize
    });
}

/// The weights of one part's channels, `[c_out][c of the part]`.
fn columns(conv: &Conv, widths: [usize; 2], part: usize) -> Vec<f32> {
    let start = if part == 0 { 0 } else { widths[0] };
    let rows = conv.weights.chunks_exact(widths[0] + widths[1]);
    rows.flat_map(|row| &row[start..start + widths[part]])
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::{Shape, op::Window, simplify::simplify},
        import::import,
        oracle::network_writer::variants::write_variant,
        reference,
    };
    use lipsync_core::SplitMix64;

    #[test]
    fn a_network_computes_the_same_with_less() {
        let onnx = write_variant("small-opset13").unwrap();
        let mut graph = import(&onnx).unwrap().graph;
        simplify(&mut graph);
        let mut random = SplitMix64::new(4);
        let inputs: Vec<Vec<f32>> = graph
            .inputs
            .iter()
            .map(|&id| random.floats(graph.shapes[id].len(), 0.0, 1.0))
            .collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let expected = reference::run(&graph, &inputs);
        let macs = graph.macs();
        convolve_before_upsampling(&mut graph);
        assert!(graph.macs() < macs);
        // Only the concatenation with the audio is left.
        let is_concat = |node: &&Node| matches!(node.op, Op::Concat);
        assert_eq!(graph.nodes.iter().filter(is_concat).count(), 1);
        let actual = reference::run(&graph, &inputs);
        for (a, e) in actual[0].iter().zip(&expected[0]) {
            assert!((a - e).abs() < 1e-5, "{a}, expected {e}");
        }
    }

    /// `conv(concat(s, resize(z)))`, the parts in the less usual order.
    fn graph() -> Graph {
        let mut graph = Graph::default();
        let small = Shape { c: 2, h: 2, w: 3 };
        let large = Shape { c: 2, h: 4, w: 6 };
        let z = graph.add_value(small);
        let s = graph.add_value(Shape { c: 1, ..large });
        let up = graph.add_value(large);
        let joined = graph.add_value(Shape { c: 3, ..large });
        let out = graph.add_value(large);
        let conv = Conv {
            weights: vec![1.0, -2.0, 3.0, 0.5, 0.25, -0.125],
            bias: vec![0.5, -0.5],
            window: Window::POINT,
            groups: 1,
            relu: true,
        };
        for (op, inputs, output) in [
            (Op::ResizeBilinear, vec![z], up),
            (Op::Concat, vec![s, up], joined),
            (Op::Conv(conv), vec![joined], out),
        ] {
            let name = String::new();
            graph.nodes.push(Node {
                op,
                inputs,
                output,
                name,
            });
        }
        (graph.inputs, graph.outputs) = (vec![z, s], vec![out]);
        graph
    }

    #[test]
    fn parts_may_come_in_either_order() {
        let mut graph = graph();
        let mut random = SplitMix64::new(5);
        let (z, s) = (random.floats(12, -1.0, 1.0), random.floats(24, -1.0, 1.0));
        let expected = reference::run(&graph, &[&z, &s]);
        convolve_before_upsampling(&mut graph);
        assert_eq!(graph.nodes.len(), 3);
        let actual = reference::run(&graph, &[&z, &s]);
        for (a, e) in actual[0].iter().zip(&expected[0]) {
            assert!((a - e).abs() < 1e-6, "{a}, expected {e}");
        }
    }

    #[test]
    fn what_is_excepted_stays() {
        let mut graph = graph();
        let out = graph.outputs[0];
        convolve_before_upsampling_but(&mut graph, &[out]);
        assert!(matches!(graph.nodes[1].op, Op::Concat));
    }

    #[test]
    fn what_has_other_readers_stays() {
        for kept in [2, 3] {
            let mut graph = graph();
            graph.outputs.push(kept);
            convolve_before_upsampling(&mut graph);
            assert!(matches!(graph.nodes[1].op, Op::Concat), "value {kept}");
        }
    }
}
