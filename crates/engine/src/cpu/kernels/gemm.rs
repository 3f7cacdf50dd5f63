//! Matrix multiplication with packed weights: the 1x1 convolution.
//!
//! The inner loop computes a tile of `TILE_ROWS` rows by two vectors of columns that stays in
//! registers over the whole sum. Every output element is one chain of multiply-adds that starts at
//! the bias and runs over the inputs in ascending order, in every tile shape: that is why a row's
//! result depends on that row alone. The sum is never split into blocks, for the same reason.
//!
//! Where there are few inputs, a tile takes as long around its sum as in it. So the sum's loop checks no bounds, and each
//! row is found from the one before: finding it by its number takes a multiplication and a check more.

use super::{
    Added, AlignedFloats, Element, Epilogue, Isa, MatMut, MatRef, aligned::LINE_FLOATS,
    element::Weights, isa::Kernel, resized::widen_tile, simd::Simd,
};

/// Operands with rows up to this long are fetched a tile ahead: the hardware takes a tile for a dozen
/// streams, and foresees them only where they are long.
const PREFETCHED_INPUTS: usize = 128;

/// Weights from which on they are taken to come from memory, in floats: they no longer fit in the
/// second-level cache beside the operand.
const UNCACHED_WEIGHTS: usize = 256 * 1024;

/// How many inputs ahead such weights are fetched. The hardware does the same but stops at every
/// page, which is every 32 inputs.
pub(super) const FETCHED_INPUTS: usize = 64;

/// Weights and bias of a 1x1 convolution, in the order in which one instruction set reads them.
#[derive(Debug)]
pub struct PackedMatrix {
    pub(super) isa: Isa,
    /// Panel after panel. A panel of `w` columns is the bias of its columns, then for each input the
    /// `w` weights that it meets; columns past `n_out` are zeros.
    pub(super) panels: AlignedFloats,
    n_in: usize,
    n_out: usize,
}

impl PackedMatrix {
    /// Packs `weights`, `[n_out][n_in]` row-major, and `bias`, `[n_out]`, for `isa`.
    ///
    /// # Panics
    /// When a length does not fit.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], bias: &[f32], n_out: usize, n_in: usize) -> Self {
        assert_eq!(weights.len(), n_out * n_in, "weights are [n_out][n_in]");
        assert_eq!(bias.len(), n_out, "bias is [n_out]");
        let lanes = isa.lanes();
        let n_floats: usize = panel_widths(n_out, lanes).sum::<usize>() * (n_in + 1);
        let mut panels = AlignedFloats::zeroed(n_floats);
        let (mut rest, mut first) = (&mut panels[..], 0);
        for width in panel_widths(n_out, lanes) {
            let (panel, others) = rest.split_at_mut(width * (n_in + 1));
            let columns = width.min(n_out - first);
            let (packed_bias, packed) = panel.split_at_mut(width);
            packed_bias[..columns].copy_from_slice(&bias[first..first + columns]);
            for (k, row) in packed.chunks_exact_mut(width).enumerate() {
                for (column, w) in row[..columns].iter_mut().enumerate() {
                    *w = weights[(first + column) * n_in + k];
                }
            }
            (rest, first) = (others, first + width);
        }
        Self {
            isa,
            panels,
            n_in,
            n_out,
        }
    }
}

impl Weights for PackedMatrix {
    fn numbers(&self) -> &'static str {
        "f32"
    }

    fn bytes(&self) -> usize {
        self.panels.bytes()
    }

    fn n_in(&self) -> usize {
        self.n_in
    }

    fn n_out(&self) -> usize {
        self.n_out
    }
}

/// Widths of the panels of `n_out` columns: two vectors each, and one for what is left where that
/// is enough.
pub(super) fn panel_widths(n_out: usize, lanes: usize) -> impl Iterator<Item = usize> {
    let pairs = n_out / (2 * lanes);
    let rest = (n_out % (2 * lanes)).div_ceil(lanes) * lanes;
    std::iter::repeat_n(2 * lanes, pairs).chain((rest > 0).then_some(rest))
}

/// `out[r] = act(weights * a[r] + bias + added[r])` for every row of `a`.
///
/// # Shapes
/// `a` is `[rows][n_in]`, `out` and a matrix that is added `[rows][n_out]`, each with a stride of its own;
/// `out` may be planes of the instruction set's vectors.
///
/// # Panics
/// When a stride is shorter than a row, a slice or plane shorter than its rows, planes are of another
/// width, or a resized addition meets a result that is not in planes.
pub fn gemm<O: Element>(
    m: &PackedMatrix,
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
    m: &'a PackedMatrix,
    a: MatRef<'a>,
    out: MatMut<'a, O>,
    epilogue: Epilogue<'a>,
}

/// One panel, and where its columns go.
pub(super) struct Panel<'a> {
    /// Bias, then weights by input.
    pub data: &'a [f32],
    pub columns: Columns,
}

/// Where the columns of a panel go.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// The first column's place in a row of the result.
    pub first: usize,
    /// Columns that exist; fewer than the panel's width in the last panel.
    pub n: usize,
}

/// Rows of the operand that are multiplied with every panel before the next rows are: as many as
/// stay in half of a 512 KiB second-level cache, so that the operand is read from memory once. The
/// panels are read again for each block, hence not fewer rows.
fn rows_per_block(n_in: usize, tile_rows: usize) -> usize {
    const BLOCK_FLOATS: usize = 64 * 1024;
    (BLOCK_FLOATS / n_in.max(1)).next_multiple_of(tile_rows)
}

impl<O: Element> Kernel for Gemm<'_, O> {
    const BF16: bool = O::IS_BF16;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (n_in, n_out) = (self.m.n_in, self.m.n_out);
        let block = rows_per_block(n_in, S::TILE_ROWS);
        let mut row = 0;
        while row < self.a.rows {
            let end = self.a.rows.min(row + block);
            let (mut rest, mut first) = (&self.m.panels[..], 0);
            while first < n_out {
                let columns = (n_out - first).min(2 * S::LANES);
                let vectors = columns.div_ceil(S::LANES);
                let (data, others) = rest.split_at((n_in + 1) * vectors * S::LANES);
                let panel = Panel {
                    data,
                    columns: Columns { first, n: columns },
                };
                match (vectors, columns % S::LANES == 0) {
                    (2, true) if n_in * n_out >= UNCACHED_WEIGHTS => {
                        self.rows::<S, 2, false, true>(s, &panel, row, end);
                    }
                    (2, true) => self.rows::<S, 2, false, false>(s, &panel, row, end),
                    (2, false) => self.rows::<S, 2, true, false>(s, &panel, row, end),
                    (_, true) => self.rows::<S, 1, false, false>(s, &panel, row, end),
                    (_, false) => self.rows::<S, 1, true, false>(s, &panel, row, end),
                }
                (rest, first) = (others, first + columns);
            }
            row = end;
        }
    }
}

impl<O: Element> Gemm<'_, O> {
    /// Rows `row..end` of one panel of `V` vectors, in tiles; the last vector is cut off by the result's
    /// edge where `PART`, and the weights are fetched ahead where `FETCH`.
    #[inline(always)]
    fn rows<S: Simd, const V: usize, const PART: bool, const FETCH: bool>(
        &mut self,
        s: S,
        panel: &Panel,
        mut row: usize,
        end: usize,
    ) {
        while end - row >= S::TILE_ROWS {
            match S::TILE_ROWS {
                12 => self.tile::<S, 12, V, PART, FETCH>(s, panel, row),
                6 => self.tile::<S, 6, V, PART, FETCH>(s, panel, row),
                _ => self.tile::<S, 4, V, PART, FETCH>(s, panel, row),
            }
            row += S::TILE_ROWS;
        }
        // Strips of these networks mostly leave four rows.
        while end - row >= 4 {
            self.tile::<S, 4, V, PART, FETCH>(s, panel, row);
            row += 4;
        }
        while row < end {
            self.tile::<S, 1, V, PART, FETCH>(s, panel, row);
            row += 1;
        }
    }

    /// A tile of `R` rows and `V` vectors of columns.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize, const PART: bool, const FETCH: bool>(
        &mut self,
        s: S,
        panel: &Panel,
        row: usize,
    ) {
        if let Added::Resized(resized) = &self.epilogue.added {
            widen_tile::<S, O, R, V>(s, resized, (row, panel.columns.first), &mut self.out);
        }
        let n_in = self.m.n_in;
        let (bias, weights) = panel.data.split_at(V * S::LANES);
        let a = self.a.rows_from::<R>(row, n_in);
        let mut sums = [[s.splat(0.0); V]; R];
        for sums in &mut sums {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = s.load(&bias[v * S::LANES..]);
            }
        }
        if panel.columns.first == 0 && n_in <= PREFETCHED_INPUTS {
            self.fetch_rows(s, row + R, R);
        }
        // Zipped, so that neither the operand's bounds nor those of the weights are checked.
        for (k, weights) in (0..n_in).zip(weights.chunks_exact(V * S::LANES)) {
            if FETCH {
                let ahead = FETCHED_INPUTS * V * S::LANES;
                s.prefetch(weights, ahead);
                s.prefetch(weights, ahead + (V - 1) * S::LANES);
            }
            let mut b = [s.splat(0.0); V];
            for (v, b) in b.iter_mut().enumerate() {
                *b = s.load(&weights[v * S::LANES..]);
            }
            for r in 0..R {
                let x = s.splat(a[r][k]);
                for v in 0..V {
                    sums[r][v] = s.mul_add(x, b[v], sums[r][v]);
                }
            }
        }
        finish_tile::<S, f32, O, R, V, PART>(
            s,
            sums,
            &self.epilogue,
            (&mut self.out, row, panel.columns),
        );
    }

    /// Fetches `n` rows of the operand from `row` on, which may lie past the end.
    #[inline(always)]
    fn fetch_rows<S: Simd>(&self, s: S, row: usize, n: usize) {
        let start = row * self.a.stride;
        for line in (0..n * self.a.stride).step_by(LINE_FLOATS) {
            s.prefetch(self.a.data, start + line);
        }
    }
}

/// Adds what the epilogue says to a tile's sums, which start at row `row`, and writes them.
#[inline(always)]
pub(super) fn finish_tile<
    S: Simd,
    A: Element,
    O: Element,
    const R: usize,
    const V: usize,
    const PART: bool,
>(
    s: S,
    mut sums: [[S::Vector; V]; R],
    epilogue: &Epilogue<'_, A>,
    (out, row, columns): (&mut MatMut<'_, O>, usize, Columns),
) {
    match epilogue.added {
        Added::Nothing => {}
        Added::Matrix(MatRef { data, stride, .. }) => {
            add_rows::<S, A, R, V, PART>(s, &mut sums, (&data[row * stride..], stride), columns);
        }
        Added::Resized(_) => add_result::<S, O, R, V>(s, &mut sums, out, row, columns.first),
    }
    if epilogue.relu {
        for sum in sums.as_flattened_mut() {
            *sum = s.relu(*sum);
        }
    }
    store::<S, O, R, V, PART>(s, &sums, (out, row, columns));
}

/// Writes a tile's results.
#[inline(always)]
fn store<S: Simd, O: Element, const R: usize, const V: usize, const PART: bool>(
    s: S,
    sums: &[[S::Vector; V]; R],
    (out, row, Columns { first, n }): (&mut MatMut<'_, O>, usize, Columns),
) {
    if let Some(plane) = out.plane {
        let data = &mut out.data[first / S::LANES * plane + row * S::LANES..];
        for v in 0..V {
            let lines = &mut data[v * plane..][..R * S::LANES];
            for (r, sums) in sums.iter().enumerate() {
                O::store(s, &mut lines[r * S::LANES..], sums[v]);
            }
        }
        return;
    }
    let mut rest = &mut out.data[row * out.stride + first..];
    for (r, sums) in sums.iter().enumerate() {
        if r > 0 {
            rest = &mut rest[out.stride..];
        }
        for (v, &sum) in sums.iter().enumerate() {
            let out = &mut rest[v * S::LANES..];
            if PART && v == V - 1 {
                O::store_part(s, out, n - v * S::LANES, sum);
            } else {
                O::store(s, out, sum);
            }
        }
    }
}

/// Adds a tile of `data`, which starts with the tile's first row, to `sums`.
#[inline(always)]
fn add_rows<S: Simd, A: Element, const R: usize, const V: usize, const PART: bool>(
    s: S,
    sums: &mut [[S::Vector; V]; R],
    (data, stride): (&[A], usize),
    columns: Columns,
) {
    let mut rest = &data[columns.first..];
    for (r, sums) in sums.iter_mut().enumerate() {
        if r > 0 {
            rest = &rest[stride..];
        }
        for (v, sum) in sums.iter_mut().enumerate() {
            let added = if PART && v == V - 1 {
                A::load_part(s, &rest[v * S::LANES..], columns.n - v * S::LANES)
            } else {
                A::load(s, &rest[v * S::LANES..])
            };
            *sum = s.add(*sum, added);
        }
    }
}

/// Adds what is at the tile's place in the result, whose columns are planes.
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
        for (r, sums) in sums.iter_mut().enumerate() {
            sums[v] = s.add(sums[v], E::load(s, &lines[r * S::LANES..]));
        }
    }
}
