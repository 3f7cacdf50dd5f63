//! Nodes that move numbers and compute nothing.

use super::{Lowering, spread_strides, strides};
use crate::{
    graph::sequence::{Operand, Part, SequenceOp, Strided},
    import::{
        arithmetic::broadcast,
        constants::{permutation, spans},
        dims::{reshaped, squeezed, unsqueezed},
        node::{Answer, FeatureMap, NodeView, Value, axis, malformed, unsupported},
    },
    onnx::tensor::MAX_RANK,
};

/// Most copies of one node: indices of a `Gather`.
const MAX_PARTS: usize = 4096;

/// The value of a node, where it is one of these.
pub(super) fn lower(of: &mut Lowering, node: &NodeView<'_>) -> Answer<Option<FeatureMap>> {
    let op = node.proto.op_type.as_str();
    if op == "Concat" {
        return concat(of, node).map(Some);
    }
    let is_known = |known: &[&str]| known.contains(&op);
    let reshapes = is_known(&["Reshape", "Flatten", "Unsqueeze", "Squeeze"]);
    if !reshapes && !is_known(&["Transpose", "Slice", "Expand", "Tile", "Gather", "Pad"]) {
        return Ok(None);
    }
    let (input, dims) = of.read(node, 0)?;
    if reshapes {
        let to = other_dims(node, &dims)?;
        return same(of, input, to).map(Some);
    }
    let map = match op {
        "Transpose" => {
            let perm = permutation(node, dims.len())?;
            let from = strides(&dims);
            let to: Vec<usize> = perm.iter().map(|&p| dims[p]).collect();
            let from: Vec<usize> = perm.iter().map(|&p| from[p]).collect();
            view(of, input, (0, from), to)
        }
        "Slice" => slice(of, node, input, &dims),
        "Expand" => {
            let wanted = sizes(node.ints_from("shape", 1)?)?;
            let to = broadcast(&dims, &wanted)?;
            view(of, input, (0, spread_strides(&dims, &to)), to)
        }
        "Tile" => tile(of, node, input, &dims),
        "Gather" => gather(of, node, input, &dims),
        _ => pad(of, node, input, &dims),
    };
    map.map(Some)
}

/// The dimensions that a node gives to the numbers of a tensor, whose order it keeps.
fn other_dims(node: &NodeView<'_>, dims: &[usize]) -> Answer<Vec<usize>> {
    match node.proto.op_type.as_str() {
        "Reshape" => {
            let wanted = node.ints_from("shape", 1)?.unwrap_or_default();
            reshaped(dims, &wanted, node.int("allowzero", 0) != 0)
        }
        "Flatten" => {
            // One after the last axis is allowed.
            let at = axis(node.int("axis", 1), dims.len() + 1)?;
            let (rows, columns) = dims.split_at(at);
            Ok(vec![rows.iter().product(), columns.iter().product()])
        }
        "Unsqueeze" => {
            let axes = node.ints_from("axes", 1)?.unwrap_or_default();
            unsqueezed(dims, &axes)
        }
        _ => squeezed(dims, node.ints_from("axes", 1)?.as_deref()),
    }
}

/// The same numbers in the same order.
fn same(of: &mut Lowering, input: Operand, to: Vec<usize>) -> Answer<FeatureMap> {
    match input {
        Operand::Value(id) => Ok(FeatureMap { id, dims: to }),
        // Constants are folded, unless they are too large.
        Operand::Constant(_) => {
            let n = to.iter().product();
            copy(of, input, Strided::new([0, 0], vec![(n, [1, 1])]), to)
        }
    }
}

fn sizes(given: Option<Vec<i64>>) -> Answer<Vec<usize>> {
    let given = given.unwrap_or_default();
    let sizes: Option<Vec<usize>> = given.iter().map(|&d| d.try_into().ok()).collect();
    match sizes {
        Some(sizes) if sizes.len() <= MAX_RANK => Ok(sizes),
        _ => malformed(format!("sizes {given:?}")),
    }
}

/// Another order of an input's numbers: the output has dimensions `to`, read from `offset` on with `from` strides.
fn view(
    of: &mut Lowering,
    input: Operand,
    (offset, from): (usize, Vec<usize>),
    to: Vec<usize>,
) -> Answer<FeatureMap> {
    let axes = to.iter().zip(from.into_iter().zip(strides(&to)));
    let axes = axes.map(|(&n, (from, to))| (n, [from, to])).collect();
    copy(of, input, Strided::new([offset, 0], axes), to)
}

fn copy(
    of: &mut Lowering,
    input: Operand,
    places: Strided<2>,
    to: Vec<usize>,
) -> Answer<FeatureMap> {
    let parts = vec![Part { input: 0, places }];
    let op = SequenceOp::Rearrange { parts, fill: 0.0 };
    of.push(op, vec![input], to)
}

fn slice(
    of: &mut Lowering,
    node: &NodeView<'_>,
    input: Operand,
    dims: &[usize],
) -> Answer<FeatureMap> {
    let (mut offset, mut from, mut to) = (0, strides(dims), Vec::new());
    for (stride, span) in from.iter_mut().zip(spans(node, dims)?) {
        let Ok(step) = usize::try_from(span.step) else {
            return unsupported("a slice that runs backwards");
        };
        if span.n == 0 {
            return unsupported("a slice of nothing");
        }
        offset += span.index(0) * *stride;
        *stride *= step;
        to.push(span.n);
    }
    view(of, input, (offset, from), to)
}

/// The parts of a node with several outputs.
pub(super) fn split(of: &mut Lowering, node: &NodeView<'_>) -> Answer<Vec<Value>> {
    let (input, dims) = of.read(node, 0)?;
    let a = axis(node.int("axis", 0), dims.len())?;
    let n_outputs = node.proto.output.len();
    let parts = match node.ints_from("split", 1)? {
        Some(given) => sizes(Some(given))?,
        None if n_outputs > 0 => {
            let size = dims[a].div_ceil(n_outputs);
            let part = |i: usize| size.min(dims[a].saturating_sub(i * size));
            (0..n_outputs).map(part).collect()
        }
        None => vec![],
    };
    if parts.len() != n_outputs || parts.iter().sum::<usize>() != dims[a] || parts.contains(&0) {
        return malformed(format!("parts {parts:?} of axis {a} of {dims:?}"));
    }
    let from = strides(&dims);
    let mut first = 0;
    let mut values = Vec::new();
    for n in parts {
        let mut to = dims.clone();
        to[a] = n;
        let map = view(of, input.clone(), (first * from[a], from.clone()), to)?;
        values.push(Value::Map(map));
        first += n;
    }
    Ok(values)
}

fn concat(of: &mut Lowering, node: &NodeView<'_>) -> Answer<FeatureMap> {
    let mut operands = Vec::new();
    for i in 0..node.inputs.len() {
        let (operand, dims) = of.read(node, i)?;
        operands.push((operand, dims));
    }
    let Some((_, first)) = operands.first() else {
        return malformed("nothing to join");
    };
    let mut to = first.clone();
    let a = axis(node.int("axis", 0), to.len())?;
    let fits = |dims: &Vec<usize>| {
        let mut same = dims.iter().zip(&to).enumerate();
        dims.len() == to.len() && same.all(|(i, (x, y))| i == a || x == y)
    };
    if !operands.iter().all(|(_, dims)| fits(dims)) {
        return malformed("parts of different shapes");
    }
    to[a] = operands.iter().map(|(_, dims)| dims[a]).sum();
    let to_strides = strides(&to);
    let (mut first, mut parts, mut inputs) = (0, Vec::new(), Vec::new());
    for (operand, dims) in operands {
        if dims.contains(&0) {
            continue;
        }
        let axes = dims.iter().zip(strides(&dims).into_iter().zip(&to_strides));
        let axes = axes.map(|(&n, (from, &to))| (n, [from, to])).collect();
        parts.push(Part {
            input: inputs.len(),
            places: Strided::new([0, first * to_strides[a]], axes),
        });
        first += dims[a];
        inputs.push(operand);
    }
    of.push(SequenceOp::Rearrange { parts, fill: 0.0 }, inputs, to)
}

fn tile(
    of: &mut Lowering,
    node: &NodeView<'_>,
    input: Operand,
    dims: &[usize],
) -> Answer<FeatureMap> {
    let repeats = sizes(node.ints_from("", 1)?)?;
    if repeats.len() != dims.len() {
        return malformed(format!("repeats {repeats:?} of {dims:?}"));
    }
    let (mut axes, mut to) = (Vec::new(), Vec::new());
    for (&n, &times) in dims.iter().zip(&repeats) {
        match n.checked_mul(times) {
            Some(n) => to.push(n),
            None => return malformed("a tile too large"),
        }
    }
    let own = strides(dims).into_iter().zip(strides(&to));
    for ((&n, &times), (from, to)) in dims.iter().zip(&repeats).zip(own) {
        axes.push((times, [0, n * to]));
        axes.push((n, [from, to]));
    }
    copy(of, input, Strided::new([0, 0], axes), to)
}

fn gather(
    of: &mut Lowering,
    node: &NodeView<'_>,
    input: Operand,
    dims: &[usize],
) -> Answer<FeatureMap> {
    let a = axis(node.int("axis", 0), dims.len())?;
    let indices = node.constant(1)?.and_then(|tensor| {
        let ints = tensor.ints()?;
        Some((tensor.dims().to_vec(), ints.to_vec()))
    });
    let Some((index_dims, indices)) = indices.filter(|(_, ints)| ints.len() <= MAX_PARTS) else {
        return unsupported("its indices");
    };
    let mut to = dims.to_vec();
    to.splice(a..=a, index_dims.iter().copied());
    let inner: usize = dims[a + 1..].iter().product();
    let outer: usize = dims[..a].iter().product();
    let mut parts = Vec::new();
    for (i, &index) in indices.iter().enumerate() {
        let index = axis(index, dims[a])?;
        let outer_axis = (outer, [dims[a] * inner, indices.len() * inner]);
        let places = Strided::new(
            [index * inner, i * inner],
            vec![outer_axis, (inner, [1, 1])],
        );
        parts.push(Part { input: 0, places });
    }
    let op = SequenceOp::Rearrange { parts, fill: 0.0 };
    of.push(op, vec![input], to)
}

fn pad(
    of: &mut Lowering,
    node: &NodeView<'_>,
    input: Operand,
    dims: &[usize],
) -> Answer<FeatureMap> {
    if node.string("mode", "constant") != "constant" {
        return unsupported("another mode than constant");
    }
    if matches!(node.inputs.get(3), Some(Some(_))) {
        return unsupported("axes of its own");
    }
    let pads = sizes(node.ints_from("pads", 1)?)?;
    if pads.len() != 2 * dims.len() {
        return malformed(format!("pads {pads:?} of {dims:?}"));
    }
    let fill = match node.constant_floats(2)? {
        Some([fill, ..]) => *fill,
        _ => node.float("value", 0.0),
    };
    let (before, after) = pads.split_at(dims.len());
    let ends = before.iter().zip(after);
    let to: Option<Vec<usize>> = dims
        .iter()
        .zip(ends)
        .map(|(n, (b, a))| n.checked_add(*b)?.checked_add(*a))
        .collect();
    let Some(to) = to else {
        return malformed("pads too large");
    };
    let to_strides = strides(&to);
    let offset = before.iter().zip(&to_strides).map(|(b, s)| b * s).sum();
    let axes = dims.iter().zip(strides(dims).into_iter().zip(&to_strides));
    let axes = axes.map(|(&n, (from, &to))| (n, [from, to])).collect();
    let parts = vec![Part {
        input: 0,
        places: Strided::new([0, offset], axes),
    }];
    of.push(SequenceOp::Rearrange { parts, fill }, vec![input], to)
}
