//! Between ONNX's order of a tensor (NCHW) and the kernels' (NHWC).

use std::ops::Range;

use crate::{graph::Shape, kernels::Element};

/// Copies rows `rows` of one frame from `[c][h][w]` to `[rows][w][c]`.
pub(crate) fn to_nhwc<E: Element>(nchw: &[f32], shape: Shape, rows: Range<usize>, nhwc: &mut [E]) {
    let plane = shape.h * shape.w;
    for (c, channel) in nchw.chunks_exact(plane).enumerate() {
        let channel = &channel[rows.start * shape.w..rows.end * shape.w];
        for (pixel, &x) in nhwc.chunks_exact_mut(shape.c).zip(channel) {
            pixel[c] = E::from_f32(x);
        }
    }
}

/// Copies rows `rows` of one frame from `[rows][w][c]` to `[c][h][w]`.
pub(crate) fn to_nchw(nhwc: &[f32], shape: Shape, rows: Range<usize>, nchw: &mut [f32]) {
    let plane = shape.h * shape.w;
    for (c, channel) in nchw.chunks_exact_mut(plane).enumerate() {
        let channel = &mut channel[rows.start * shape.w..rows.end * shape.w];
        for (pixel, x) in nhwc.chunks_exact(shape.c).zip(channel) {
            *x = pixel[c];
        }
    }
}
