//! Bilinear resizing with aligned corners.

use std::ops::Range;

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
    assert!(dst_stride >= c, "pixels overlap");
    assert!(
        dst.len() >= (oh * ow - 1) * dst_stride + c,
        "dst is too short"
    );
    let resize = Resize::new((h, w), (oh, ow));
    let mut blended = vec![I::ZERO; w * c];
    for y in 0..oh {
        isa.run(ResizeRow {
            rows: resize.source_rows(y).map(|y| &src[y * w * c..][..w * c]),
            fraction: resize.ys[y].fraction,
            xs: &resize.xs,
            c,
            blended: &mut blended,
            out: &mut dst[y * ow * dst_stride..],
            stride: dst_stride,
        });
    }
}

/// Where the pixels of a resized tensor lie between those of the source.
#[derive(Debug)]
pub struct Resize {
    ys: Vec<Place>,
    xs: Vec<Place>,
}

/// Where an output row or column lies between two of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The input's row or column at or before it.
    pub first: usize,
    /// The one after, or the same at the end.
    pub second: usize,
    /// How far from the first to the second, 0 to 1.
    pub fraction: f32,
}

impl Resize {
    /// From `(rows, columns)` to `(rows, columns)`.
    ///
    /// # Panics
    /// When there is nothing to resize.
    #[must_use]
    pub fn new((h, w): (usize, usize), (oh, ow): (usize, usize)) -> Self {
        assert!(h > 0 && w > 0, "nothing to resize");
        Self {
            ys: places(h, oh),
            xs: places(w, ow),
        }
    }

    /// The two rows of the source, or one twice, that row `y` of the result is blended of.
    #[must_use]
    pub fn source_rows(&self, y: usize) -> [usize; 2] {
        [self.ys[y].first, self.ys[y].second]
    }

    /// Columns `columns` of the result, blended of as few columns of the source as they need.
    ///
    /// # Panics
    /// When there is no such column, or none is asked for.
    #[must_use]
    pub fn part(&self, columns: Range<usize>) -> ResizedColumns<'_> {
        let places = &self.xs[columns];
        let (first, last) = places.iter().fold((usize::MAX, 0), |(first, last), place| {
            (first.min(place.first), last.max(place.second))
        });
        assert!(first <= last, "no columns");
        ResizedColumns {
            places,
            source: (first, last + 1),
        }
    }
}

/// Some columns of a resized tensor.
#[derive(Debug, Clone, Copy)]
pub struct ResizedColumns<'a> {
    /// Where they lie between those of the source.
    places: &'a [Place],
    /// Which columns of the source those are: from the first to before the second. All `places` lie between them.
    source: (usize, usize),
}

impl ResizedColumns<'_> {
    /// The columns of the source that they are blended of.
    #[must_use]
    pub fn source(&self) -> Range<usize> {
        self.source.0..self.source.1
    }

    /// How many they are.
    pub(super) fn width(&self) -> usize {
        self.places.len()
    }

    /// Where they lie in rows of the source that hold [`source`](Self::source) alone, which is as many columns as
    /// no place reaches.
    #[inline(always)]
    pub(super) fn places(&self, columns: Range<usize>) -> impl Iterator<Item = Place> {
        let first = self.source.0;
        self.places[columns].iter().map(move |place| Place {
            first: place.first - first,
            second: place.second - first,
            fraction: place.fraction,
        })
    }
}

fn places(n_in: usize, n_out: usize) -> Vec<Place> {
    let (last_in, last_out) = (n_in - 1, n_out.saturating_sub(1).max(1));
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

/// Row `y` of the result, still as wide as the source: blended of two of its rows, which are those of
/// [`Resize::source_rows`].
///
/// # Panics
/// When lengths differ.
pub fn blend_rows<I: Element, O: Element>(
    isa: Isa,
    resize: &Resize,
    y: usize,
    [a, b]: [&[I]; 2],
    out: &mut [O],
) {
    assert!(a.len() == out.len() && b.len() == out.len(), "rows differ");
    let fraction = resize.ys[y].fraction;
    isa.run(BlendRows {
        a,
        b,
        fraction,
        out,
    });
}

struct BlendRows<'a, I, O> {
    a: &'a [I],
    b: &'a [I],
    fraction: f32,
    out: &'a mut [O],
}

impl<I: Element, O: Element> Kernel for BlendRows<'_, I, O> {
    const BF16: bool = I::IS_BF16 || O::IS_BF16;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        blend(s, self.a, self.b, self.fraction, self.out);
    }
}

struct ResizeRow<'a, I, O> {
    rows: [&'a [I]; 2],
    fraction: f32,
    xs: &'a [Place],
    c: usize,
    /// One row of the input's width, `[w][c]`, already blended between two rows.
    blended: &'a mut [I],
    out: &'a mut [O],
    stride: usize,
}

impl<I: Element, O: Element> Kernel for ResizeRow<'_, I, O> {
    const BF16: bool = I::IS_BF16 || O::IS_BF16;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let c = self.c;
        blend(s, self.rows[0], self.rows[1], self.fraction, self.blended);
        for (x, columns) in self.xs.iter().enumerate() {
            blend(
                s,
                &self.blended[columns.first * c..][..c],
                &self.blended[columns.second * c..][..c],
                columns.fraction,
                &mut self.out[x * self.stride..][..c],
            );
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
