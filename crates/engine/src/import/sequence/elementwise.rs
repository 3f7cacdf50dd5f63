//! Functions of single numbers and of rows of them.

use super::{Lowering, spread_strides};
use crate::{
    graph::sequence::{Binary, Operand, SequenceOp, Strided, Unary},
    import::{
        arithmetic::broadcast,
        node::{Answer, FeatureMap, NodeView, Value, axis, malformed, unsupported},
    },
    onnx::TensorData,
};

/// The value of a node, where it is one of these.
pub(super) fn lower(of: &mut Lowering, node: &NodeView<'_>) -> Answer<Option<FeatureMap>> {
    let op = node.proto.op_type.as_str();
    if let Some(unary) = unary(node)? {
        let (input, dims) = of.read(node, 0)?;
        return of
            .push(SequenceOp::Unary(unary), vec![input], dims)
            .map(Some);
    }
    let binary = match op {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        "Where" => return choose(of, node).map(Some),
        "Softmax" => {
            let (input, dims) = of.read(node, 0)?;
            let width = last_axis(node.int("axis", -1), &dims)?;
            return of
                .push(SequenceOp::Softmax { width }, vec![input], dims)
                .map(Some);
        }
        "ReduceMean" => return mean(of, node).map(Some),
        "LayerNormalization" => return normalise(of, node).map(Some),
        "InstanceNormalization" => return normalise_channels(of, node).map(Some),
        _ => return Ok(None),
    };
    if node.inputs.len() != 2 {
        return unsupported(format!("{} inputs", node.inputs.len()));
    }
    let (a, b) = (of.read(node, 0)?, of.read(node, 1)?);
    pair(of, binary, a, b).map(Some)
}

fn unary(node: &NodeView<'_>) -> Answer<Option<Unary>> {
    Ok(Some(match node.proto.op_type.as_str() {
        "Relu" => Unary::Relu,
        "Sigmoid" => Unary::Sigmoid,
        "Tanh" => Unary::Tanh,
        "Exp" => Unary::Exp,
        "Sqrt" => Unary::Sqrt,
        "Erf" => Unary::Erf,
        "Neg" => Unary::Neg,
        "Reciprocal" => Unary::Reciprocal,
        "Gelu" if node.string("approximate", "none") == "none" => Unary::Gelu,
        "Gelu" => return unsupported("an approximation"),
        _ => return Ok(None),
    }))
}

/// A function of two values that broadcast.
pub(super) fn pair(
    of: &mut Lowering,
    op: Binary,
    (a, a_dims): (Operand, Vec<usize>),
    (b, b_dims): (Operand, Vec<usize>),
) -> Answer<FeatureMap> {
    let dims = broadcast(&a_dims, &b_dims)?;
    let strides = spread_strides(&a_dims, &dims)
        .into_iter()
        .zip(spread_strides(&b_dims, &dims));
    let axes = dims.iter().zip(strides).map(|(&n, (a, b))| (n, [a, b]));
    let pairs = Strided::new([0, 0], axes.collect());
    of.push(SequenceOp::Binary { op, pairs }, vec![a, b], dims)
}

/// A choice that is the same everywhere, as a mask's is that hides nothing.
fn choose(of: &mut Lowering, node: &NodeView<'_>) -> Answer<FeatureMap> {
    let Some(condition) = node.constant(0)? else {
        return malformed("input 0 is missing");
    };
    let TensorData::I64(choices) = condition.data() else {
        return malformed("a condition that is not true or false");
    };
    let chosen = match choices.first() {
        Some(0) if choices.iter().all(|&c| c == 0) => 2,
        Some(_) if choices.iter().all(|&c| c != 0) => 1,
        _ => return unsupported("a choice that differs from place to place"),
    };
    let (_, other_dims) = of.read(node, 3 - chosen)?;
    match node.inputs.get(chosen) {
        Some(Some(Value::Map(map))) => {
            let dims = broadcast(&broadcast(&map.dims, &other_dims)?, condition.dims())?;
            if dims == map.dims {
                return Ok(map.clone());
            }
            unsupported("a choice that broadcasts")
        }
        _ => unsupported("a choice of a constant"),
    }
}

/// The length of the axis, which has to be the last one.
fn last_axis(given: i64, dims: &[usize]) -> Answer<usize> {
    let found = axis(given, dims.len())?;
    match dims.last() {
        Some(&width) if found + 1 == dims.len() && width > 0 => Ok(width),
        _ => unsupported(format!("along axis {given} of {dims:?}, not the last one")),
    }
}

fn mean(of: &mut Lowering, node: &NodeView<'_>) -> Answer<FeatureMap> {
    let (input, mut dims) = of.read(node, 0)?;
    let axes = node.ints_from("axes", 1)?.unwrap_or_default();
    let [given] = axes[..] else {
        return unsupported(format!("over the axes {axes:?}"));
    };
    let width = last_axis(given, &dims)?;
    dims.pop();
    if node.int("keepdims", 1) != 0 {
        dims.push(1);
    }
    of.push(SequenceOp::Mean { width }, vec![input], dims)
}

fn normalise(of: &mut Lowering, node: &NodeView<'_>) -> Answer<FeatureMap> {
    let (input, dims) = of.read(node, 0)?;
    let width = last_axis(node.int("axis", -1), &dims)?;
    let epsilon = node.float("epsilon", 1e-5);
    let op = SequenceOp::Normalise { width, epsilon };
    let normal = of.push(op, vec![input], dims)?;
    scale_and_shift(of, node, normal, None)
}

/// Over all places of each channel of `[1, c, ...]`.
fn normalise_channels(of: &mut Lowering, node: &NodeView<'_>) -> Answer<FeatureMap> {
    let (input, dims) = of.read(node, 0)?;
    let [1, _, places @ ..] = &dims[..] else {
        return unsupported(format!("of {dims:?}"));
    };
    let width = places.iter().product();
    if width == 0 {
        return malformed("it has no places");
    }
    let epsilon = node.float("epsilon", 1e-5);
    let n_places = places.len();
    let op = SequenceOp::Normalise { width, epsilon };
    let normal = of.push(op, vec![input], dims)?;
    scale_and_shift(of, node, normal, Some(n_places))
}

/// Multiplies with input 1 and adds input 2, where they are there. `n_places` axes follow that of their numbers.
fn scale_and_shift(
    of: &mut Lowering,
    node: &NodeView<'_>,
    mut map: FeatureMap,
    n_places: Option<usize>,
) -> Answer<FeatureMap> {
    for (i, op) in [(1, Binary::Mul), (2, Binary::Add)] {
        if matches!(node.inputs.get(i), Some(Some(_))) {
            let (operand, mut dims) = of.read(node, i)?;
            dims.extend(std::iter::repeat_n(1, n_places.unwrap_or(0)));
            let whole = (Operand::Value(map.id), map.dims);
            map = pair(of, op, whole, (operand, dims))?;
        }
    }
    Ok(map)
}
