//! Arithmetic, comparisons and choices of constants, with the broadcasting that they share.

use super::{
    constants::{checked, fits, flat, rearranged},
    node::{Answer, NodeView, malformed, unsupported},
};
use crate::onnx::{Tensor, TensorData};

/// A tensor repeated along its axes of 1 until it has dimensions `dims`, which are at least as many.
pub(super) fn spread(tensor: &Tensor, dims: &[usize], room: usize) -> Answer<Tensor> {
    let mut from = vec![1; dims.len().saturating_sub(tensor.dims().len())];
    from.extend_from_slice(tensor.dims());
    rearranged(tensor, dims.to_vec(), room, |index| {
        flat(index.iter().zip(&from).map(|(&i, &d)| i.min(d - 1)), &from)
    })
}

/// The dimensions that two tensors of dimensions `a` and `b` have in common when they are spread.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Answer<Vec<usize>> {
    let rank = a.len().max(b.len());
    let aligned = |dims: &[usize]| [vec![1; rank - dims.len()], dims.to_vec()].concat();
    let pairs = aligned(a).into_iter().zip(aligned(b));
    let common = pairs.map(|(x, y)| match (x, y) {
        _ if x == y => Some(x),
        (1, other) | (other, 1) => Some(other),
        _ => None,
    });
    match common.collect() {
        Some(dims) => Ok(dims),
        None => malformed(format!("{a:?} and {b:?} do not broadcast")),
    }
}

pub(super) fn choose(node: &NodeView<'_>, condition: &Tensor, room: usize) -> Answer<Tensor> {
    let (Some(yes), Some(no)) = (node.constant(1)?, node.constant(2)?) else {
        return malformed("input 1 or 2 is missing");
    };
    let dims = broadcast(&broadcast(condition.dims(), yes.dims())?, no.dims())?;
    let [condition, yes, no] = [condition, yes, no].map(|tensor| spread(tensor, &dims, room));
    fn pick<T: Copy>(condition: &[i64], yes: &[T], no: &[T]) -> Vec<T> {
        let both = yes.iter().zip(no);
        let each = condition.iter().zip(both);
        each.map(|(&c, (&y, &n))| if c == 0 { n } else { y })
            .collect()
    }
    let (condition, yes, no) = (condition?, yes?, no?);
    let data = match (condition.data(), yes.data(), no.data()) {
        (TensorData::I64(c), TensorData::I64(y), TensorData::I64(n)) => {
            TensorData::I64(pick(c, y, n))
        }
        (TensorData::I64(c), TensorData::F32(y), TensorData::F32(n)) => {
            TensorData::F32(pick(c, y, n))
        }
        _ => return malformed("operands of different types"),
    };
    checked(dims, data)
}

pub(super) fn sign(op: &str, source: &Tensor) -> Answer<Tensor> {
    let data = match (op, source.data()) {
        ("Neg", TensorData::I64(v)) => {
            TensorData::I64(v.iter().map(|i| i.saturating_neg()).collect())
        }
        ("Neg", TensorData::F32(v)) => TensorData::F32(v.iter().map(|f| -f).collect()),
        ("Abs", TensorData::I64(v)) => {
            TensorData::I64(v.iter().map(|i| i.saturating_abs()).collect())
        }
        ("Abs", TensorData::F32(v)) => TensorData::F32(v.iter().map(|f| f.abs()).collect()),
        (_, TensorData::I64(v)) => TensorData::I64(v.iter().map(|&i| i64::from(i == 0)).collect()),
        _ => return malformed("its input does not hold integers"),
    };
    checked(source.dims().to_vec(), data)
}

/// Integers from the first input to the second, which is not among them, in steps of the third.
pub(super) fn range(node: &NodeView<'_>, room: usize) -> Answer<Tensor> {
    let mut ends = [0; 3];
    for (i, end) in ends.iter_mut().enumerate() {
        match node.constant(i)?.map(|tensor| tensor.ints()) {
            Some(Some(&[value])) => *end = value,
            _ => return unsupported("ends that are not integers"),
        }
    }
    let [start, end, step] = ends;
    let distance = end.checked_sub(start).filter(|_| step != 0);
    let n =
        distance.and_then(|distance| distance.checked_div(step).zip(distance.checked_rem(step)));
    let n = n.map(|(whole, rest)| {
        whole.saturating_add(i64::from(rest != 0 && (rest > 0) == (step > 0)))
    });
    let n = fits(n.map(|n| usize::try_from(n).unwrap_or(0)), room)?;
    let ints = (0..n).scan(start, |next, _| {
        let this = *next;
        *next = next.saturating_add(step);
        Some(this)
    });
    checked(vec![n], TensorData::I64(ints.collect()))
}

/// The product of all elements.
pub(super) fn product(node: &NodeView<'_>, source: &Tensor) -> Answer<Tensor> {
    let Some(ints) = source.ints().filter(|_| source.dims().len() <= 1) else {
        return unsupported("of other than a row of integers");
    };
    let Some(product) = ints.iter().try_fold(1_i64, |n, &i| n.checked_mul(i)) else {
        return malformed("integer overflow");
    };
    let dims = if node.int("keepdims", 1) == 0 {
        vec![]
    } else {
        vec![1]
    };
    checked(dims, TensorData::I64(vec![product]))
}

pub(super) fn arithmetic(node: &NodeView<'_>, a: &Tensor, room: usize) -> Answer<Tensor> {
    let Some(b) = node.constant(1)? else {
        return match &*node.proto.op_type {
            "Min" | "Max" => Ok(a.clone()),
            _ => malformed("input 1 is missing"),
        };
    };
    if node.inputs.len() > 2 {
        return unsupported("more than two inputs");
    }
    let dims = broadcast(a.dims(), b.dims())?;
    let (a, b) = (spread(a, &dims, room)?, spread(b, &dims, room)?);
    let op = node.proto.op_type.as_str();
    let data = match (a.data(), b.data()) {
        (TensorData::I64(a), TensorData::I64(b)) => {
            let sums = a.iter().zip(b).map(|(&x, &y)| int_op(op, x, y)).collect();
            match sums {
                Some(v) => TensorData::I64(v),
                None => return malformed("integer overflow or division by zero"),
            }
        }
        (TensorData::F32(a), TensorData::F32(b)) => {
            let pairs = a.iter().zip(b).map(|(&x, &y)| (x, y));
            match op {
                "Equal" => TensorData::I64(pairs.map(|(x, y)| i64::from(x.eq(&y))).collect()),
                "Less" => TensorData::I64(pairs.map(|(x, y)| i64::from(x < y)).collect()),
                "Greater" => TensorData::I64(pairs.map(|(x, y)| i64::from(x > y)).collect()),
                "LessOrEqual" => TensorData::I64(pairs.map(|(x, y)| i64::from(x <= y)).collect()),
                "GreaterOrEqual" => {
                    TensorData::I64(pairs.map(|(x, y)| i64::from(x >= y)).collect())
                }
                _ => TensorData::F32(pairs.map(|(x, y)| float_op(op, x, y)).collect()),
            }
        }
        _ => return malformed("operands of different types"),
    };
    checked(dims, data)
}

fn int_op(op: &str, x: i64, y: i64) -> Option<i64> {
    match op {
        "Add" => x.checked_add(y),
        "Sub" => x.checked_sub(y),
        "Mul" => x.checked_mul(y),
        "Equal" => Some(i64::from(x == y)),
        "Less" => Some(i64::from(x < y)),
        "Greater" => Some(i64::from(x > y)),
        "LessOrEqual" => Some(i64::from(x <= y)),
        "GreaterOrEqual" => Some(i64::from(x >= y)),
        "Min" => Some(x.min(y)),
        "Max" => Some(x.max(y)),
        // As Python has it: the sign is the divisor's.
        "Mod" => x.checked_rem(y).map(|r| {
            if r != 0 && (r < 0) != (y < 0) {
                r + y
            } else {
                r
            }
        }),
        _ => x.checked_div(y),
    }
}

fn float_op(op: &str, x: f32, y: f32) -> f32 {
    match op {
        "Add" => x + y,
        "Sub" => x - y,
        "Mul" => x * y,
        "Min" => x.min(y),
        "Max" => x.max(y),
        "Mod" => x % y,
        _ => x / y,
    }
}
