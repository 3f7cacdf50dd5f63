//! Bilinear resizing with aligned corners.

use super::{Element, Isa, isa::Kernel, simd::Simd};

/// Resizes a tensor bilinearly so that its corner pixels stay at the corners.
///
/// # Shapes
/// `src` is `[h][w][c]`, dense; `dst` is `[oh][ow]` pixels, `dst_stride` elements apart, of `c` elements
/// each; what lies between the pixels is left alone. The last pixel may end before its stride does.
///
/// # Source
/// ONNX `Resize`, mode `linear`, `coordinate_transformation_mode` `align_corners`: output pixel `x` lies at
/// `x (w - 1) / (ow - 1)`, computed in f32 as ONNX Runtime does.
///
/// # Panics
/// When `src` is empty, `dst_stride < c`, or a length does not fit.
#[expect(clippy::too_many_arguments, reason = "two tensors with their shapes")]
pub fn upsample_bilinear_align_corners<I: Element, O: Element>(
    isa: Isa,
    src: &[I],
    (h, w, c): (usize, usize, usize),
    dst: &mut [O],
    (oh, ow): (usize, usize),
    dst_stride: usize,
) {
    assert_eq!(src.len(), h * w * c, "src is [h][w][c]");
    if oh == 0 || ow == 0 || c == 0 {
        return;
    }
    assert!(h > 0 && w > 0, "nothing to resize");
    assert!(dst_stride >= c, "pixels overlap");
    assert!(
        dst.len() >= (oh * ow - 1) * dst_stride + c,
        "dst is too short"
    );
    isa.run(Upsample {
        src,
        c,
        ys: &places(h, oh),
        xs: &places(w, ow),
        blended: &mut vec![0.0; w * c],
        dst,
        dst_stride,
    });
}

/// Where an output row or column lies between two of the input.
struct Place {
    /// The input's row or column at or before it.
    first: usize,
    /// The one after, or the same at the end.
    second: usize,
    /// How far from the first to the second, 0 to 1.
    fraction: f32,
}

fn places(n_in: usize, n_out: usize) -> Vec<Place> {
    let (last_in, last_out) = (n_in - 1, (n_out - 1).max(1));
    (0..n_out)
        .map(|i| {
            let first = i * last_in / last_out;
            Place {
                first,
                second: (first + 1).min(last_in),
                fraction: (i * last_in) as f32 / last_out as f32 - first as f32,
            }
        })
        .collect()
}

struct Upsample<'a, I, O> {
    src: &'a [I],
    c: usize,
    ys: &'a [Place],
    xs: &'a [Place],
    /// One row of the input's width, `[w][c]`, already blended between two rows.
    blended: &'a mut [f32],
    dst: &'a mut [O],
    dst_stride: usize,
}

impl<I: Element, O: Element> Kernel for Upsample<'_, I, O> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let row_floats = self.blended.len();
        let c = self.c;
        for (y, rows) in self.ys.iter().enumerate() {
            blend(
                s,
                &self.src[rows.first * row_floats..][..row_floats],
                &self.src[rows.second * row_floats..][..row_floats],
                rows.fraction,
                self.blended,
            );
            for (x, columns) in self.xs.iter().enumerate() {
                blend(
                    s,
                    &self.blended[columns.first * c..][..c],
                    &self.blended[columns.second * c..][..c],
                    columns.fraction,
                    &mut self.dst[(y * self.xs.len() + x) * self.dst_stride..][..c],
                );
            }
        }
    }
}

/// `out = a + (b - a) * fraction`; all three have the same length.
#[inline(always)]
fn blend<S: Simd, I: Element, O: Element>(s: S, a: &[I], b: &[I], fraction: f32, out: &mut [O]) {
    let t = s.splat(fraction);
    let mut i = 0;
    while i + S::LANES <= out.len() {
        let (a, b) = (I::load(s, &a[i..]), I::load(s, &b[i..]));
        O::store(s, &mut out[i..], s.mul_add(s.sub(b, a), t, a));
        i += S::LANES;
    }
    let n = out.len() - i;
    if n > 0 {
        let (a, b) = (I::load_part(s, &a[i..], n), I::load_part(s, &b[i..], n));
        O::store_part(s, &mut out[i..], n, s.mul_add(s.sub(b, a), t, a));
    }
}
