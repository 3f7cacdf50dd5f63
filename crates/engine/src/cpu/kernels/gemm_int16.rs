//! Matrix multiplication of 16-bit integers with exact 32-bit sums.
//!
//! As [`gemm`](super::gemm()), with inputs and weights rounded to integers on the way. AVX2 multiplies two
//! pairs of 16-bit integers where it multiplies one pair of floats, and VNNI adds them up in the same instruction.
//! Products of bytes are [`gemm_int8`](super::gemm_int8()).
//!
//! **Every row has a scale of its own**, from its largest input. So no calibration can be wrong for a
//! frame, and a row's result depends on that row alone. Every column has a scale of its own, too.
//!
//! **No sum can overflow.** A column's scale is coarse enough that its integers, all met by the largest
//! input, still fit 32 bits. [`PackedShorts::pack`] checks it, column by column.

use super::{
    Added, Aligned, AlignedFloats, Element, Epilogue, Isa, MatMut, MatRef, Weights,
    gemm::{Columns, finish_tile, panel_widths},
    isa::Kernel,
    resized::widen_tile,
    simd::Simd,
};

/// Integers of a block of rows, which stays in the first-level cache: 32 KiB on the stack.
const BLOCK_SHORTS: usize = 16 * 1024;

/// As [`BLOCK_SHORTS`], where a product has so few rows: zeroing the larger block would take longer than rounding them.
const SMALL_BLOCK_SHORTS: usize = 6 * 1024;

/// Most rows of a block, a multiple of all tiles.
const BLOCK_ROWS: usize = 120;

/// Added to a float below 2^22 in size, leaves its nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23

/// Weights and bias of a 1x1 convolution, the weights as 16-bit integers, in the order in which one
/// instruction set reads them.
#[derive(Debug)]
pub struct PackedShorts {
    isa: Isa,
    /// As many as the panels have columns; those past `n_out` are zeros.
    bias: AlignedFloats,
    /// What one step of each column's integers is worth.
    units: AlignedFloats,
    /// Panel after panel. A panel of `w` columns is, for each pair of inputs, the `w` pairs of weights
    /// that they meet; what lies past `n_out` and `n_in` is zeros.
    panels: Aligned<i16>,
    /// The integer that a row's largest input becomes.
    levels: f32,
    n_in: usize,
    n_out: usize,
}

impl PackedShorts {
    /// Most inputs: as many as leave several rows to a block.
    pub const MAX_INPUTS: usize = BLOCK_SHORTS / 6;

    /// Packs `weights`, `[n_out][n_in]` row-major, and `bias`, `[n_out]`, for `isa`.
    ///
    /// # Panics
    /// When a length does not fit, or `n_in` is over [`MAX_INPUTS`](Self::MAX_INPUTS).
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], bias: &[f32], n_out: usize, n_in: usize) -> Self {
        assert_eq!(weights.len(), n_out * n_in, "weights are [n_out][n_in]");
        assert_eq!(bias.len(), n_out, "bias is [n_out]");
        assert!(n_in <= Self::MAX_INPUTS, "{n_in} inputs are too many");
        let lanes = isa.lanes();
        let n_columns: usize = panel_widths(n_out, lanes).sum();
        let n_pairs = n_in.div_ceil(2);
        let levels = input_levels(n_in);
        let mut packed_bias = AlignedFloats::zeroed(n_columns);
        packed_bias[..n_out].copy_from_slice(bias);
        let mut units = AlignedFloats::zeroed(n_columns);
        let mut panels = Aligned::zeroed(n_columns * n_pairs * 2);
        let (mut rest, mut first) = (&mut panels[..], 0);
        for width in panel_widths(n_out, lanes) {
            let (panel, others) = rest.split_at_mut(width * n_pairs * 2);
            for column in 0..width.min(n_out - first) {
                let weights = &weights[(first + column) * n_in..][..n_in];
                let (unit, ints) = quantise_column(weights, levels);
                units[first + column] = unit;
                for (k, int) in ints.into_iter().enumerate() {
                    panel[(k / 2 * width + column) * 2 + k % 2] = int;
                }
            }
            (rest, first) = (others, first + width);
        }
        Self {
            isa,
            bias: packed_bias,
            units,
            panels,
            levels,
            n_in,
            n_out,
        }
    }
}

/// The integer that a row's largest input becomes: inputs and weights share the 31 bits of a sum so that
/// both are rounded about equally, given weights and inputs of the usual distributions.
#[expect(
    clippy::cast_precision_loss,
    reason = "there are far fewer than 2^24 inputs"
)]
fn input_levels(n_in: usize) -> f32 {
    /// From the rounding of inputs whose largest is five times their mean square, and of weights that are
    /// normally distributed.
    const SHARED: f32 = 1.35e10;
    (SHARED / n_in.max(1) as f32).sqrt().min(16_383.0).floor()
}

/// What one step of a column's integers is worth, and the integers. A column with an infinity or a NaN gives
/// zeros whose step is worth a NaN.
pub(super) fn quantise_column(weights: &[f32], levels: f32) -> (f32, Vec<i16>) {
    let unit = column_unit(weights, levels);
    if !(unit > 0.0 && unit.is_finite()) {
        return (unit, vec![0; weights.len()]);
    }
    let ints: Vec<i16> = weights.iter().map(|w| nearest(w / unit)).collect();
    let largest: f64 = ints.iter().map(|&w| f64::from(w).abs()).sum();
    assert!(
        largest * f64::from(levels) <= f64::from(i32::MAX),
        "the sums of a column fit 32 bits"
    );
    (unit, ints)
}

/// The smallest unit with which a column's integers fit 16 bits and its sums fit 32; 0 where it would be too small to
/// be exact.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a scale may be rounded: there is a margin; there are far fewer than 2^53 inputs"
)]
fn column_unit(weights: &[f32], levels: f32) -> f32 {
    /// Covers what is lost by rounding the unit and the quotients.
    const MARGIN: f64 = 1.000_01;
    let sizes = || weights.iter().map(|w| f64::from(w.abs()));
    let (sum, largest) = (sizes().sum::<f64>(), sizes().fold(0.0, f64::max));
    if !sum.is_finite() {
        return f32::NAN;
    }
    // Each integer may be half a step larger than its weight.
    let n_steps = f64::from(i32::MAX) / f64::from(levels) - 0.5 * weights.len() as f64;
    let by_sum = sum / n_steps;
    let unit = (by_sum.max(largest / f64::from(i16::MAX)) * MARGIN) as f32;
    // A denormal unit would be rounded by more than the margin.
    if unit < f32::MIN_POSITIVE { 0.0 } else { unit }
}

/// The nearest integer, the even one of two, of what is below 2^15 in size.
#[inline(always)]
fn nearest(x: f32) -> i16 {
    let [low, high, ..] = (x + ROUND).to_bits().to_le_bytes();
    i16::from_le_bytes([low, high])
}

/// Rounds a row to integers, the largest to `levels`; what one step is worth. A row with an infinity or a
/// NaN gives zeros whose step is worth a NaN.
#[inline(always)]
pub(super) fn quantise_row(row: &[f32], levels: f32, ints: &mut [i16]) -> f32 {
    const SIZE: u32 = 0x7fff_ffff;
    // As integers, because sizes of floats have that order and LLVM finds no vectors for a maximum of floats.
    let largest = row
        .iter()
        .fold(0, |largest, x| (x.to_bits() & SIZE).max(largest));
    let largest = f32::from_bits(largest);
    let per_unit = levels / largest;
    // Not zero, nor so small that the quotient has no place among the floats.
    let factor = if per_unit.is_finite() && largest.is_finite() {
        per_unit
    } else {
        0.0
    };
    for (int, x) in ints.iter_mut().zip(row) {
        *int = nearest(x * factor);
    }
    if largest.is_finite() {
        largest / levels
    } else {
        f32::NAN
    }
}

#[cfg(test)]
impl PackedShorts {
    /// The integer that a row's largest input becomes.
    pub(super) fn levels(&self) -> f32 {
        self.levels
    }

    /// What one step of each column's integers is worth.
    pub(super) fn units(&self) -> &[f32] {
        &self.units[..self.n_out]
    }
}

impl Weights for PackedShorts {
    fn numbers(&self) -> &'static str {
        "int16"
    }

    fn bytes(&self) -> usize {
        self.bias.bytes() + self.units.bytes() + self.panels.bytes()
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
pub fn gemm_int16<O: Element>(
    m: &PackedShorts,
    a: MatRef<'_>,
    out: MatMut<'_, O>,
    epilogue: Epilogue<'_>,
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

struct Gemm<'a, O> {
    m: &'a PackedShorts,
    a: MatRef<'a>,
    out: MatMut<'a, O>,
    epilogue: Epilogue<'a>,
}

/// Rows of the operand as integers.
struct Block<'a> {
    /// Row after row, of pairs.
    pairs: &'a [[i16; 2]],
    /// What one step of each row's integers is worth.
    units: &'a [f32],
    /// The first of the rows.
    first: usize,
}

/// One panel, and where its columns go.
struct Panel<'a> {
    bias: &'a [f32],
    units: &'a [f32],
    /// Pairs of weights by pairs of inputs.
    weights: &'a [i16],
    columns: Columns,
}

impl<O: Element> Kernel for Gemm<'_, O> {
    const BF16: bool = O::IS_BF16;
    const VNNI: bool = true;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let n_in = self.m.n_in;
        let stride = n_in.next_multiple_of(2);
        let most_rows = (BLOCK_SHORTS / stride.max(1)).min(BLOCK_ROWS);
        // Long rows leave no whole tile to a block, but four rows.
        let tile = if most_rows < S::TILE_ROWS {
            4
        } else {
            S::TILE_ROWS
        };
        let most_rows = most_rows / tile * tile;
        let (mut small, mut large);
        let ints: &mut [i16] = if most_rows.min(self.a.rows) * stride <= SMALL_BLOCK_SHORTS {
            small = [0; SMALL_BLOCK_SHORTS];
            &mut small
        } else {
            large = [0; BLOCK_SHORTS];
            &mut large
        };
        let mut units = [0.0; BLOCK_ROWS];
        let mut first = 0;
        while first < self.a.rows {
            let n_rows = most_rows.min(self.a.rows - first);
            for r in 0..n_rows {
                let row = &self.a.data[(first + r) * self.a.stride..][..n_in];
                units[r] = quantise_row(row, self.m.levels, &mut ints[r * stride..][..n_in]);
            }
            let block = Block {
                pairs: ints[..n_rows * stride].as_chunks().0,
                units: &units[..n_rows],
                first,
            };
            self.block(s, &block);
            first += n_rows;
        }
    }
}

impl<O: Element> Gemm<'_, O> {
    /// The rows of one block, panel by panel.
    #[inline(always)]
    fn block<S: Simd>(&mut self, s: S, block: &Block<'_>) {
        let (n_in, n_out) = (self.m.n_in, self.m.n_out);
        let (mut rest, mut first) = (&self.m.panels[..], 0);
        while first < n_out {
            let n = (n_out - first).min(2 * S::LANES);
            let vectors = n.div_ceil(S::LANES);
            let (weights, others) = rest.split_at(n_in.next_multiple_of(2) * vectors * S::LANES);
            let panel = Panel {
                bias: &self.m.bias[first..][..vectors * S::LANES],
                units: &self.m.units[first..][..vectors * S::LANES],
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

    /// The rows of one block and one panel, in tiles.
    #[inline(always)]
    fn rows<S: Simd, const V: usize, const PART: bool>(
        &mut self,
        s: S,
        block: &Block<'_>,
        panel: &Panel<'_>,
    ) {
        let (mut row, end) = (0, block.units.len());
        while end - row >= S::TILE_ROWS {
            match S::TILE_ROWS {
                12 => self.tile::<S, 12, V, PART>(s, block, panel, row),
                6 => self.tile::<S, 6, V, PART>(s, block, panel, row),
                _ => self.tile::<S, 4, V, PART>(s, block, panel, row),
            }
            row += S::TILE_ROWS;
        }
        while end - row >= 4 {
            self.tile::<S, 4, V, PART>(s, block, panel, row);
            row += 4;
        }
        while row < end {
            self.tile::<S, 1, V, PART>(s, block, panel, row);
            row += 1;
        }
    }

    /// A tile of `R` rows and `V` vectors of columns, from row `row` of the block on.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize, const PART: bool>(
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
        let ints = multiply::<S, R, V>(
            s,
            &block.pairs[row * self.m.n_in.div_ceil(2)..],
            panel.weights,
        );
        let units = &block.units[row..][..R];
        let mut sums = [[s.splat(0.0); V]; R];
        for (v, (bias, column_units)) in panel
            .bias
            .chunks_exact(S::LANES)
            .zip(panel.units.chunks_exact(S::LANES))
            .enumerate()
        {
            let (bias, column_units) = (s.load(bias), s.load(column_units));
            for r in 0..R {
                let sum = s.ints_to_floats(ints[r][v]);
                let sum = s.mul_add(sum, s.splat(units[r]), s.splat(0.0));
                sums[r][v] = s.mul_add(sum, column_units, bias);
            }
        }
        let end = (&mut self.out, at, panel.columns);
        finish_tile::<S, f32, O, R, V, PART>(s, sums, &self.epilogue, end);
    }
}

/// The sums of the products of a tile's rows, which start at `pairs`, and a panel's weights.
#[inline(always)]
fn multiply<S: Simd, const R: usize, const V: usize>(
    s: S,
    pairs: &[[i16; 2]],
    weights: &[i16],
) -> [[S::Ints; V]; R] {
    let step = 2 * V * S::LANES;
    let n_pairs = weights.len() / step;
    let mut rows = [&pairs[..0]; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &pairs[r * n_pairs..][..n_pairs];
    }
    let mut sums = [[s.no_ints(); V]; R];
    for k in 0..n_pairs {
        let weights = &weights[k * step..][..step];
        let mut b = [s.no_ints(); V];
        for (v, b) in b.iter_mut().enumerate() {
            *b = s.load_ints(&weights[2 * v * S::LANES..]);
        }
        for r in 0..R {
            let x = s.splat_ints(rows[r][k]);
            for v in 0..V {
                sums[r][v] = s.dot_ints(x, b[v], sums[r][v]);
            }
        }
    }
    sums
}
