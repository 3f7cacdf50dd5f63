//! Plain loops for what the family's full-size networks do not spend time on.
//!
//! All on NHWC. Values are dense, except the parts of a [`concat`], what is added to a sum, and the
//! target of a [`conv`].

use super::tensor::{Source, Target};
use crate::{
    cpu::kernels::Element,
    graph::{Activation, Conv, Pool, PoolKind, Reduction, Shape},
};

/// A convolution of any kernel and any groups.
pub(super) fn conv<E: Element>(
    conv: &Conv,
    input: Source<'_, E>,
    added: Option<Source<'_, E>>,
    target: &mut Target<'_, E>,
) {
    let (shape, out) = (input.shape, target.shape);
    let [kernel_h, kernel_w] = conv.window.kernel;
    let (c_in, c_out) = (shape.c / conv.groups, out.c / conv.groups);
    let (x, relu) = (input.dense(), conv.relu && added.is_none());
    for (place, pixel) in target.pixels().enumerate() {
        let (oy, ox) = (place / out.w, place % out.w);
        for (o, y) in pixel.iter_mut().enumerate() {
            let kernel = &conv.weights[o * c_in * kernel_h * kernel_w..];
            let mut sum = conv.bias[o];
            for (ky, iy) in taps(oy, 0, conv, shape.h) {
                for (kx, ix) in taps(ox, 1, conv, shape.w) {
                    let x = &x[(iy * shape.w + ix) * shape.c + o / c_out * c_in..][..c_in];
                    for (i, x) in x.iter().enumerate() {
                        sum += kernel[(i * kernel_h + ky) * kernel_w + kx] * x.to_f32();
                    }
                }
            }
            *y = E::from_f32(if relu { sum.max(0.0) } else { sum });
        }
    }
    if let Some(added) = added {
        add_in_place(added, conv.relu, target);
    }
}

/// `(offset in the kernel, index in the input)` of a window at `position` along an axis.
fn taps(
    position: usize,
    axis: usize,
    conv: &Conv,
    size: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let start = position * conv.window.stride[axis];
    let pad = conv.window.pads[axis];
    let inside = move |k: usize| {
        let i = (start + k).checked_sub(pad)?;
        (i < size).then_some((k, i))
    };
    (0..conv.window.kernel[axis]).filter_map(inside)
}

/// Adds a value to a target, then perhaps a `ReLU`.
pub(super) fn add_in_place<E: Element>(
    added: Source<'_, E>,
    relu: bool,
    target: &mut Target<'_, E>,
) {
    for (p, pixel) in target.pixels().enumerate() {
        for (y, r) in pixel.iter_mut().zip(added.pixel(p)) {
            let sum = y.to_f32() + r.to_f32();
            *y = E::from_f32(if relu { sum.max(0.0) } else { sum });
        }
    }
}

pub(super) fn affine<E: Element>(
    scale: &[f32],
    shift: &[f32],
    input: Source<'_, E>,
    target: &mut Target<'_, E>,
) {
    let pixels = target.dense().chunks_exact_mut(scale.len());
    for (y, x) in pixels.zip(input.dense().chunks_exact(scale.len())) {
        for (((y, x), s), t) in y.iter_mut().zip(x).zip(scale).zip(shift) {
            *y = E::from_f32(x.to_f32() * s + t);
        }
    }
}

pub(super) fn activation<E: Element>(
    activation: Activation,
    input: Source<'_, E>,
    target: &mut Target<'_, E>,
) {
    for (y, &x) in target.dense().iter_mut().zip(input.dense()) {
        *y = E::from_f32(activation.apply(x.to_f32()));
    }
}

/// Multiplies all channels of a pixel by one number.
pub(super) fn gate<E: Element>(
    input: Source<'_, E>,
    gate: Source<'_, E>,
    target: &mut Target<'_, E>,
) {
    let c = input.shape.c;
    let pixels = target.dense().chunks_exact_mut(c);
    let values = input.dense().chunks_exact(c).zip(gate.dense());
    for (y, (x, &factor)) in pixels.zip(values) {
        let factor = factor.to_f32();
        for (y, x) in y.iter_mut().zip(x) {
            *y = E::from_f32(x.to_f32() * factor);
        }
    }
}

/// One number of all channels of each pixel.
pub(super) fn reduce<E: Element>(
    reduction: Reduction,
    input: Source<'_, E>,
    target: &mut Target<'_, E>,
) {
    let pixels = input.dense().chunks_exact(input.shape.c);
    for (y, x) in target.dense().iter_mut().zip(pixels) {
        *y = E::from_f32(reduction.of(x.iter().map(|x| x.to_f32())));
    }
}

/// Copies each input to its channels of the target.
pub(super) fn concat<E: Element>(
    inputs: &[Source<'_, E>],
    offsets: &[usize],
    target: &mut Target<'_, E>,
) {
    let c = target.shape.c;
    for (input, &offset) in inputs.iter().zip(offsets) {
        for (p, pixel) in target.dense().chunks_exact_mut(c).enumerate() {
            pixel[offset..offset + input.shape.c].copy_from_slice(input.pixel(p));
        }
    }
}

pub(super) fn pad<E: Element>(
    pads: [usize; 4],
    value: f32,
    input: Source<'_, E>,
    target: &mut Target<'_, E>,
) {
    let (shape, out) = (input.shape, target.shape);
    target.dense().fill(E::from_f32(value));
    let row_floats = shape.w * shape.c;
    for (y, row) in input.dense().chunks_exact(row_floats).enumerate() {
        let start = ((y + pads[0]) * out.w + pads[1]) * out.c;
        target.dense()[start..start + row_floats].copy_from_slice(row);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a window has far fewer than 2^24 samples"
)]
pub(super) fn pool<E: Element>(pool: Pool, input: Source<'_, E>, target: &mut Target<'_, E>) {
    let (shape, out) = (input.shape, target.shape);
    let span = |position: usize, axis: usize, size: usize| {
        let start = position * pool.window.stride[axis];
        let pad = pool.window.pads[axis];
        start.saturating_sub(pad)
            ..(start + pool.window.kernel[axis])
                .saturating_sub(pad)
                .min(size)
    };
    for (place, pixel) in target.dense().chunks_exact_mut(out.c).enumerate() {
        let rows = span(place / out.w, 0, shape.h);
        let columns = span(place % out.w, 1, shape.w);
        let n_samples = match pool.kind {
            PoolKind::Average { include_pad: true } => pool.window.kernel.iter().product(),
            _ => rows.len() * columns.len(),
        };
        let is_max = pool.kind == PoolKind::Max;
        for (c, y) in pixel.iter_mut().enumerate() {
            let mut sum = if is_max { f32::NEG_INFINITY } else { 0.0 };
            for place in rows
                .clone()
                .flat_map(|y| columns.clone().map(move |x| y * shape.w + x))
            {
                let x = input.pixel(place)[c].to_f32();
                sum = if is_max { sum.max(x) } else { sum + x };
            }
            *y = E::from_f32(if is_max { sum } else { sum / n_samples as f32 });
        }
    }
}

/// The same floats under another shape; their order is that of NCHW.
pub(super) fn reshape<E: Element>(input: Source<'_, E>, target: &mut Target<'_, E>) {
    let (shape, out) = (input.shape, target.shape);
    let x = input.dense();
    let y = target.dense();
    for i in 0..shape.len() {
        y[place_in_nhwc(i, out)] = x[place_in_nhwc(i, shape)];
    }
}

/// Where the `i`-th float of an NCHW tensor is in NHWC.
fn place_in_nhwc(i: usize, shape: Shape) -> usize {
    let plane = shape.h * shape.w;
    i % plane * shape.c + i / plane
}
