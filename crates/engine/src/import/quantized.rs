//! Numbers in 8 bits, read back as the real numbers that they stand for.
//!
//! Weights become `(w - zero point) * scale`. A value computed per frame is not rounded: quantizing and its
//! reverse copy it. But quantizing also limits, and exporters drop a `ReLU` before an unsigned type because of
//! that. So where the least number that a type holds stands for 0, what copies is a `ReLU`.

use std::rc::Rc;

use super::{
    Importer, layers,
    node::{Answer, FeatureMap, NodeView, Value, axis, malformed, unsupported},
};
use crate::{
    contract::is_visual,
    graph::{Activation, Graph, Op, Pool, PoolKind, ValueId, op::Window},
    onnx::{Tensor, TensorData},
};

/// Values of the graph whose writers are looked at to see whether a value can be negative.
const MAX_LOOKED_AT: usize = 64;

/// Lowers an operator that reads or writes 8-bit numbers; `None` for all others.
pub(super) fn lower(
    importer: &mut Importer,
    node: &NodeView<'_>,
    name: &str,
) -> Answer<Option<Value>> {
    let map = match node.proto.op_type.as_str() {
        "QuantizeLinear" => quantize(importer, node, name)?,
        "DequantizeLinear" => dequantize(importer, node)?,
        "DynamicQuantizeLinear" => dynamic(importer, node)?,
        "QLinearConv" => {
            let parts = layers::ConvParts {
                weights: real(node, 3)?,
                bias: bias(node, 8, (1, 4))?,
            };
            let map = layers::conv_of(importer, node, name, parts)?;
            limited(importer, node, map, (6, 7), name)?
        }
        "ConvInteger" => {
            let parts = layers::ConvParts {
                weights: shifted(node, 1, 3)?,
                bias: None,
            };
            layers::conv_of(importer, node, name, parts)?
        }
        "QLinearAdd" => {
            let (a, b) = (node.map(0)?, node.map(3)?);
            if a.dims != b.dims {
                return unsupported(format!("of {:?} and {:?}", a.dims, b.dims));
            }
            let (ids, dims) = (vec![a.id, b.id], a.dims.clone());
            let map = importer.push(name, Op::Add, ids, dims)?;
            limited(importer, node, map, (6, 7), name)?
        }
        "QLinearSigmoid" => activation(importer, node, Activation::Sigmoid, name)?,
        "QLinearLeakyRelu" => {
            let slope = node.float("alpha", 0.01);
            activation(importer, node, Activation::LeakyRelu { slope }, name)?
        }
        "QLinearConcat" => concat(importer, node, name)?,
        "QLinearGlobalAveragePool" => average(importer, node, name)?,
        _ => return Ok(None),
    };
    Ok(Some(Value::Map(map)))
}

/// Scale and zero point, one of each, at inputs `scale` and `zero`.
fn scale_of(node: &NodeView<'_>, (scale, zero): (usize, usize)) -> Answer<(f32, i64)> {
    let Some(&[scale]) = node.constant_floats(scale)? else {
        return unsupported("a scale that is not one number");
    };
    match node.constant(zero)?.map(|zero| zero.ints()) {
        None => Ok((scale, 0)),
        Some(Some(&[zero])) => Ok((scale, zero)),
        _ => unsupported("a zero point that is not one integer"),
    }
}

fn quantize(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let map = node.map(0)?.clone();
    let scale = scale_of(node, (1, 2))?;
    if let Some(output) = node.proto.output.first() {
        importer.quantized.insert(output.clone(), scale);
    }
    limited(importer, node, map, (1, 2), name)
}

fn dequantize(importer: &Importer, node: &NodeView<'_>) -> Answer<FeatureMap> {
    let scale = scale_of(node, (1, 2))?;
    let input = node.proto.input.first();
    let known = input.and_then(|input| importer.quantized.get(input));
    if known.is_some_and(|known| *known != scale) {
        return unsupported("it reads numbers with another scale than they were written with");
    }
    node.map(0).cloned()
}

/// The value stays as it is, so its scale is 1 and its zero point 0.
fn dynamic(importer: &mut Importer, node: &NodeView<'_>) -> Answer<FeatureMap> {
    let map = node.map(0)?.clone();
    let constants = [
        Tensor::new(vec![], TensorData::F32(vec![1.0])),
        Tensor::new(vec![], TensorData::I64(vec![0])),
    ];
    for (output, constant) in node.proto.output.iter().skip(1).zip(constants) {
        if let Some(constant) = constant.filter(|_| !output.is_empty()) {
            let value = Value::Constant(Rc::new(constant));
            if importer.values.insert(output.clone(), value).is_some() {
                return malformed("an output whose name is taken");
            }
        }
    }
    Ok(map)
}

/// A value, limited as its 8-bit type limits it.
fn limited(
    importer: &mut Importer,
    node: &NodeView<'_>,
    map: FeatureMap,
    (scale, zero): (usize, usize),
    name: &str,
) -> Answer<FeatureMap> {
    let (_, zero_point) = scale_of(node, (scale, zero))?;
    let zero_name = node.proto.input.get(zero);
    // Without a zero point the type is u8.
    let is_unsigned =
        zero_name.is_none_or(|name| name.is_empty() || importer.unsigned.contains(name));
    let is_relu = zero_point == -128 || (is_unsigned && zero_point == 0);
    let graph = &importer.answer.graph;
    if !is_relu || is_non_negative(graph, map.id, &mut MAX_LOOKED_AT.clone()) {
        return Ok(map);
    }
    let op = Op::Activation(Activation::Relu);
    importer.push(name, op, vec![map.id], map.dims)
}

/// Whether a value is known not to be negative; `room` is how many more values may be looked at.
fn is_non_negative(graph: &Graph, value: ValueId, room: &mut usize) -> bool {
    let Some(left) = room.checked_sub(1) else {
        return false;
    };
    *room = left;
    if graph.inputs.contains(&value) {
        return is_visual(graph.shapes[value]);
    }
    let Some(node) = graph.nodes.iter().rev().find(|node| node.output == value) else {
        return false;
    };
    match &node.op {
        Op::Activation(Activation::Relu | Activation::Sigmoid) => true,
        Op::Conv(conv) => conv.relu,
        Op::Concat | Op::ResizeBilinear | Op::Pool(_) | Op::Reshape | Op::Add => node
            .inputs
            .iter()
            .all(|&input| is_non_negative(graph, input, room)),
        _ => false,
    }
}

fn activation(
    importer: &mut Importer,
    node: &NodeView<'_>,
    activation: Activation,
    name: &str,
) -> Answer<FeatureMap> {
    let map = node.map(0)?;
    let (id, dims) = (map.id, map.dims.clone());
    importer.push(name, Op::Activation(activation), vec![id], dims)
}

/// `Y_scale, Y_zero, (X, X_scale, X_zero)*`.
fn concat(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let parts = (2..node.inputs.len()).step_by(3);
    let parts: Vec<&FeatureMap> = parts.map(|i| node.map(i)).collect::<Answer<_>>()?;
    let Some(first) = parts.first() else {
        return malformed("it has no parts");
    };
    let mut dims = first.dims.clone();
    if axis(node.int("axis", 1), dims.len())? != 1 {
        return unsupported("an axis other than the channels");
    }
    dims[1] = 0;
    for part in &parts {
        let fits = part.dims.len() == dims.len() && part.dims[2..] == dims[2..];
        match dims[1].checked_add(part.dims[1]) {
            Some(c) if fits => dims[1] = c,
            _ => return malformed(format!("{:?} beside {:?}", part.dims, first.dims)),
        }
    }
    let ids = parts.iter().map(|part| part.id).collect();
    importer.push(name, Op::Concat, ids, dims)
}

fn average(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let (&[_, c, h, w], 0) = (input.dims.as_slice(), node.int("channels_last", 0)) else {
        return unsupported(format!("of a value {:?}, or channels last", input.dims));
    };
    let window = Window {
        kernel: [h, w],
        stride: [1, 1],
        pads: [0; 4],
    };
    let kind = PoolKind::Average { include_pad: false };
    let id = input.id;
    importer.push(
        name,
        Op::Pool(Pool { kind, window }),
        vec![id],
        vec![1, c, 1, 1],
    )
}

/// The real weights of 8-bit ones at input `i`, whose scale and zero point follow: one, or one a row.
fn real(node: &NodeView<'_>, i: usize) -> Answer<Tensor> {
    let Some(scales) = node.constant(i + 1)? else {
        return malformed("a scale is missing");
    };
    let shifted = shifted(node, i, i + 2)?;
    by_axis(&shifted, scales, 0, |w, scale| w * scale)
}

/// 8-bit weights at input `i` less their zero point at input `zero`.
#[expect(clippy::cast_precision_loss, reason = "numbers of 8 bits")]
fn shifted(node: &NodeView<'_>, i: usize, zero: usize) -> Answer<Tensor> {
    let Some((weights, ints)) = node.constant(i)?.and_then(|t| Some((t, t.ints()?))) else {
        return malformed(format!("input {i} does not hold integers"));
    };
    let floats = TensorData::F32(ints.iter().map(|&w| w as f32).collect());
    let Some(floats) = Tensor::new(weights.dims().to_vec(), floats) else {
        return malformed("its dimensions");
    };
    let Some(zero) = node.constant(zero)? else {
        return Ok(floats);
    };
    let Some(zeros) = zero.ints() else {
        return malformed("a zero point that is not an integer");
    };
    let zeros = TensorData::F32(zeros.iter().map(|&z| z as f32).collect());
    match Tensor::new(zero.dims().to_vec(), zeros) {
        Some(zeros) => by_axis(&floats, &zeros, 0, |w, zero| w - zero),
        None => malformed("the dimensions of its zero point"),
    }
}

/// Combines a tensor with one number, or with one number for each place on an axis.
pub(super) fn by_axis(
    tensor: &Tensor,
    numbers: &Tensor,
    axis: usize,
    combine: impl Fn(f32, f32) -> f32,
) -> Answer<Tensor> {
    let (Some(values), Some(numbers)) = (tensor.floats(), numbers.floats()) else {
        return malformed("numbers of another type");
    };
    let dims = tensor.dims();
    let n_places = dims.get(axis).copied().unwrap_or(1);
    if numbers.len() != 1 && numbers.len() != n_places {
        return malformed(format!("{} scales for {n_places} channels", numbers.len()));
    }
    let n_inner = dims.iter().skip(axis + 1).product::<usize>().max(1);
    let place = |i: usize| {
        if numbers.len() == 1 {
            0
        } else {
            i / n_inner % n_places
        }
    };
    let each = values.iter().enumerate();
    let combined = each
        .map(|(i, &value)| combine(value, numbers[place(i)]))
        .collect();
    match Tensor::new(dims.to_vec(), TensorData::F32(combined)) {
        Some(tensor) => Ok(tensor),
        None => malformed("its dimensions"),
    }
}

/// The real bias of integers at input `i`: their scale is the product of that of the values and that of the weights.
#[expect(clippy::cast_precision_loss, reason = "as ONNX Runtime computes it")]
fn bias(node: &NodeView<'_>, i: usize, scales: (usize, usize)) -> Answer<Option<Vec<f32>>> {
    let Some(bias) = node.constant(i)? else {
        return Ok(None);
    };
    let (Some(&[of_values]), Some(of_weights), Some(ints)) = (
        node.constant_floats(scales.0)?,
        node.constant_floats(scales.1)?,
        bias.ints(),
    ) else {
        return malformed("the scales of its bias");
    };
    if of_weights.len() != 1 && of_weights.len() != ints.len() {
        return malformed(format!(
            "{} scales for {} biases",
            of_weights.len(),
            ints.len()
        ));
    }
    let scale = |i: usize| of_values * of_weights[if of_weights.len() == 1 { 0 } else { i }];
    Ok(Some(
        ints.iter()
            .enumerate()
            .map(|(i, &b)| b as f32 * scale(i))
            .collect(),
    ))
}
