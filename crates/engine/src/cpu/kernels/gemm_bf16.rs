//! Matrix multiplication of bf16 numbers, summed in f32.
//!
//! As [`gemm`](super::gemm()), with two inputs of a row met by two weights in one instruction. Every
//! output element is one chain that starts at the bias and runs over the pairs of inputs in ascending
//! order, within a pair the second first; all instruction sets give the same bits.

use super::{
    Added, Aligned, AlignedFloats, Bf16, Element, Epilogue, Isa, MatMut, MatRef, Weights,
    gemm::panel_widths, isa::Kernel, resized::widen_tile, simd::Simd, unrolled::unrolled,
};

/// Operands with rows up to this long are fetched a tile ahead: the hardware takes a tile for a dozen
/// streams, and foresees them only where they are long.
const PREFETCHED_INPUTS: usize = 256;

/// Numbers of a cache line.
const LINE_NUMBERS: usize = 32;

/// Weights from which on they are taken to come from memory: they no longer fit in the second-level
/// cache beside the operand.
const UNCACHED_WEIGHTS: usize = 512 * 1024;

/// How many pairs of inputs ahead such weights are fetched.
const FETCHED_PAIRS: usize = 33;

/// Weights and bias of a 1x1 convolution, the weights in bf16, in the order in which one instruction
/// set reads them.
#[derive(Debug)]
pub struct PackedPairs {
    isa: Isa,
    /// As many as the panels have columns; those past `n_out` are zeros.
    bias: AlignedFloats,
    /// Panel after panel. A panel of `w` columns is, for each pair of inputs, the `w` pairs of weights
    /// that they meet; what lies past `n_out` and `n_in` is zeros.
    panels: Aligned<Bf16>,
    n_in: usize,
    n_out: usize,
}

impl PackedPairs {
    /// Packs `weights`, `[n_out][n_in]` row-major, and `bias`, `[n_out]`, for `isa`.
    ///
    /// # Panics
    /// When a length does not fit.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], bias: &[f32], n_out: usize, n_in: usize) -> Self {
        assert_eq!(weights.len(), n_out * n_in, "weights are [n_out][n_in]");
        assert_eq!(bias.len(), n_out, "bias is [n_out]");
        let lanes = isa.lanes();
        let n_columns: usize = panel_widths(n_out, lanes).sum();
        let n_pairs = n_in.div_ceil(2);
        let mut packed_bias = AlignedFloats::zeroed(n_columns);
        packed_bias[..n_out].copy_from_slice(bias);
        let mut panels = Aligned::zeroed(n_columns * n_pairs * 2);
        let (mut rest, mut first) = (&mut panels[..], 0);
        for width in panel_widths(n_out, lanes) {
            let (panel, others) = rest.split_at_mut(width * n_pairs * 2);
            let columns = width.min(n_out - first);
            for (pair, row) in panel.chunks_exact_mut(2 * width).enumerate() {
                for (i, w) in row[..2 * columns].iter_mut().enumerate() {
                    let (column, k) = (first + i / 2, 2 * pair + i % 2);
                    if k < n_in {
                        *w = Bf16::from_f32(weights[column * n_in + k]);
                    }
                }
            }
            (rest, first) = (others, first + width);
        }
        Self {
            isa,
            bias: packed_bias,
            panels,
            n_in,
            n_out,
        }
    }
}

impl Weights for PackedPairs {
    fn numbers(&self) -> &'static str {
        "bf16"
    }

    fn bytes(&self) -> usize {
        self.bias.bytes() + self.panels.bytes()
    }

    fn n_in(&self) -> usize {
        self.n_in
    }

    fn n_out(&self) -> usize {
        self.n_out
    }
}

/// `out[r] = act(weights * a[r] + bias + added[r])` for every row of `a`, each result rounded once.
///
/// Shapes and panics are those of [`gemm`](super::gemm()).
pub fn gemm_bf16<O: Element>(
    m: &PackedPairs,
    a: MatRef<'_, Bf16>,
    out: MatMut<'_, O>,
    epilogue: Epilogue<'_, Bf16>,
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
    m: &'a PackedPairs,
    a: MatRef<'a, Bf16>,
    out: MatMut<'a, O>,
    epilogue: Epilogue<'a, Bf16>,
}

/// One panel, and where its columns go.
struct Panel<'a> {
    /// One for each column, from the first on.
    bias: &'a [f32],
    /// Pairs of weights by pairs of inputs.
    weights: &'a [Bf16],
    /// The first column's place in a row of the result.
    first: usize,
    /// Columns that exist; fewer than the panel's width in the last panel.
    columns: usize,
}

/// As for f32: rows that stay in half of a 512 KiB second-level cache.
fn rows_per_block(n_in: usize) -> usize {
    const BLOCK_NUMBERS: usize = 128 * 1024;
    (BLOCK_NUMBERS / n_in.max(1)).next_multiple_of(12)
}

impl<O: Element> Kernel for Gemm<'_, O> {
    const BF16: bool = true;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (n_in, n_out) = (self.m.n_in, self.m.n_out);
        let block = rows_per_block(n_in);
        let pair_numbers = n_in.div_ceil(2) * 2;
        let mut row = 0;
        while row < self.a.rows {
            let end = self.a.rows.min(row + block);
            let (mut rest, mut first) = (&self.m.panels[..], 0);
            while first < n_out {
                let columns = (n_out - first).min(2 * S::LANES);
                let vectors = columns.div_ceil(S::LANES);
                let (weights, others) = rest.split_at(pair_numbers * vectors * S::LANES);
                let panel = Panel {
                    bias: &self.m.bias[first..],
                    weights,
                    first,
                    columns,
                };
                self.panel(s, &panel, row, end);
                (rest, first) = (others, first + columns);
            }
            row = end;
        }
    }
}

impl<O: Element> Gemm<'_, O> {
    /// Rows `row..end` of one panel.
    #[inline(always)]
    fn panel<S: Simd>(&mut self, s: S, panel: &Panel, row: usize, end: usize) {
        let is_pair = panel.columns > S::LANES;
        let is_part = !panel.columns.is_multiple_of(S::LANES);
        let is_large = self.m.n_in * self.m.n_out >= UNCACHED_WEIGHTS;
        // Where bf16 is emulated, speed is not worth the time to compile larger tiles.
        if S::MULTIPLIES_BF16 {
            match (is_pair, is_part) {
                (true, false) if is_large => self.rows::<S, 12, 2, false, true>(s, panel, row, end),
                (true, false) => self.rows::<S, 12, 2, false, false>(s, panel, row, end),
                (true, true) => self.rows::<S, 12, 2, true, false>(s, panel, row, end),
                (false, false) => self.rows::<S, 12, 1, false, false>(s, panel, row, end),
                (false, true) => self.rows::<S, 12, 1, true, false>(s, panel, row, end),
            }
        } else {
            match (is_pair, is_part) {
                (true, false) => self.rows::<S, 2, 2, false, false>(s, panel, row, end),
                (true, true) => self.rows::<S, 2, 2, true, false>(s, panel, row, end),
                (false, false) => self.rows::<S, 2, 1, false, false>(s, panel, row, end),
                (false, true) => self.rows::<S, 2, 1, true, false>(s, panel, row, end),
            }
        }
    }

    /// Rows `row..end` of one panel of `V` vectors, in tiles of `R` rows; the last vector may be cut
    /// off by the result's edge where `PART`, and the weights are fetched ahead where `FETCH`.
    #[inline(always)]
    fn rows<S: Simd, const R: usize, const V: usize, const PART: bool, const FETCH: bool>(
        &mut self,
        s: S,
        panel: &Panel,
        mut row: usize,
        end: usize,
    ) {
        // No network of the family has an odd number of channels inside: those rows go one by one.
        let is_even = self.m.n_in.is_multiple_of(2);
        let tile_end = if is_even { end } else { row };
        while tile_end - row >= R {
            self.tile::<S, R, V, PART, FETCH>(s, panel, row);
            row += R;
        }
        if S::MULTIPLIES_BF16 {
            // Strips of these networks mostly leave four rows.
            while tile_end - row >= 4 {
                self.tile::<S, 4, V, PART, FETCH>(s, panel, row);
                row += 4;
            }
        }
        while row < end {
            self.tile::<S, 1, V, PART, FETCH>(s, panel, row);
            row += 1;
        }
    }

    /// A tile of `R` rows and `V` vectors of columns; the number of inputs is even unless `R` is 1.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize, const PART: bool, const FETCH: bool>(
        &mut self,
        s: S,
        panel: &Panel,
        row: usize,
    ) {
        if let Added::Resized(resized) = &self.epilogue.added {
            widen_tile::<S, O, R, V>(s, resized, (row, panel.first), &mut self.out);
        }
        let n_in = self.m.n_in;
        let a = self.a.rows_from::<R>(row, n_in);
        let mut sums = [[s.splat(0.0); V]; R];
        for sums in &mut sums {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = s.load(&panel.bias[v * S::LANES..]);
            }
        }
        if panel.first == 0 && n_in <= PREFETCHED_INPUTS {
            self.fetch_rows(s, row + R, R);
        }
        multiply::<S, R, V, FETCH>(s, &a, panel.weights, &mut sums);
        let last = panel.columns - (V - 1) * S::LANES;
        match self.epilogue.added {
            Added::Nothing => {}
            Added::Matrix(MatRef { data, stride, .. }) => {
                let data = &data[row * stride + panel.first..];
                add::<S, R, V, PART>(s, &mut sums, (data, stride), last);
            }
            Added::Resized(_) => {
                add_result::<S, O, R, V>(s, &mut sums, &self.out, row, panel.first)
            }
        }
        if self.epilogue.relu {
            for sum in sums.as_flattened_mut() {
                *sum = s.relu(*sum);
            }
        }
        if let Some(plane) = self.out.plane {
            let data = &mut self.out.data[panel.first / S::LANES * plane + row * S::LANES..];
            for v in 0..V {
                let lines = &mut data[v * plane..][..R * S::LANES];
                unrolled!(r < R, {
                    O::store(s, &mut lines[r * S::LANES..], sums[r][v]);
                });
            }
            return;
        }
        unrolled!(r < R, {
            let out = &mut self.out.data[(row + r) * self.out.stride + panel.first..];
            for (v, &sum) in sums[r].iter().enumerate() {
                let out = &mut out[v * S::LANES..];
                if PART && v == V - 1 {
                    O::store_part(s, out, last, sum);
                } else {
                    O::store(s, out, sum);
                }
            }
        });
    }

    /// Fetches `n` rows of the operand from `row` on, which may lie past the end.
    #[inline(always)]
    fn fetch_rows<S: Simd>(&self, s: S, row: usize, n: usize) {
        let start = row * self.a.stride;
        for line in (0..n * self.a.stride).step_by(LINE_NUMBERS) {
            s.prefetch(self.a.data, start + line);
        }
    }
}

/// Adds the products of a tile's rows and a panel's weights to the sums.
#[inline(always)]
fn multiply<S: Simd, const R: usize, const V: usize, const FETCH: bool>(
    s: S,
    a: &[&[Bf16]; R],
    weights: &[Bf16],
    sums: &mut [[S::Vector; V]; R],
) {
    let step = 2 * V * S::LANES;
    let n_pairs = a[0].len() / 2;
    let mut pairs = [&a[0].as_chunks::<2>().0[..0]; R];
    for (pairs, a) in pairs.iter_mut().zip(a) {
        *pairs = &a.as_chunks::<2>().0[..n_pairs];
    }
    for k in 0..n_pairs {
        if FETCH {
            s.prefetch(weights, (k + FETCHED_PAIRS) * step);
            s.prefetch(weights, (k + FETCHED_PAIRS) * step + step / 2);
        }
        let weights = &weights[k * step..][..step];
        let mut b = [s.splat_pair([Bf16::ZERO; 2]); V];
        for (v, b) in b.iter_mut().enumerate() {
            *b = s.load_pairs(&weights[2 * v * S::LANES..]);
        }
        for r in 0..R {
            let x = s.splat_pair(pairs[r][k]);
            for v in 0..V {
                sums[r][v] = s.dot_pairs(x, b[v], sums[r][v]);
            }
        }
    }
    if R == 1 && a[0].len() > 2 * n_pairs {
        let x = s.splat_pair([a[0][2 * n_pairs], Bf16::ZERO]);
        for v in 0..V {
            let b = s.load_pairs(&weights[n_pairs * step + 2 * v * S::LANES..]);
            sums[0][v] = s.dot_pairs(x, b, sums[0][v]);
        }
    }
}

/// Adds a tile of `data` to the sums, of which the last vector has `last` columns where `PART`.
#[inline(always)]
fn add<S: Simd, const R: usize, const V: usize, const PART: bool>(
    s: S,
    sums: &mut [[S::Vector; V]; R],
    (data, stride): (&[Bf16], usize),
    last: usize,
) {
    unrolled!(r < R, {
        let added = &data[r * stride..];
        for (v, sum) in sums[r].iter_mut().enumerate() {
            let added = if PART && v == V - 1 {
                s.widen(&added[v * S::LANES..], last)
            } else {
                s.widen(&added[v * S::LANES..], S::LANES)
            };
            *sum = s.add(*sum, added);
        }
    });
}

/// Adds what is at the tile's place in the result, whose columns are planes.
#[expect(clippy::needless_range_loop, reason = "the rows are written out")]
#[inline(always)]
fn add_result<S: Simd, E: Element, const R: usize, const V: usize>(
    s: S,
    sums: &mut [[S::Vector; V]; R],
    out: &MatMut<'_, E>,
    row: usize,
    first: usize,
) {
    for v in 0..V {
        let lines = &out.data[out.place::<S>(row, first + v * S::LANES)..][..R * S::LANES];
        unrolled!(r < R, {
            sums[r][v] = s.add(sums[r][v], E::load(s, &lines[r * S::LANES..]));
        });
    }
}
