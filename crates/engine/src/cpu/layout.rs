//! From the kernels' order of a tensor (NHWC) to ONNX's (NCHW).

use std::ops::Range;

use crate::graph::Shape;

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
