//! Layers with weights: products and convolutions.

use std::rc::Rc;

use super::{Lowering, elementwise::pair, spread_strides};
use crate::{
    graph::sequence::{Binary, Convolution, Operand, Product, SequenceOp, Strided},
    import::{
        arithmetic::broadcast,
        node::{Answer, FeatureMap, NodeView, malformed, unsupported},
    },
    onnx::{Tensor, TensorData},
};

/// Most products of one node: heads times batches.
const MAX_PRODUCTS: usize = 4096;

/// The value of a node, where it is one of these.
pub(super) fn lower(of: &mut Lowering, node: &NodeView<'_>) -> Answer<Option<FeatureMap>> {
    match node.proto.op_type.as_str() {
        "MatMul" => {
            let (a, b) = (of.read(node, 0)?, of.read(node, 1)?);
            product(of, a, b).map(Some)
        }
        "Gemm" => gemm(of, node).map(Some),
        "Conv" => convolution(of, node).map(Some),
        _ => Ok(None),
    }
}

fn product(
    of: &mut Lowering,
    (a, a_dims): (Operand, Vec<usize>),
    (b, b_dims): (Operand, Vec<usize>),
) -> Answer<FeatureMap> {
    let ([a_outer @ .., rows, inner], [b_outer @ .., b_rows, columns]) = (&a_dims[..], &b_dims[..])
    else {
        return unsupported(format!("of {a_dims:?} and {b_dims:?}"));
    };
    if inner != b_rows {
        return malformed(format!("{a_dims:?} and {b_dims:?} do not fit"));
    }
    let (rows, inner, columns) = (*rows, *inner, *columns);
    let outer = broadcast(a_outer, b_outer)?;
    let mut dims = outer.clone();
    dims.extend([rows, columns]);
    let n: usize = outer.iter().product();
    of.take_macs(&[n, rows, inner, columns])?;
    // Where all share the second matrix, it is one product with more rows.
    if b_outer.iter().all(|&d| d == 1) && a_outer.iter().product::<usize>() == n {
        let op = Product {
            rows: n * rows,
            inner,
            columns,
            places: vec![[0, 0]],
        };
        return of.push(SequenceOp::Product(op), vec![a, b], dims);
    }
    if n > MAX_PRODUCTS {
        return unsupported(format!("{n} products, at most {MAX_PRODUCTS}"));
    }
    let strides = spread_strides(a_outer, &outer)
        .into_iter()
        .zip(spread_strides(b_outer, &outer));
    let axes = outer.iter().zip(strides);
    let axes = axes.map(|(&n, (a, b))| (n, [a * rows * inner, b * inner * columns]));
    let mut places = Vec::with_capacity(n);
    Strided::new([0, 0], axes.collect()).for_each_row(|[a, b], n, [step_a, step_b]| {
        places.extend((0..n).map(|i| [a + i * step_a, b + i * step_b]));
    });
    let op = Product {
        rows,
        inner,
        columns,
        places,
    };
    of.push(SequenceOp::Product(op), vec![a, b], dims)
}

fn gemm(of: &mut Lowering, node: &NodeView<'_>) -> Answer<FeatureMap> {
    let plain = |name| (node.float(name, 1.0) - 1.0).abs() < f32::EPSILON;
    if node.int("transA", 0) != 0 || !plain("alpha") || !plain("beta") {
        return unsupported("transA, alpha or beta");
    }
    let a = of.read(node, 0)?;
    let Some(weights) = node.constant(1)? else {
        return malformed("input 1 is missing");
    };
    let ([rows, columns], TensorData::F32(floats)) = (weights.dims(), weights.data()) else {
        return malformed("weights that are no matrix");
    };
    let weights = if node.int("transB", 0) == 0 {
        Rc::clone(weights)
    } else {
        let turned = (0..*columns).flat_map(|c| (0..*rows).map(move |r| floats[r * columns + c]));
        let turned = Tensor::new(vec![*columns, *rows], TensorData::F32(turned.collect()));
        match turned {
            Some(turned) => Rc::new(turned),
            None => return malformed("weights that are no matrix"),
        }
    };
    let dims = weights.dims().to_vec();
    let map = product(of, a, (Operand::Constant(weights), dims))?;
    if !matches!(node.inputs.get(2), Some(Some(_))) {
        return Ok(map);
    }
    let bias = of.read(node, 2)?;
    pair(of, Binary::Add, (Operand::Value(map.id), map.dims), bias)
}

/// Of one batch, along one axis or two.
fn convolution(of: &mut Lowering, node: &NodeView<'_>) -> Answer<FeatureMap> {
    let (input, dims) = of.read(node, 0)?;
    let (weights, kernel_dims) = of.read(node, 1)?;
    let (op, rank) = window(node, &dims, &kernel_dims)?;
    let taps = kernel_dims[1] * op.kernel[0] * op.kernel[1];
    of.take_macs(&[op.c_out, op.out[0], op.out[1], taps])?;
    let mut inputs = vec![input, weights];
    if matches!(node.inputs.get(2), Some(Some(_))) {
        inputs.push(of.read(node, 2)?.0);
    }
    let mut out_dims = vec![1, op.c_out];
    out_dims.extend_from_slice(&op.out[2 - rank..]);
    of.push(SequenceOp::Convolution(op), inputs, out_dims)
}

/// The numbers of a convolution, and how many axes it has.
fn window(
    node: &NodeView<'_>,
    dims: &[usize],
    kernel_dims: &[usize],
) -> Answer<(Convolution, usize)> {
    let rank = match (dims, kernel_dims) {
        ([1, _, _], [_, _, _]) => 1,
        ([1, _, _, _], [_, _, _, _]) => 2,
        _ => return unsupported(format!("of {dims:?} with {kernel_dims:?}")),
    };
    let auto_pad = node.string("auto_pad", "NOTSET");
    if !matches!(auto_pad.as_str(), "NOTSET" | "VALID") {
        return unsupported("auto_pad");
    }
    let numbers = |name: &str, n: usize, default: usize| -> Answer<Vec<usize>> {
        let given = node.ints(name).unwrap_or_default();
        let given: Option<Vec<usize>> = given.iter().map(|&i| i.try_into().ok()).collect();
        match given {
            Some(given) if given.is_empty() => Ok(vec![default; n]),
            Some(given) if given.len() == n => Ok(given),
            _ => malformed(format!("{name} of a convolution along {rank} axes")),
        }
    };
    let pads = numbers("pads", 2 * rank, 0)?;
    let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
    let (c_in, c_out) = (dims[1], kernel_dims[0]);
    let mut op = Convolution {
        c_in,
        c_out,
        groups,
        size: both(&dims[2..], 1),
        out: [0; 2],
        kernel: both(&kernel_dims[2..], 1),
        stride: both(&numbers("strides", rank, 1)?, 1),
        dilation: both(&numbers("dilations", rank, 1)?, 1),
        pads: both(&pads[..rank], 0),
    };
    let fits = groups > 0 && c_in.is_multiple_of(groups) && c_out.is_multiple_of(groups);
    if !fits || kernel_dims[1].checked_mul(groups) != Some(c_in) {
        return malformed(format!("{dims:?} with {kernel_dims:?} in {groups} groups"));
    }
    let ends = both(&pads[rank..], 0);
    for (axis, &end) in ends.iter().enumerate() {
        op.out[axis] = out_size(&op, axis, end)?;
    }
    Ok((op, rank))
}

/// Numbers of two axes; those of one are of the second.
fn both(numbers: &[usize], missing: usize) -> [usize; 2] {
    match *numbers {
        [columns] => [missing, columns],
        [rows, columns, ..] => [rows, columns],
        [] => [missing; 2],
    }
}

/// Places of a kernel along an axis, with `end` zeros behind it.
fn out_size(op: &Convolution, axis: usize, end: usize) -> Answer<usize> {
    let place = || {
        let padded = op.size[axis].checked_add(op.pads[axis])?.checked_add(end)?;
        let reach = op.kernel[axis]
            .checked_sub(1)?
            .checked_mul(op.dilation[axis])?;
        let room = padded.checked_sub(reach)?.checked_sub(1)?;
        room.checked_div(op.stride[axis])?.checked_add(1)
    };
    match place() {
        Some(n) => Ok(n),
        None => malformed("its kernel does not fit"),
    }
}
