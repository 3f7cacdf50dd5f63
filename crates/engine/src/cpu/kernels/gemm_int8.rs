//! Matrix multiplication of bytes with exact 32-bit sums.
//!
//! As [`gemm_int16`](super::gemm_int16()), with inputs and weights rounded to bytes on the way, in one of several
//! [kinds](Int8Kind):
//!
//! - **Narrow.** AVX2 multiplies four bytes where it multiplies one float, but adds the products in pairs to 16 bits
//!   (`maddubs`), which saturates, and has to multiply once more to widen them. Inputs of 7 bits, and a scale of each
//!   column that is coarse enough, let a sum of 16 bits take [`STEPS`] pairs before it is widened, whatever the inputs:
//!   that is what makes bytes faster than 16-bit integers. [`PackedBytes::pack`] checks it, sum by sum.
//! - **Full.** VNNI adds four products to 32 bits in one instruction. So inputs and weights have all of their 8 bits.
//!   So does NEON's dot product, of bytes with a sign: inputs are 128 less there, and sums start with the difference.
//!   A third kind differs only in what else a network computes in.
//!
//! Every instruction set computes all kinds, to the same integers: VNNI and NEON's dot product multiply narrow numbers
//! as they do full ones, and the others split full ones, which is slow.
//!
//! **Every row has a scale of its own**, from its smallest to its largest input, with 0 between them. So there is no
//! calibration that could be wrong for a frame, and a row's result depends on that row alone. Every column has a
//! scale of its own, too.

mod multiply;
mod rounding;

use super::{
    Added, Aligned, AlignedFloats, Element, Epilogue, Isa, MatMut, MatRef, Weights,
    gemm::{Columns, finish_tile, panel_widths},
    isa::Kernel,
    resized::widen_tile,
    simd::Simd,
    unrolled::unrolled,
};
use crate::Int8Kind;
use multiply::{multiply_fours, multiply_pairs};
use rounding::{RowScale, quantise_rows, sum_of};
pub(super) use rounding::{levels, nearest_byte, quantise_column};

/// Inputs that a lane multiplies at once.
const QUAD: usize = 4;

/// Pairs of products that a sum of 16 bits takes before it is widened.
const STEPS: usize = 4;

/// Inputs of a row that are multiplied between two widenings; rows are padded to as many.
const GROUP: usize = QUAD * STEPS;

/// Integers of a block of rows, which stays in the first-level cache: 28 KiB on the stack.
const BLOCK_BYTES: usize = 28 * 1024;

/// As [`BLOCK_BYTES`], where a product has so few rows: zeroing the larger block would take longer than rounding them.
const SMALL_BLOCK_BYTES: usize = 6 * 1024;

/// Most rows of a block, a multiple of all tiles.
const BLOCK_ROWS: usize = 120;

/// Weights and bias of a 1x1 convolution, the weights as bytes, in the order in which one instruction set
/// reads them.
#[derive(Debug)]
pub struct PackedBytes {
    isa: Isa,
    kind: Int8Kind,
    /// For each vector of columns: their bias, what one step of their integers is worth, and the sum of
    /// their weights as they were rounded.
    columns: AlignedFloats,
    /// Panel after panel. A panel of `w` columns is, for each four inputs, the `w` times four weights
    /// that they meet; what lies past `n_out` and `n_in` is zeros.
    panels: Aligned<i8>,
    n_in: usize,
    n_out: usize,
}

impl PackedBytes {
    /// Most inputs: as many as leave several rows to a block. Their sums fit 32 bits by far.
    pub const MAX_INPUTS: usize = BLOCK_BYTES / 12;

    /// Packs `weights`, `[n_out][n_in]` row-major, and `bias`, `[n_out]`, for `isa`, for
    /// products of one kind.
    ///
    /// # Panics
    /// When a length does not fit, or `n_in` is over [`MAX_INPUTS`](Self::MAX_INPUTS).
    #[must_use]
    pub fn pack(
        (isa, kind): (Isa, Int8Kind),
        (weights, bias): (&[f32], &[f32]),
        (n_out, n_in): (usize, usize),
    ) -> Self {
        assert_eq!(weights.len(), n_out * n_in, "weights are [n_out][n_in]");
        assert_eq!(bias.len(), n_out, "bias is [n_out]");
        assert!(n_in <= Self::MAX_INPUTS, "{n_in} inputs are too many");
        let (lanes, stride) = (isa.lanes(), n_in.next_multiple_of(GROUP));
        let n_columns: usize = panel_widths(n_out, lanes).sum();
        let mut columns = AlignedFloats::zeroed(3 * n_columns);
        let mut panels = Aligned::zeroed(n_columns * stride);
        let (mut rest, mut first) = (&mut panels[..], 0);
        for width in panel_widths(n_out, lanes) {
            let (panel, others) = rest.split_at_mut(width * stride);
            for column in 0..width.min(n_out - first) {
                let weights = &weights[(first + column) * n_in..][..n_in];
                let (unit, ints) = quantise_column(kind, weights);
                let facts = &mut columns[(first + column) / lanes * 3 * lanes..][..3 * lanes];
                let lane = (first + column) % lanes;
                facts[lane] = bias[first + column];
                facts[lanes + lane] = unit;
                facts[2 * lanes + lane] = sum_of(&ints, unit);
                for (k, int) in ints.into_iter().enumerate() {
                    panel[(k / QUAD * width + column) * QUAD + k % QUAD] = int;
                }
            }
            (rest, first) = (others, first + width);
        }
        Self {
            isa,
            kind,
            columns,
            panels,
            n_in,
            n_out,
        }
    }
}

impl Weights for PackedBytes {
    fn numbers(&self) -> &'static str {
        "int8"
    }

    fn bytes(&self) -> usize {
        self.columns.bytes() + self.panels.bytes()
    }

    fn n_in(&self) -> usize {
        self.n_in
    }

    fn n_out(&self) -> usize {
        self.n_out
    }
}

/// `out[r] = act(weights * a[r] + bias + added[r])` for every row of `a`.
///
/// Shapes and panics are those of [`gemm`](super::gemm()).
pub fn gemm_int8<A: Element, O: Element>(
    m: &PackedBytes,
    a: MatRef<'_, A>,
    out: MatMut<'_, O>,
    epilogue: Epilogue<'_, A>,
) {
    if a.rows == 0 || m.n_out == 0 {
        return;
    }
    a.check(m.n_in, "operand");
    out.check((a.rows, m.n_out), m.isa.lanes());
    epilogue
        .added
        .check((a.rows, m.n_out), m.isa.lanes(), out.plane);
    m.isa.run(Gemm {
        m,
        a,
        out,
        epilogue,
    });
}

struct Gemm<'a, A, O> {
    m: &'a PackedBytes,
    a: MatRef<'a, A>,
    out: MatMut<'a, O>,
    epilogue: Epilogue<'a, A>,
}

/// Rows of the operand as integers.
struct Block<'a> {
    /// Row after row, of fours.
    quads: &'a [[u8; QUAD]],
    scales: &'a [RowScale],
    /// The first of the rows.
    first: usize,
}

/// One panel, and where its columns go.
struct Panel<'a> {
    /// As [`PackedBytes::columns`].
    facts: &'a [f32],
    /// Fours of weights by fours of inputs.
    weights: &'a [i8],
    columns: Columns,
}

impl<A: Element, O: Element> Kernel for Gemm<'_, A, O> {
    const BF16: bool = A::IS_BF16 || O::IS_BF16;
    const VNNI: bool = true;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let n_in = self.m.n_in;
        let stride = n_in.next_multiple_of(GROUP);
        let most_rows = (BLOCK_BYTES / stride.max(1)).min(BLOCK_ROWS);
        let most_rows = (most_rows / S::TILE_ROWS).max(1) * S::TILE_ROWS;
        let (mut small, mut large);
        let ints: &mut [u8] = if most_rows.min(self.a.rows) * stride <= SMALL_BLOCK_BYTES {
            small = [0; SMALL_BLOCK_BYTES];
            &mut small
        } else {
            large = [0; BLOCK_BYTES];
            &mut large
        };
        let mut scales = [RowScale::default(); BLOCK_ROWS];
        let mut first = 0;
        while first < self.a.rows {
            let n_rows = most_rows.min(self.a.rows - first);
            let a = MatRef {
                data: &self.a.data[first * self.a.stride..],
                ..self.a
            };
            let levels = f32::from(levels(self.m.kind));
            let scales = &mut scales[..n_rows];
            quantise_rows(s, (a, n_in), levels, (&mut *ints, stride), scales);
            let block = Block {
                quads: ints[..n_rows * stride].as_chunks().0,
                scales,
                first,
            };
            self.block(s, &block);
            first += n_rows;
        }
    }
}

impl<A: Element, O: Element> Gemm<'_, A, O> {
    /// The rows of one block, panel by panel.
    #[inline(always)]
    fn block<S: Simd>(&mut self, s: S, block: &Block<'_>) {
        let (stride, n_out) = (self.m.n_in.next_multiple_of(GROUP), self.m.n_out);
        let (mut rest, mut first) = (&self.m.panels[..], 0);
        while first < n_out {
            let n = (n_out - first).min(2 * S::LANES);
            let vectors = n.div_ceil(S::LANES);
            let (weights, others) = rest.split_at(stride * vectors * S::LANES);
            let panel = Panel {
                facts: &self.m.columns[3 * first..][..3 * vectors * S::LANES],
                weights,
                columns: Columns { first, n },
            };
            match (vectors, n.is_multiple_of(S::LANES)) {
                (2, true) => self.rows::<S, 2, false>(s, block, &panel),
                (2, false) => self.rows::<S, 2, true>(s, block, &panel),
                (_, true) => self.rows::<S, 1, false>(s, block, &panel),
                (_, false) => self.rows::<S, 1, true>(s, block, &panel),
            }
            (rest, first) = (others, first + n);
        }
    }

    /// The rows of one block and one panel, in tiles: of as many rows as floats have where a sum needs one register,
    /// of half as many where it needs two, and of one where products are emulated.
    #[inline(always)]
    fn rows<S: Simd, const V: usize, const PART: bool>(
        &mut self,
        s: S,
        block: &Block<'_>,
        panel: &Panel<'_>,
    ) {
        let (mut row, end) = (0, block.scales.len());
        // What is emulated is not worth the time to compile larger tiles.
        if S::MULTIPLIES_FOURS && (S::MULTIPLIES_BF16 || !Self::BF16) {
            while end - row >= S::TILE_ROWS {
                match S::TILE_ROWS {
                    12 => self.tile::<S, 12, V, PART, true>(s, block, panel, row),
                    _ => self.tile::<S, 6, V, PART, true>(s, block, panel, row),
                }
                row += S::TILE_ROWS;
            }
            // Strips of these networks mostly leave four rows.
            while end - row >= 4 {
                self.tile::<S, 4, V, PART, true>(s, block, panel, row);
                row += 4;
            }
        } else if !Self::BF16 && self.m.kind == Int8Kind::Narrow {
            while end - row >= S::TILE_ROWS / 2 {
                match S::TILE_ROWS / 2 {
                    6 => self.tile::<S, 6, V, PART, false>(s, block, panel, row),
                    3 => self.tile::<S, 3, V, PART, false>(s, block, panel, row),
                    _ => self.tile::<S, 2, V, PART, false>(s, block, panel, row),
                }
                row += S::TILE_ROWS / 2;
            }
            while row < end {
                self.tile::<S, 1, V, PART, false>(s, block, panel, row);
                row += 1;
            }
        }
        while row < end {
            self.tile::<S, 1, V, PART, true>(s, block, panel, row);
            row += 1;
        }
    }

    /// A tile of `R` rows and `V` vectors of columns, from row `row` of the block on. `FOURS`: the products of four
    /// inputs are added up at once, rather than those of two.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize, const PART: bool, const FOURS: bool>(
        &mut self,
        s: S,
        block: &Block<'_>,
        panel: &Panel<'_>,
        row: usize,
    ) {
        let at = block.first + row;
        if let Added::Resized(resized) = &self.epilogue.added {
            widen_tile::<S, O, R, V>(s, resized, (at, panel.columns.first), &mut self.out);
        }
        let n_quads = self.m.n_in.next_multiple_of(GROUP) / QUAD;
        let quads = &block.quads[row * n_quads..];
        let ints = if FOURS {
            multiply_fours::<S, R, V>(s, quads, panel.weights)
        } else {
            multiply_pairs::<S, R, V>(s, quads, panel.weights)
        };
        let scales = &block.scales[row..][..R];
        let mut sums = [[s.splat(0.0); V]; R];
        for (v, facts) in panel.facts.chunks_exact(3 * S::LANES).enumerate() {
            // No closures around vectors: they are compiled for no instruction set.
            let (bias, units) = (s.load(facts), s.load(&facts[S::LANES..]));
            let totals = s.load(&facts[2 * S::LANES..]);
            unrolled!(r < R, {
                let sum = s.ints_to_floats(ints[r][v]);
                let sum = s.mul_add(sum, s.splat(scales[r].unit), s.splat(0.0));
                let offset = s.mul_add(totals, s.splat(scales[r].zero), bias);
                sums[r][v] = s.mul_add(sum, units, offset);
            });
        }
        let end = (&mut self.out, at, panel.columns);
        finish_tile::<S, A, O, R, V, PART>(s, sums, &self.epilogue, end);
    }
}
