//! Nodes without weights: element by element, reshaping, resizing, pooling.

use super::{
    Importer, attention,
    constants::{permutation, spans},
    dims::{Span, reshaped, squeezed, unsqueezed},
    layers::{window, windowed_dims},
    node::{Answer, FeatureMap, NodeView, Value, axis, malformed, unsupported},
    shape_of,
};
use crate::{
    graph::{Activation, Op, Pool, PoolKind, op::Window},
    onnx::element_type,
};

pub(super) fn lower(
    importer: &mut Importer,
    node: &NodeView<'_>,
    name: &str,
) -> Answer<FeatureMap> {
    let op = node.proto.op_type.as_str();
    if let Some(dims) = reshaped_dims(importer, node, op)? {
        return reshape(importer, node.map(0)?, dims, name);
    }
    match op {
        "Identity" | "Dropout" | "CastLike" => node.map(0).cloned(),
        "Slice" => whole_slice(node),
        "Expand" => whole_expand(node),
        "Cast" if is_float_cast(node) => node.map(0).cloned(),
        "Relu" | "Sigmoid" | "LeakyRelu" | "PRelu" | "Clip" => activation(importer, node, name),
        "Add" | "Sub" | "Mul" | "Div" => elementwise(importer, node, name),
        "ReduceMean" | "ReduceMax" => attention::reduce(importer, node, name),
        "Concat" => concat(importer, node, name),
        "Resize" => resize(importer, node, name),
        "Pad" => pad(importer, node, name),
        "MaxPool" | "AveragePool" => pool(importer, node, name),
        "GlobalAveragePool" => global_average(importer, node, name),
        _ => unsupported("no kernel executes it"),
    }
}

/// New dimensions, where the operator only reinterprets its input.
fn reshaped_dims(importer: &Importer, node: &NodeView<'_>, op: &str) -> Answer<Option<Vec<usize>>> {
    let Some(Some(Value::Map(input))) = node.inputs.first() else {
        return Ok(None);
    };
    let dims = match op {
        "Reshape" => {
            let mut wanted = node.ints_from("shape", 1)?.unwrap_or_default();
            importer.let_batch_go(&mut wanted);
            reshaped(&input.dims, &wanted, node.int("allowzero", 0) != 0)?
        }
        "Flatten" => {
            if axis(node.int("axis", 1), input.dims.len())? != 1 {
                return unsupported("an axis other than 1");
            }
            vec![1, input.dims.iter().product()]
        }
        "Squeeze" => squeezed(&input.dims, node.ints_from("axes", 1)?.as_deref())?,
        "Unsqueeze" => unsqueezed(&input.dims, &node.ints_from("axes", 1)?.unwrap_or_default())?,
        "Transpose" => {
            let perm = permutation(node, input.dims.len())?;
            let moved: Vec<usize> = perm.into_iter().filter(|&p| input.dims[p] != 1).collect();
            if !moved.is_sorted() {
                return unsupported(format!("of a value {:?}: it would move data", input.dims));
            }
            permutation(node, input.dims.len())?
                .iter()
                .map(|&p| input.dims[p])
                .collect()
        }
        _ => return Ok(None),
    };
    Ok(Some(dims))
}

fn reshape(
    importer: &mut Importer,
    input: &FeatureMap,
    dims: Vec<usize>,
    name: &str,
) -> Answer<FeatureMap> {
    if shape_of(&dims)? == importer.answer.graph.shapes[input.id] {
        return Ok(FeatureMap { id: input.id, dims });
    }
    importer.push(name, Op::Reshape, vec![input.id], dims)
}

/// Whether all that a cast does is to change how floats are stored.
fn is_float_cast(node: &NodeView<'_>) -> bool {
    i32::try_from(node.int("to", 0)).is_ok_and(element_type::is_float)
}

/// An `Expand` that repeats nothing.
fn whole_expand(node: &NodeView<'_>) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let wanted = node.ints_from("shape", 1)?.unwrap_or_default();
    let own = input.dims.iter().rev();
    let repeats =
        |(&wanted, &own): (&i64, &usize)| wanted != 1 && usize::try_from(wanted) != Ok(own);
    if wanted.len() > input.dims.len() || wanted.iter().rev().zip(own).any(repeats) {
        return unsupported(format!(
            "of a value {:?} to {wanted:?}: it would repeat data",
            input.dims
        ));
    }
    Ok(input.clone())
}

fn whole_slice(node: &NodeView<'_>) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let spans = spans(node, &input.dims)?;
    if spans
        .iter()
        .zip(&input.dims)
        .all(|(&s, &d)| s == Span::whole(d))
    {
        Ok(input.clone())
    } else {
        unsupported(format!(
            "of a value {:?}: it would cut a part out",
            input.dims
        ))
    }
}

fn activation(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let limit = |i: usize, default: f32| -> Answer<f32> {
        Ok(node
            .constant_floats(i)?
            .and_then(|v| v.first().copied())
            .unwrap_or(default))
    };
    let activation = match node.proto.op_type.as_str() {
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "LeakyRelu" => Activation::LeakyRelu {
            slope: node.float("alpha", 0.01),
        },
        "PRelu" => Activation::LeakyRelu {
            slope: one_slope(node)?,
        },
        _ => Activation::Clip {
            min: limit(1, f32::MIN)?,
            max: limit(2, f32::MAX)?,
        },
    };
    importer.push(
        name,
        Op::Activation(activation),
        vec![input.id],
        input.dims.clone(),
    )
}

/// The slope of a `PRelu` that has one for all channels, as `torch.nn.PReLU()` makes it.
fn one_slope(node: &NodeView<'_>) -> Answer<f32> {
    match node.constant_floats(1)? {
        Some(&[first, ref rest @ ..])
            if rest.iter().all(|slope| slope.to_bits() == first.to_bits()) =>
        {
            Ok(first)
        }
        Some(slopes) if !slopes.is_empty() => unsupported("a slope for each channel"),
        _ => malformed("input 1 is missing"),
    }
}

/// A constant with one value per channel, or one for all.
fn per_channel(constant: &crate::onnx::Tensor, dims: &[usize]) -> Answer<Vec<f32>> {
    let Some(values) = constant.floats() else {
        return malformed("a constant that is not float");
    };
    let c = dims[1];
    let n_missing = dims.len().checked_sub(constant.dims().len());
    let fits = n_missing.is_some_and(|missing| {
        constant
            .dims()
            .iter()
            .enumerate()
            .all(|(i, &d)| d == 1 || (i + missing == 1 && d == c))
    });
    match values {
        _ if !fits => unsupported(format!("a constant {:?} with {dims:?}", constant.dims())),
        &[value] => Ok(vec![value; c]),
        _ => Ok(values.to_vec()),
    }
}

fn elementwise(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let op = node.proto.op_type.as_str();
    let (map, constant, map_is_first) = match node.inputs.as_slice() {
        [Some(Value::Map(a)), Some(Value::Map(b))] => {
            if op == "Mul" {
                return attention::gate(importer, (a, b), name);
            }
            if op != "Add" || a.dims != b.dims {
                return unsupported(format!("of two values {:?} and {:?}", a.dims, b.dims));
            }
            return importer.push(name, Op::Add, vec![a.id, b.id], a.dims.clone());
        }
        [Some(Value::Map(map)), Some(Value::Constant(constant))] => (map, constant, true),
        [Some(Value::Constant(constant)), Some(Value::Map(map))] => (map, constant, false),
        _ => return malformed("it does not have two inputs"),
    };
    importer.take_weights(map.dims[1].checked_mul(2))?;
    let values = per_channel(constant, &map.dims)?;
    let (ones, zeros) = (vec![1.0; values.len()], vec![0.0; values.len()]);
    let each = |f: fn(f32) -> f32| values.iter().map(|&v| f(v)).collect();
    let (scale, shift) = match (op, map_is_first) {
        ("Add", _) => (ones, values),
        ("Sub", true) => (ones, each(|v| -v)),
        ("Sub", false) => (vec![-1.0; values.len()], values),
        ("Mul", _) => (values, zeros),
        ("Div", true) if !values.contains(&0.0) => (each(|v| 1.0 / v), zeros),
        _ => return unsupported("a division by a value"),
    };
    importer.push(
        name,
        Op::Affine { scale, shift },
        vec![map.id],
        map.dims.clone(),
    )
}

fn concat(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let first = node.map(0)?;
    if axis(node.int("axis", 1), first.dims.len())? != 1 {
        return unsupported("an axis other than the channels");
    }
    let mut dims = first.dims.clone();
    let mut ids = Vec::with_capacity(node.inputs.len());
    dims[1] = 0;
    for i in 0..node.inputs.len() {
        let part = node.map(i)?;
        let fits = part.dims.len() == dims.len() && part.dims[2..] == dims[2..];
        match dims[1].checked_add(part.dims[1]) {
            Some(c) if fits => dims[1] = c,
            _ => return malformed(format!("{:?} beside {:?}", part.dims, first.dims)),
        }
        ids.push(part.id);
    }
    if ids.len() == 1 {
        return Ok(first.clone());
    }
    importer.push(name, Op::Concat, ids, dims)
}

fn resize(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let dims = resized_dims(node, &input.dims)?;
    if dims == input.dims {
        return Ok(input.clone());
    }
    let mode = node.string("mode", "nearest");
    let coordinates = node.string("coordinate_transformation_mode", "half_pixel");
    let plain = node.int("antialias", 0) == 0
        && node.int("exclude_outside", 0) == 0
        && !node.has("axes")
        && node.string("keep_aspect_ratio_policy", "stretch") == "stretch";
    if mode != "linear" || coordinates != "align_corners" || !plain {
        return unsupported(format!(
            "mode {mode} with {coordinates}; linear align_corners is"
        ));
    }
    if input.dims.len() != 4 || dims[..2] != input.dims[..2] {
        return unsupported(format!("from {:?} to {dims:?}", input.dims));
    }
    importer.push(name, Op::ResizeBilinear, vec![input.id], dims)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the operator's own arithmetic; sizes that are absurd saturate and are refused later"
)]
fn resized_dims(node: &NodeView<'_>, dims: &[usize]) -> Answer<Vec<usize>> {
    let sizes = node.constant(3)?.and_then(|t| t.ints()).unwrap_or_default();
    let scales = node.constant_floats(2)?.unwrap_or_default();
    let resized: Option<Vec<usize>> = if sizes.is_empty() {
        Some(
            dims.iter()
                .zip(scales)
                .map(|(&d, &s)| (d as f32 * s).floor() as usize)
                .collect(),
        )
    } else {
        sizes.iter().map(|&s| s.try_into().ok()).collect()
    };
    match resized {
        Some(resized) if resized.len() == dims.len() && !resized.contains(&0) => Ok(resized),
        _ => malformed(format!(
            "sizes {sizes:?} and scales {scales:?} for {dims:?}"
        )),
    }
}

fn pad(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let pads = node.ints_from("pads", 1)?.unwrap_or_default();
    if pads.iter().all(|&p| p == 0) {
        return Ok(input.clone());
    }
    let mode = node.string("mode", "constant");
    let (&[0, 0, top, left, 0, 0, bottom, right], &[_, c, h, w]) =
        (pads.as_slice(), input.dims.as_slice())
    else {
        return unsupported(format!("pads {pads:?} of a value {:?}", input.dims));
    };
    if mode != "constant" || node.constant(3)?.is_some() {
        return unsupported(format!("mode {mode}, or a choice of axes"));
    }
    let sizes = [top, left, bottom, right].map(|p| usize::try_from(p).ok());
    let [Some(top), Some(left), Some(bottom), Some(right)] = sizes else {
        return unsupported(format!("negative pads {pads:?}"));
    };
    let grown = |size: usize, a: usize, b: usize| size.checked_add(a)?.checked_add(b);
    let (Some(h), Some(w)) = (grown(h, top, bottom), grown(w, left, right)) else {
        return malformed(format!("pads {pads:?}"));
    };
    let value = node
        .constant_floats(2)?
        .and_then(|v| v.first().copied())
        .unwrap_or(0.0);
    let op = Op::Pad {
        pads: [top, left, bottom, right],
        value,
    };
    importer.push(name, op, vec![input.id], vec![1, c, h, w])
}

fn pool(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    if input.dims.len() != 4 || node.int("ceil_mode", 0) != 0 {
        return unsupported("other than two-dimensional, rounded down");
    }
    let kernel: Option<Vec<usize>> = node
        .ints("kernel_shape")
        .and_then(|k| k.iter().map(|&k| k.try_into().ok()).collect());
    let Some(&[kernel_h, kernel_w]) = kernel.as_deref() else {
        return malformed("its kernel_shape");
    };
    let window = window(node, [kernel_h, kernel_w], &input.dims)?;
    let [top, left, bottom, right] = window.pads;
    if top.max(bottom) >= kernel_h || left.max(right) >= kernel_w {
        return malformed("a border as wide as the window");
    }
    let kind = if node.proto.op_type == "MaxPool" {
        PoolKind::Max
    } else {
        PoolKind::Average {
            include_pad: node.int("count_include_pad", 0) != 0,
        }
    };
    let dims = windowed_dims(&window, input.dims[1], &input.dims)?;
    importer.push(name, Op::Pool(Pool { kind, window }), vec![input.id], dims)
}

fn global_average(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let &[_, c, h, w] = input.dims.as_slice() else {
        return unsupported(format!("of a value {:?}", input.dims));
    };
    let window = Window {
        kernel: [h, w],
        stride: [1, 1],
        pads: [0; 4],
    };
    let kind = PoolKind::Average { include_pad: false };
    importer.push(
        name,
        Op::Pool(Pool { kind, window }),
        vec![input.id],
        vec![1, c, 1, 1],
    )
}
