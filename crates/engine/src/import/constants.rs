//! Nodes whose inputs are all known at load: the shape plumbing of exporters, run once and folded.

use std::rc::Rc;

use lipsync_core::saturate::i64_of;

use super::{
    arithmetic::{arithmetic, broadcast, choose, product, range, sign, spread},
    dims::{Span, reshaped, squeezed, unsqueezed},
    node::{Answer, NodeView, Refusal, Value, axis, malformed, unsupported},
    quantized::by_axis,
};
use crate::onnx::{
    Tensor, TensorData, element_type,
    tensor::{MAX_RANK, n_elements},
};

/// Computes a node without inputs per frame. `room` is how many elements folded constants may still
/// have; what is made here is taken off it.
pub(super) fn fold(node: &NodeView<'_>, room: &mut usize) -> Answer<Rc<Tensor>> {
    let op = node.proto.op_type.as_str();
    if op == "Constant" {
        return constant(node).map(Rc::new);
    }
    let Some(first) = node.constant(0)? else {
        return malformed("input 0 is missing");
    };
    if matches!(op, "Identity" | "Dropout") {
        return Ok(Rc::clone(first));
    }
    let copied = || fits(Some(first.data().len()), *room).map(|_| first);
    let folded = match op {
        "ConstantOfShape" => constant_of_shape(node, first, *room),
        "Shape" => Ok(shape(node, first.dims())),
        "Gather" => gather(node, first, *room),
        "Unsqueeze" => {
            let axes = node.ints_from("axes", 1)?.unwrap_or_default();
            with_dims(copied()?, unsqueezed(first.dims(), &axes)?)
        }
        "Squeeze" => {
            let axes = node.ints_from("axes", 1)?;
            with_dims(copied()?, squeezed(first.dims(), axes.as_deref())?)
        }
        "Reshape" => {
            let wanted = node.ints_from("shape", 1)?.unwrap_or_default();
            let allow_zero = node.int("allowzero", 0) != 0;
            with_dims(copied()?, reshaped(first.dims(), &wanted, allow_zero)?)
        }
        "Slice" => slice(first, &spans(node, first.dims())?, *room),
        "Transpose" => transpose(node, first, *room),
        "Concat" => concat(node, *room),
        "Cast" => cast(copied()?, i32::try_from(node.int("to", 0)).unwrap_or(0)),
        "CastLike" => match node.constant(1)?.map(|like| like.data()) {
            Some(TensorData::F32(_)) => cast(copied()?, element_type::FLOAT),
            Some(TensorData::I64(_)) => cast(copied()?, element_type::INT64),
            None => malformed("input 1 is missing"),
        },
        "Expand" => expand(node, first, *room),
        "DequantizeLinear" => dequantize(node, copied()?),
        "Floor" => floats(copied()?, f32::floor),
        "Ceil" => floats(copied()?, f32::ceil),
        "Sqrt" => floats(copied()?, f32::sqrt),
        "Add" | "Sub" | "Mul" | "Div" | "Equal" | "Less" | "Greater" | "LessOrEqual"
        | "GreaterOrEqual" | "Min" | "Max" | "Mod" => arithmetic(node, first, *room),
        "Where" => choose(node, first, *room),
        "Neg" | "Abs" | "Not" => sign(op, copied()?),
        "Range" => range(node, *room),
        "Size" => checked(vec![], int(first.data().len())),
        "ReduceProd" => product(node, first),
        _ => unsupported("it is not known for constants"),
    }?;
    *room = room.saturating_sub(folded.data().len());
    Ok(Rc::new(folded))
}

/// The number of elements of a constant, where there is room for it.
pub(super) fn fits(n: Option<usize>, room: usize) -> Answer<usize> {
    match n {
        Some(n) if n <= room => Ok(n),
        _ => unsupported("folded constants out of proportion to the file"),
    }
}

/// The answer of `Shape` for a tensor of dimensions `dims`.
pub(super) fn shape(node: &NodeView<'_>, dims: &[usize]) -> Tensor {
    let all: Vec<i64> = dims.iter().copied().map(i64_of).collect();
    let rank = i64_of(dims.len());
    let place = |i: i64| {
        let i = if i < 0 { i.saturating_add(rank) } else { i };
        usize::try_from(i.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (place(node.int("start", 0)), place(node.int("end", rank)));
    Tensor::from_ints(all.get(start..end).unwrap_or_default().to_vec())
}

/// The spans of a `Slice`, one per axis of `dims`.
pub(super) fn spans(node: &NodeView<'_>, dims: &[usize]) -> Answer<Vec<Span>> {
    let (Some(starts), Some(ends)) = (node.ints_from("starts", 1)?, node.ints_from("ends", 2)?)
    else {
        return malformed("starts or ends are missing");
    };
    let axes = node.ints_from("axes", 3)?;
    let steps = node.ints_from("", 4)?;
    let mut spans: Vec<Span> = dims.iter().map(|&d| Span::whole(d)).collect();
    for (i, (&start, &end)) in starts.iter().zip(&ends).enumerate() {
        let a = match &axes {
            None => i64_of(i),
            Some(axes) => axes.get(i).copied().unwrap_or(i64::MAX),
        };
        let a = axis(a, dims.len())?;
        let step = steps.as_ref().map_or(1, |s| s.get(i).copied().unwrap_or(0));
        spans[a] = Span::resolve(start, end, step, dims[a])?;
    }
    Ok(spans)
}

pub(super) fn checked(dims: Vec<usize>, data: TensorData) -> Answer<Tensor> {
    let tensor = Tensor::new(dims, data);
    tensor.ok_or_else(|| Refusal::Malformed("its result contradicts its dimensions".into()))
}

fn with_dims(source: &Tensor, dims: Vec<usize>) -> Answer<Tensor> {
    checked(dims, source.data().clone())
}

/// A tensor of dimensions `dims` whose element at an index is the source's at `from(index)`.
pub(super) fn rearranged(
    source: &Tensor,
    dims: Vec<usize>,
    room: usize,
    from: impl Fn(&[usize]) -> usize,
) -> Answer<Tensor> {
    if dims.len() > MAX_RANK {
        return malformed(format!("{} dimensions", dims.len()));
    }
    let n = fits(n_elements(&dims), room)?;
    let mut order = Vec::with_capacity(n);
    let mut index = vec![0; dims.len()];
    for _ in 0..n {
        order.push(from(&index));
        for (i, &d) in index.iter_mut().zip(&dims).rev() {
            *i += 1;
            if *i < d {
                break;
            }
            *i = 0;
        }
    }
    fn pick<T: Copy>(elements: &[T], order: &[usize]) -> Option<Vec<T>> {
        order.iter().map(|&i| elements.get(i).copied()).collect()
    }
    let data = match source.data() {
        TensorData::F32(v) => pick(v, &order).map(TensorData::F32),
        TensorData::I64(v) => pick(v, &order).map(TensorData::I64),
    };
    match data {
        Some(data) => checked(dims, data),
        None => malformed("an index outside of its tensor"),
    }
}

/// The place of an index in row-major order.
pub(super) fn flat(index: impl IntoIterator<Item = usize>, dims: &[usize]) -> usize {
    index
        .into_iter()
        .zip(dims)
        .fold(0, |place, (i, &d)| place * d + i)
}

fn constant(node: &NodeView<'_>) -> Answer<Tensor> {
    if let Some(tensor) = node.tensor("value")? {
        return Ok(tensor);
    }
    if node.has("value_int") {
        return checked(vec![], TensorData::I64(vec![node.int("value_int", 0)]));
    }
    if node.has("value_float") {
        return checked(
            vec![],
            TensorData::F32(vec![node.float("value_float", 0.0)]),
        );
    }
    if let Some(ints) = node.ints("value_ints") {
        return Ok(Tensor::from_ints(ints.to_vec()));
    }
    if let Some(floats) = node.floats("value_floats") {
        return checked(vec![floats.len()], TensorData::F32(floats.to_vec()));
    }
    unsupported("a constant that is neither a tensor nor numbers")
}

fn constant_of_shape(node: &NodeView<'_>, shape: &Tensor, room: usize) -> Answer<Tensor> {
    let dims: Option<Vec<usize>> = shape
        .ints()
        .and_then(|dims| dims.iter().map(|&d| d.try_into().ok()).collect());
    let Some(dims) = dims else {
        return malformed("its input is not a shape");
    };
    let zero = || Tensor::new(vec![1], TensorData::F32(vec![0.0]));
    match node.tensor("value")?.or_else(zero) {
        Some(value) if value.data().len() == 1 => rearranged(&value, dims, room, |_| 0),
        _ => malformed("its value is not one element"),
    }
}

fn gather(node: &NodeView<'_>, source: &Tensor, room: usize) -> Answer<Tensor> {
    let Some(indices) = node.constant(1)? else {
        return malformed("input 1 is missing");
    };
    let Some(places) = indices.ints() else {
        return malformed("indices that are not integers");
    };
    let a = axis(node.int("axis", 0), source.dims().len())?;
    let size = source.dims()[a];
    let places: Vec<usize> = places
        .iter()
        .map(|&p| axis(p, size))
        .collect::<Answer<_>>()?;
    let rank = indices.dims().len();
    let mut dims = source.dims().to_vec();
    dims.splice(a..=a, indices.dims().iter().copied());
    rearranged(source, dims, room, |index| {
        let gathered = places[flat(index[a..a + rank].iter().copied(), indices.dims())];
        let before = index[..a].iter().copied();
        let after = index[a + rank..].iter().copied();
        flat(before.chain([gathered]).chain(after), source.dims())
    })
}

fn slice(source: &Tensor, spans: &[Span], room: usize) -> Answer<Tensor> {
    let dims = spans.iter().map(|s| s.n).collect();
    rearranged(source, dims, room, |index| {
        flat(
            index.iter().zip(spans).map(|(&i, s)| s.index(i)),
            source.dims(),
        )
    })
}

/// The permutation of a `Transpose` of a tensor of rank `rank`.
pub(super) fn permutation(node: &NodeView<'_>, rank: usize) -> Answer<Vec<usize>> {
    let Some(perm) = node.ints("perm") else {
        return Ok((0..rank).rev().collect());
    };
    let perm: Vec<usize> = perm.iter().map(|&p| axis(p, rank)).collect::<Answer<_>>()?;
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().eq(0..rank) {
        Ok(perm)
    } else {
        malformed(format!("permutation {perm:?} of rank {rank}"))
    }
}

fn transpose(node: &NodeView<'_>, source: &Tensor, room: usize) -> Answer<Tensor> {
    let perm = permutation(node, source.dims().len())?;
    let dims = perm.iter().map(|&p| source.dims()[p]).collect();
    rearranged(source, dims, room, |index| {
        let mut from = vec![0; perm.len()];
        perm.iter().zip(index).for_each(|(&p, &i)| from[p] = i);
        flat(from, source.dims())
    })
}

fn concat(node: &NodeView<'_>, room: usize) -> Answer<Tensor> {
    let mut parts = Vec::with_capacity(node.inputs.len());
    for i in 0..node.inputs.len() {
        match node.constant(i)? {
            Some(part) => parts.push(part),
            None => return malformed(format!("input {i} is missing")),
        }
    }
    let mut dims = parts[0].dims().to_vec();
    let a = axis(node.int("axis", 0), dims.len())?;
    let mut size: usize = 0;
    for part in &parts {
        let same = |(i, (x, y)): (usize, (&usize, &usize))| i == a || x == y;
        let fits =
            part.dims().len() == dims.len() && part.dims().iter().zip(&dims).enumerate().all(same);
        match size.checked_add(part.dims().get(a).copied().unwrap_or(0)) {
            Some(sum) if fits => size = sum,
            _ => return malformed("parts of different shapes"),
        }
    }
    dims[a] = size;
    // Where nothing is joined, there may be a great many places to join it at.
    let n_before = match fits(n_elements(&dims), room)? {
        0 => 0,
        _ => n_elements(&dims[..a]).unwrap_or(0),
    };
    fn join<'t, T: Copy + 't>(parts: &[&'t [T]], n_before: usize) -> Vec<T> {
        let piece = |i: usize| {
            parts.iter().flat_map(move |p| {
                let n = p.len() / n_before;
                &p[i * n..(i + 1) * n]
            })
        };
        (0..n_before).flat_map(piece).copied().collect()
    }
    let ints: Option<Vec<&[i64]>> = parts.iter().map(|p| p.ints()).collect();
    let floats: Option<Vec<&[f32]>> = parts.iter().map(|p| p.floats()).collect();
    match (ints, floats) {
        (Some(parts), _) => checked(dims, TensorData::I64(join(&parts, n_before))),
        (_, Some(parts)) => checked(dims, TensorData::F32(join(&parts, n_before))),
        _ => malformed("parts of different types"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "that is what the operator does; both directions saturate"
)]
pub(super) fn cast(source: &Tensor, to: i32) -> Answer<Tensor> {
    let data = match source.data() {
        TensorData::I64(v) if element_type::is_float(to) => {
            TensorData::F32(v.iter().map(|&i| i as f32).collect())
        }
        TensorData::F32(v) if element_type::is_integer(to) => {
            TensorData::I64(v.iter().map(|&f| f as i64).collect())
        }
        same if element_type::bytes(to).is_some() => same.clone(),
        _ => return unsupported(format!("to elements of type {}", element_type::name(to))),
    };
    checked(source.dims().to_vec(), data)
}

fn int(n: usize) -> TensorData {
    TensorData::I64(vec![i64_of(n)])
}

fn floats(source: &Tensor, f: fn(f32) -> f32) -> Answer<Tensor> {
    match source.floats() {
        Some(v) => checked(
            source.dims().to_vec(),
            TensorData::F32(v.iter().map(|&x| f(x)).collect()),
        ),
        None => malformed("its input does not hold floats"),
    }
}

fn expand(node: &NodeView<'_>, source: &Tensor, room: usize) -> Answer<Tensor> {
    let wanted = node.ints_from("shape", 1)?.unwrap_or_default();
    let wanted: Option<Vec<usize>> = wanted.iter().map(|&d| d.try_into().ok()).collect();
    match wanted {
        Some(wanted) if wanted.len() <= MAX_RANK => {
            spread(source, &broadcast(source.dims(), &wanted)?, room)
        }
        _ => malformed("its shape"),
    }
}

/// The real numbers of quantized ones: `(x - zero point) * scale`, of the whole tensor or of each place on an axis.
fn dequantize(node: &NodeView<'_>, source: &Tensor) -> Answer<Tensor> {
    let Some(scale) = node.constant(1)? else {
        return malformed("its scale is missing");
    };
    if node.int("block_size", 0) != 0 {
        return unsupported("scales by block");
    }
    let a = match scale.data().len() {
        1 => 0,
        _ => axis(node.int("axis", 1), source.dims().len())?,
    };
    let mut real = cast(source, element_type::FLOAT)?;
    if let Some(zero) = node.constant(2)? {
        real = by_axis(&real, &cast(zero, element_type::FLOAT)?, a, |x, zero| {
            x - zero
        })?;
    }
    by_axis(&real, scale, a, |x, scale| x * scale)
}

/// Whether a node depends on nothing that is computed per frame.
pub(super) fn is_constant(node: &NodeView<'_>) -> bool {
    node.inputs
        .iter()
        .flatten()
        .all(|input| matches!(input, Value::Constant(_)))
}
