//! What networks with spatial attention have: a number a pixel, made of its channels, that weighs them.

use super::{
    Importer,
    node::{Answer, FeatureMap, NodeView, axis, unsupported},
};
use crate::graph::{Op, Reduction};

/// `ReduceMean` and `ReduceMax` over the channels.
pub(super) fn reduce(
    importer: &mut Importer,
    node: &NodeView<'_>,
    name: &str,
) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let axes = node.ints_from("axes", 1)?.unwrap_or_default();
    let (&[_, c, h, w], &[over]) = (input.dims.as_slice(), axes.as_slice()) else {
        return unsupported(format!("over axes {axes:?} of a value {:?}", input.dims));
    };
    if axis(over, 4)? != 1 || node.int("keepdims", 1) == 0 {
        return unsupported("other than over the channels, which stay an axis");
    }
    if c == 1 {
        return Ok(input.clone());
    }
    let reduction = match node.proto.op_type.as_str() {
        "ReduceMean" => Reduction::Mean,
        _ => Reduction::Max,
    };
    let (id, dims) = (input.id, vec![1, 1, h, w]);
    importer.push(name, Op::Reduce(reduction), vec![id], dims)
}

/// The product of two values, one of which has a single channel.
pub(super) fn gate(
    importer: &mut Importer,
    (a, b): (&FeatureMap, &FeatureMap),
    name: &str,
) -> Answer<FeatureMap> {
    let is_gate_of = |gate: &[usize], map: &[usize]| match (gate, map) {
        (&[1, 1, gate_h, gate_w], &[1, _, h, w]) => (gate_h, gate_w) == (h, w),
        _ => false,
    };
    let (map, gate) = if is_gate_of(&b.dims, &a.dims) {
        (a, b)
    } else if is_gate_of(&a.dims, &b.dims) {
        (b, a)
    } else {
        return unsupported(format!("of two values {:?} and {:?}", a.dims, b.dims));
    };
    let (ids, dims) = (vec![map.id, gate.id], map.dims.clone());
    importer.push(name, Op::Gate, ids, dims)
}
