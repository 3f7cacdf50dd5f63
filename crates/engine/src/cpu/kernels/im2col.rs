//! Patches as rows, which makes a dense convolution of any kernel a matrix multiplication.

use std::ops::Range;

use super::Element;

/// Writes the input patches of output rows `out_rows`, one output pixel a row.
///
/// # Shapes
/// `input` is a whole tensor `[h][w][c]`. `pad` is `(top, left, bottom, right)`, zeros. A row of `out`
/// is `[kh][kw][c]`; so the weights for [`gemm`](super::gemm()), `[n_out][n_in]` with
/// `n_in = kh * kw * c`, are ONNX's `[n_out][c][kh][kw]` reordered to `[n_out][kh][kw][c]`. `out` is
/// dense, `[out_rows * out_w][kh * kw * c]` with `out_w = (left + w + right - kw) / stride_w + 1`.
///
/// # Panics
/// When the kernel is larger than the padded tensor, a row wanted does not exist, or a length does
/// not fit.
#[expect(
    clippy::too_many_arguments,
    reason = "the attributes of ONNX's Conv, in its order and words"
)]
pub fn im2col<E: Element>(
    input: &[E],
    (h, w, c): (usize, usize, usize),
    (kh, kw): (usize, usize),
    (stride_h, stride_w): (usize, usize),
    (top, left, bottom, right): (usize, usize, usize, usize),
    out_rows: Range<usize>,
    out: &mut [E],
) {
    assert_eq!(input.len(), h * w * c, "input is [h][w][c]");
    assert!(
        kh <= top + h + bottom && kw <= left + w + right,
        "the kernel is larger than the tensor"
    );
    let out_h = (top + h + bottom - kh) / stride_h + 1;
    let out_w = (left + w + right - kw) / stride_w + 1;
    assert!(out_rows.end <= out_h, "rows past the end");
    let run = kw * c;
    assert_eq!(
        out.len(),
        out_rows.len() * out_w * kh * run,
        "out is [out_rows * out_w][kh * kw * c]"
    );
    if out.is_empty() {
        return;
    }
    for (i, runs) in out.chunks_exact_mut(run).enumerate() {
        let (pixel, ky) = (i / kh, i % kh);
        // Places in the padded tensor.
        let y = (out_rows.start + pixel / out_w) * stride_h + ky;
        let x = (pixel % out_w) * stride_w;
        // A run of a patch is contiguous in the tensor, apart from what lies left or right of it.
        let (start, end) = (x.max(left), (x + kw).min(left + w));
        if y < top || y >= top + h || start >= end {
            runs.fill(E::ZERO);
            continue;
        }
        let row = &input[(y - top) * w * c..][..w * c];
        runs[..(start - x) * c].fill(E::ZERO);
        runs[(start - x) * c..(end - x) * c]
            .copy_from_slice(&row[(start - left) * c..(end - left) * c]);
        runs[(end - x) * c..].fill(E::ZERO);
    }
}
