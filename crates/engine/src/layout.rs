//! Between ONNX's order of a tensor (NCHW) and the kernels' (NHWC).

use crate::graph::Shape;

/// Copies one frame from `[c][h][w]` to `[h][w][c]`.
pub(crate) fn to_nhwc(nchw: &[f32], shape: Shape, nhwc: &mut [f32]) {
    let plane = shape.h * shape.w;
    for (c, channel) in nchw.chunks_exact(plane).enumerate() {
        for (pixel, &x) in nhwc.chunks_exact_mut(shape.c).zip(channel) {
            pixel[c] = x;
        }
    }
}

/// Copies one frame from `[h][w][c]` to the end of `nchw`, as `[c][h][w]`.
pub(crate) fn extend_nchw(nchw: &mut Vec<f32>, nhwc: &[f32], shape: Shape) {
    for c in 0..shape.c {
        nchw.extend(nhwc.chunks_exact(shape.c).map(|pixel| pixel[c]));
    }
}
