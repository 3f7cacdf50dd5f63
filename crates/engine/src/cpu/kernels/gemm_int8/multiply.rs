//! The sums of a tile.

use super::{QUAD, STEPS};
use crate::cpu::kernels::{simd::Simd, unrolled::unrolled};

/// The sums of the products of a tile's rows, which start at `quads`, and a panel's weights, of any bytes.
#[inline(always)]
pub(super) fn multiply_fours<S: Simd, const R: usize, const V: usize>(
    s: S,
    quads: &[[u8; QUAD]],
    weights: &[i8],
) -> [[S::Ints; V]; R] {
    let step = QUAD * V * S::LANES;
    let n_quads = weights.len() / step;
    let mut rows = [&quads[..0]; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &quads[r * n_quads..][..n_quads];
    }
    let mut start = [s.no_ints(); V];
    if S::FOURS_LESS_128 && n_quads > 0 {
        for (v, start) in start.iter_mut().enumerate() {
            *start = s.start_fours(&weights[QUAD * v * S::LANES..], step);
        }
    }
    let mut sums = [start; R];
    for k in 0..n_quads {
        let weights = &weights[k * step..][..step];
        let mut b = [s.no_ints(); V];
        for (v, b) in b.iter_mut().enumerate() {
            *b = s.load_bytes(&weights[QUAD * v * S::LANES..]);
        }
        unrolled!(r < R, {
            for v in 0..V {
                sums[r][v] = s.dot_fours(rows[r][k], b[v], sums[r][v]);
            }
        });
    }
    sums
}

/// As [`multiply_fours`], of narrow bytes: added in pairs to 16 bits, which are widened after [`STEPS`] pairs.
#[inline(always)]
pub(super) fn multiply_pairs<S: Simd, const R: usize, const V: usize>(
    s: S,
    quads: &[[u8; QUAD]],
    weights: &[i8],
) -> [[S::Ints; V]; R] {
    let step = QUAD * V * S::LANES;
    let n_groups = weights.len() / (STEPS * step);
    let mut rows: [&[[[u8; QUAD]; STEPS]]; R] = [&[]; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = quads[r * n_groups * STEPS..][..n_groups * STEPS]
            .as_chunks()
            .0;
    }
    let mut sums = [[s.no_ints(); V]; R];
    for group in 0..n_groups {
        let weights = &weights[group * STEPS * step..][..STEPS * step];
        let mut shorts = [[s.no_ints(); V]; R];
        for i in 0..STEPS {
            let weights = &weights[i * step..][..step];
            let mut b = [s.no_ints(); V];
            for (v, b) in b.iter_mut().enumerate() {
                *b = s.load_bytes(&weights[QUAD * v * S::LANES..]);
            }
            for r in 0..R {
                let x = s.splat_bytes(rows[r][group][i]);
                for v in 0..V {
                    shorts[r][v] = s.dot_bytes(x, b[v], shorts[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = s.widen_shorts(shorts[r][v], sums[r][v]);
            }
        }
    }
    sums
}
