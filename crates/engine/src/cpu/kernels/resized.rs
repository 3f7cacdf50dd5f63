//! A product that is resized and added to another one: its rows are blended first, and widened tile by tile,
//! so that the resized tensor never exists.
#![expect(unsafe_code, reason = "loads without a check of the bounds")]

use super::{Element, MatMut, ResizedColumns, simd::Simd};

/// What is added to a product that is written in planes: rows of pixels, resized to its width on the way.
///
/// Row `r` of the product is column `r % n` of row `r / n`, given `n` columns. What is resized is rounded as
/// the result is before it is added.
#[derive(Debug, Clone, Copy)]
pub struct Resized<'a> {
    /// Where the columns of pixels lie in the narrower rows.
    pub columns: ResizedColumns<'a>,
    /// Planes as [`MatMut::planes`] writes them, `[rows][columns of the source][lanes]` each;
    /// [`blend_rows`](super::blend_rows) makes them of the smaller tensor's.
    pub data: &'a [f32],
    /// Numbers from one plane to the next.
    pub plane: usize,
}

impl Resized<'_> {
    /// The same from row `row` of pixels on, in planes of `lanes`.
    #[must_use]
    pub fn from_row(self, row: usize, lanes: usize) -> Self {
        Self {
            data: &self.data[row * self.columns.source().len() * lanes..],
            ..self
        }
    }

    /// Panics unless there are pixels for `rows` rows of `n_vectors` vectors.
    pub(super) fn check(&self, rows: usize, n_vectors: usize, lanes: usize) {
        let n_rows = rows.div_ceil(self.columns.width());
        // Checked products: the loads below rely on the length of a line.
        let plane = (self.columns.source().len().checked_mul(lanes))
            .and_then(|line| line.checked_mul(n_rows))
            .expect("a plane fits the address space");
        let needed = (n_vectors - 1)
            .saturating_mul(self.plane)
            .saturating_add(plane);
        assert!(
            plane <= self.plane && needed <= self.data.len(),
            "resized: {needed} numbers needed, {} given",
            self.data.len()
        );
    }
}

/// Writes the pixels of a tile of `R` rows and `V` vectors to its place in `out`, whose columns are
/// planes; there they are in the first-level cache when the tile's sums come. The tile's first row is row `row` of the product, its first column `first`.
#[inline(always)]
pub(super) fn widen_tile<S: Simd, O: Element, const R: usize, const V: usize>(
    s: S,
    resized: &Resized<'_>,
    (row, first): (usize, usize),
    out: &mut MatMut<'_, O>,
) {
    let columns = resized.columns;
    let (width, line_len) = (columns.width(), columns.source().len() * S::LANES);
    let (mut y, mut x) = (row / width, row % width);
    let mut done = 0;
    while done < R {
        let n = (R - done).min(width - x);
        for v in 0..V {
            let line = (first / S::LANES + v) * resized.plane + y * line_len;
            let line = &resized.data[line..][..line_len];
            let to = out.place::<S>(row + done, first + v * S::LANES);
            let to = &mut out.data[to..][..n * S::LANES];
            for (place, to) in columns.places(x..x + n).zip(to.chunks_exact_mut(S::LANES)) {
                // SAFETY: no place lies beyond the columns of the source, and the line has as many pixels.
                let a = unsafe { f32::load_at(s, line, place.first * S::LANES) };
                // SAFETY: as above.
                let b = unsafe { f32::load_at(s, line, place.second * S::LANES) };
                let wide = s.mul_add(s.sub(b, a), s.splat(place.fraction), a);
                O::store(s, to, wide);
            }
        }
        (done, y, x) = (done + n, y + 1, 0);
    }
}
