//! Matrix multiplication of bytes with exact 32-bit sums.
//!
//! As [`gemm_int16`](super::gemm_int16()), with inputs rounded to 7 bits and weights to 8 on the way. AVX2 multiplies
//! four bytes where it multiplies one float, but adds the products in pairs to 16 bits (`maddubs`), which
//! saturates, and has to multiply once more to widen them.
//!
//! **Nothing saturates, whatever the inputs.** So a sum of 16 bits may take [`STEPS`] pairs before it is widened,
//! which is what makes bytes faster than 16-bit integers. A column's scale is coarse enough for it, and
//! [`PackedBytes::pack`] checks it, sum by sum. Inputs of 7 bits leave weights all but the whole of their 8.
//!
//! **Every row has a scale of its own**, from its smallest to its largest input, with 0 between them. So there is no
//! calibration that could be wrong for a frame, and a row's result depends on that row alone. Every column has a
//! scale of its own, too.

use super::{
    Added, Aligned, AlignedFloats, Element, Epilogue, Isa, MatMut, MatRef, Weights,
    gemm::{Columns, finish_tile, panel_widths},
    isa::Kernel,
    resized::widen_tile,
    simd::Simd,
};

/// Inputs that a lane multiplies at once.
const QUAD: usize = 4;

/// Pairs of products that a sum of 16 bits takes before it is widened.
pub(super) const STEPS: usize = 4;

/// Inputs of a row that are multiplied between two widenings.
const GROUP: usize = QUAD * STEPS;

/// The largest input as an integer; the smallest is 0.
pub(super) const LEVELS: u8 = 127;

/// Most that the integers of one sign which one sum of 16 bits meets may add up to.
pub(super) const MAX_LANE_SUM: i32 = (i16::MAX as i32) / (LEVELS as i32);

/// Integers of a block of rows, which stays in the first-level cache: 28 KiB on the stack.
const BLOCK_BYTES: usize = 28 * 1024;

/// As [`BLOCK_BYTES`], where a product has so few rows: zeroing the larger block would take longer than rounding them.
const SMALL_BLOCK_BYTES: usize = 6 * 1024;

/// Most of [`Simd::BYTES`].
const MOST_BYTES: usize = 32;

/// Most rows of a block, a multiple of all tiles.
const BLOCK_ROWS: usize = 120;

/// Weights and bias of a 1x1 convolution, the weights as bytes, in the order in which one instruction set
/// reads them.
#[derive(Debug)]
pub struct PackedBytes {
    isa: Isa,
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
    /// Most inputs: as many as leave several rows to a block.
    pub const MAX_INPUTS: usize = BLOCK_BYTES / 12;

    /// Packs `weights`, `[n_out][n_in]` row-major, and `bias`, `[n_out]`, for `isa`.
    ///
    /// # Panics
    /// When a length does not fit, or `n_in` is over [`MAX_INPUTS`](Self::MAX_INPUTS).
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], bias: &[f32], n_out: usize, n_in: usize) -> Self {
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
                let (unit, ints) = quantise_column(weights);
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
            columns,
            panels,
            n_in,
            n_out,
        }
    }
}

/// The sum of a column's weights as they were rounded.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the nearest float is enough"
)]
fn sum_of(ints: &[i8], unit: f32) -> f32 {
    let sum: f64 = ints.iter().map(|&w| f64::from(w)).sum();
    (sum * f64::from(unit)) as f32
}

/// Sums of the numbers above and below zero, in size, that meet in each sum of 16 bits.
fn lane_sums<T: Copy>(numbers: &[T], to_f64: impl Fn(T) -> f64) -> impl Iterator<Item = f64> {
    let sums = move |group: &[T]| {
        let mut sums = [[0.0; 2]; 2];
        for (k, &number) in group.iter().enumerate() {
            let number = to_f64(number);
            sums[k % QUAD / 2][usize::from(number < 0.0)] += number.abs();
        }
        sums.as_flattened().iter().copied().fold(0.0, f64::max)
    };
    numbers.chunks(GROUP).map(sums)
}

/// What one step of a column's integers is worth, and the integers. A column with an infinity or a NaN gives
/// zeros whose step is worth a NaN.
pub(super) fn quantise_column(weights: &[f32]) -> (f32, Vec<i8>) {
    let unit = column_unit(weights);
    if !(unit > 0.0 && unit.is_finite()) {
        return (unit, vec![0; weights.len()]);
    }
    let ints: Vec<i8> = weights.iter().map(|w| nearest(w / unit)).collect();
    let largest = lane_sums(&ints, f64::from).fold(0.0, f64::max);
    assert!(
        largest <= f64::from(MAX_LANE_SUM),
        "no sum of 16 bits saturates"
    );
    (unit, ints)
}

/// The nearest integer of what is below 128 in size.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the caller's scale keeps it within 8 bits"
)]
fn nearest(x: f32) -> i8 {
    x.round_ties_even() as i8
}

/// The smallest unit with which a column's integers fit 8 bits and no sum of 16 bits can saturate; 0 where it would be
/// too small to be exact.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a scale may be rounded: there is a margin; a group has few inputs"
)]
fn column_unit(weights: &[f32]) -> f32 {
    /// Covers what is lost by rounding the unit and the quotients.
    const MARGIN: f64 = 1.000_01;
    let sum: f64 = weights.iter().map(|&w| f64::from(w).abs()).sum();
    if !sum.is_finite() {
        return f32::NAN;
    }
    let largest = weights.iter().fold(0.0, |m: f32, w| m.max(w.abs()));
    let lane = lane_sums(weights, f64::from).fold(0.0, f64::max);
    // Each integer may be half a step larger than its weight.
    let n_steps = f64::from(MAX_LANE_SUM) - 0.5 * (GROUP / 2) as f64;
    let by_size = f64::from(largest) / f64::from(i8::MAX);
    let unit = (by_size.max(lane / n_steps) * MARGIN) as f32;
    // A denormal unit would be rounded by more than the margin.
    if unit < f32::MIN_POSITIVE { 0.0 } else { unit }
}

/// What the integers of a row are worth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct RowScale {
    /// What one step is worth.
    pub unit: f32,
    /// What 0 stands for.
    pub zero: f32,
}

/// Rounds a row to integers, the smallest input (or 0, if none is below) to 0 and the largest to [`LEVELS`]. A
/// row with an infinity or a NaN gets a unit that is a NaN.
#[inline(always)]
pub(super) fn quantise_row<S: Simd>(s: S, row: &[f32], ints: &mut [u8]) -> RowScale {
    let zero = s.splat(0.0);
    // Two chains of each, since each waits for the one before.
    let (mut low, mut high, mut odd) = ([zero; 2], [zero; 2], [zero; 2]);
    let (pairs, rest) = row.split_at(row.len() / (2 * S::LANES) * (2 * S::LANES));
    for pair in pairs.chunks_exact(2 * S::LANES) {
        for chain in 0..2 {
            let x = s.load(&pair[chain * S::LANES..]);
            low[chain] = s.min(low[chain], x);
            high[chain] = s.max(high[chain], x);
            // Minimum and maximum lose a NaN; this does not.
            odd[chain] = s.mul_add(x, zero, odd[chain]);
        }
    }
    let (last, tail) = rest.split_at(rest.len() / S::LANES * S::LANES);
    if !last.is_empty() {
        let x = s.load(last);
        (low[0], high[0]) = (s.min(low[0], x), s.max(high[0], x));
        odd[0] = s.mul_add(x, zero, odd[0]);
    }
    let mut least = s.least(s.min(low[0], low[1]));
    let mut most = -s.least(s.sub(zero, s.max(high[0], high[1])));
    let mut odd = s.sum(s.add(odd[0], odd[1]));
    for &x in tail {
        least = if x < least { x } else { least };
        most = if x > most { x } else { most };
        odd += x * 0.0;
    }
    let range = most - least;
    let factor = f32::from(LEVELS) / range;
    let factor = if factor.is_finite() { factor } else { 0.0 };
    let offset = -least * factor;
    let (factors, offsets) = (s.splat(factor), s.splat(offset));
    let n_bytes = row.len() / S::BYTES * S::BYTES;
    for (x, ints) in row[..n_bytes]
        .chunks_exact(S::BYTES)
        .zip(ints.chunks_exact_mut(S::BYTES))
    {
        s.round_to_bytes(x, (factors, offsets), ints);
    }
    let rest = &row[n_bytes..];
    if !rest.is_empty() {
        let (mut last, mut rounded) = ([0.0; MOST_BYTES], [0; MOST_BYTES]);
        last[..rest.len()].copy_from_slice(rest);
        s.round_to_bytes(&last, (factors, offsets), &mut rounded);
        ints[n_bytes..].copy_from_slice(&rounded[..rest.len()]);
    }
    RowScale {
        unit: range / f32::from(LEVELS) + odd,
        zero: least,
    }
}

/// The nearest integer of what lies between 0 and [`LEVELS`], but for rounding; anything of a NaN.
#[inline(always)]
pub(super) fn nearest_byte(x: f32) -> u8 {
    /// Added to a float below 2^22 in size, leaves its nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    (x + ROUND).to_bits().to_le_bytes()[0]
}

#[cfg(test)]
impl PackedBytes {
    /// What one step of a column's integers is worth.
    pub(super) fn unit(&self, column: usize) -> f32 {
        let lanes = self.isa.lanes();
        self.columns[column / lanes * 3 * lanes + lanes + column % lanes]
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
pub fn gemm_int8<O: Element>(
    m: &PackedBytes,
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
    m: &'a PackedBytes,
    a: MatRef<'a>,
    out: MatMut<'a, O>,
    epilogue: Epilogue<'a>,
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

impl<O: Element> Kernel for Gemm<'_, O> {
    const BF16: bool = O::IS_BF16;

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
            for r in 0..n_rows {
                let row = &self.a.data[(first + r) * self.a.stride..][..n_in];
                scales[r] = quantise_row(s, row, &mut ints[r * stride..][..n_in]);
            }
            let block = Block {
                quads: ints[..n_rows * stride].as_chunks().0,
                scales: &scales[..n_rows],
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

    /// The rows of one block and one panel, in tiles of half as many rows as floats have: every sum needs two
    /// registers.
    #[inline(always)]
    fn rows<S: Simd, const V: usize, const PART: bool>(
        &mut self,
        s: S,
        block: &Block<'_>,
        panel: &Panel<'_>,
    ) {
        let (mut row, end, n_tile) = (0, block.scales.len(), S::TILE_ROWS / 2);
        while end - row >= n_tile {
            match n_tile {
                6 => self.tile::<S, 6, V, PART>(s, block, panel, row),
                3 => self.tile::<S, 3, V, PART>(s, block, panel, row),
                _ => self.tile::<S, 2, V, PART>(s, block, panel, row),
            }
            row += n_tile;
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
        let n_quads = self.m.n_in.next_multiple_of(GROUP) / QUAD;
        let ints = multiply::<S, R, V>(s, &block.quads[row * n_quads..], panel.weights);
        let scales = &block.scales[row..][..R];
        let mut sums = [[s.splat(0.0); V]; R];
        for (v, facts) in panel.facts.chunks_exact(3 * S::LANES).enumerate() {
            // No closures around vectors: they are compiled for no instruction set.
            let (bias, units) = (s.load(facts), s.load(&facts[S::LANES..]));
            let totals = s.load(&facts[2 * S::LANES..]);
            for r in 0..R {
                let sum = s.ints_to_floats(ints[r][v]);
                let sum = s.mul_add(sum, s.splat(scales[r].unit), s.splat(0.0));
                let offset = s.mul_add(totals, s.splat(scales[r].zero), bias);
                sums[r][v] = s.mul_add(sum, units, offset);
            }
        }
        let end = (&mut self.out, at, panel.columns);
        finish_tile::<S, O, R, V, PART>(s, sums, &self.epilogue, end);
    }
}

/// The sums of the products of a tile's rows, which start at `quads`, and a panel's weights.
#[inline(always)]
fn multiply<S: Simd, const R: usize, const V: usize>(
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
