//! Dense convolutions of any kernel and stride, as matrix products that read the windows in place.
//!
//! As [`gemm`](super::gemm()) of unfolded windows ([`im2col`](super::im2col())), bit for bit: a window of a
//! padded tensor is one run of memory for each row of the kernel, and the sum runs over them in order.
//! But nothing is unfolded, which for a 3x3 kernel would write and read every number nine times.

use super::{
    Element, Epilogue, MatMut, PackedMatrix, Weights,
    gemm::{Columns, FETCHED_INPUTS, Panel, finish_tile},
    isa::Kernel,
    simd::Simd,
};

/// Weights from which on they are fetched ahead, in floats: beside the operand, they fill half of a 512 KiB
/// second-level cache.
const UNCACHED_WEIGHTS: usize = 64 * 1024;

/// What a convolution reads: rows of a tensor with the zeros around it, and which windows of it.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a, E = f32> {
    /// `[rows][width][c]`, dense.
    pub data: &'a [E],
    /// Pixels of a row.
    pub width: usize,
    /// Channels.
    pub c: usize,
    /// Rows and columns of a window.
    pub kernel: (usize, usize),
    /// Pixels from one window to the next, down and right.
    pub stride: (usize, usize),
    /// Rows of windows, and windows of a row.
    pub n: (usize, usize),
}

impl<E> Windows<'_, E> {
    /// Panics unless all windows are there, with as many numbers each as `m` has inputs.
    fn check(&self, m: &PackedMatrix) {
        let ((kernel_h, kernel_w), (rows, columns)) = (self.kernel, self.n);
        assert_eq!(
            kernel_h * kernel_w * self.c,
            m.n_in(),
            "n_in is kh * kw * c"
        );
        assert!(
            (columns - 1) * self.stride.1 + kernel_w <= self.width,
            "windows past the end of a row"
        );
        let n_rows = (rows - 1) * self.stride.0 + kernel_h;
        let needed = n_rows * self.width * self.c;
        assert!(
            needed <= self.data.len(),
            "windows: {needed} elements needed, {} given",
            self.data.len()
        );
    }
}

/// `out[p] = act(weights * window[p] + bias + added[p])` for every window, row by row. `m` holds the weights
/// `[n_out][kh][kw][c]`.
///
/// # Panics
/// When a window lies past the end, or `out` or what is added has no room for all windows.
pub fn convolve<O: Element>(
    m: &PackedMatrix,
    windows: Windows<'_>,
    out: MatMut<'_, O>,
    epilogue: Epilogue<'_>,
) {
    let n_windows = windows.n.0 * windows.n.1;
    if n_windows == 0 || m.n_out() == 0 {
        return;
    }
    windows.check(m);
    out.check((n_windows, m.n_out()), m.isa.lanes());
    epilogue
        .added
        .check((n_windows, m.n_out()), m.isa.lanes(), out.plane);
    m.isa.run(Convolve {
        m,
        windows,
        out,
        epilogue,
    });
}

struct Convolve<'a, O> {
    m: &'a PackedMatrix,
    windows: Windows<'a>,
    out: MatMut<'a, O>,
    epilogue: Epilogue<'a>,
}

impl<O: Element> Kernel for Convolve<'_, O> {
    const BF16: bool = O::IS_BF16;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (n_in, n_out) = (self.m.n_in(), self.m.n_out());
        let (mut rest, mut first) = (&self.m.panels[..], 0);
        while first < n_out {
            let n = (n_out - first).min(2 * S::LANES);
            let vectors = n.div_ceil(S::LANES);
            let (data, others) = rest.split_at((n_in + 1) * vectors * S::LANES);
            let panel = Panel {
                data,
                columns: Columns { first, n },
            };
            match (vectors, n.is_multiple_of(S::LANES)) {
                (2, true) if n_in * n_out >= UNCACHED_WEIGHTS => {
                    self.panel::<S, 2, false, true>(s, &panel);
                }
                (2, true) => self.panel::<S, 2, false, false>(s, &panel),
                (2, false) => self.panel::<S, 2, true, false>(s, &panel),
                (_, true) => self.panel::<S, 1, false, false>(s, &panel),
                (_, false) => self.panel::<S, 1, true, false>(s, &panel),
            }
            (rest, first) = (others, first + n);
        }
    }
}

impl<O: Element> Convolve<'_, O> {
    /// All windows and one panel, in tiles.
    #[inline(always)]
    fn panel<S: Simd, const V: usize, const PART: bool, const FETCH: bool>(
        &mut self,
        s: S,
        panel: &Panel<'_>,
    ) {
        let (mut at, end) = (0, self.windows.n.0 * self.windows.n.1);
        while end - at >= S::TILE_ROWS {
            match S::TILE_ROWS {
                12 => self.tile::<S, 12, V, PART, FETCH>(s, panel, at),
                6 => self.tile::<S, 6, V, PART, FETCH>(s, panel, at),
                _ => self.tile::<S, 4, V, PART, FETCH>(s, panel, at),
            }
            at += S::TILE_ROWS;
        }
        while end - at >= 4 {
            self.tile::<S, 4, V, PART, FETCH>(s, panel, at);
            at += 4;
        }
        // The last tensors of an encoder have nine pixels: three rows at once take a third of the loads.
        match end - at {
            3 => self.tile::<S, 3, V, PART, FETCH>(s, panel, at),
            2 => self.tile::<S, 2, V, PART, FETCH>(s, panel, at),
            1 => self.tile::<S, 1, V, PART, FETCH>(s, panel, at),
            _ => {}
        }
    }

    /// A tile of `R` windows from number `at` on and `V` vectors of columns.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize, const PART: bool, const FETCH: bool>(
        &mut self,
        s: S,
        panel: &Panel<'_>,
        at: usize,
    ) {
        let Windows {
            data,
            width,
            c,
            kernel,
            ..
        } = self.windows;
        let (bias, weights) = panel.data.split_at(V * S::LANES);
        let starts = self.starts::<R>(at);
        let mut sums = [[s.splat(0.0); V]; R];
        for sums in &mut sums {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = s.load(&bias[v * S::LANES..]);
            }
        }
        let run = kernel.1 * c;
        for ky in 0..kernel.0 {
            let mut a = [&data[..0]; R];
            for (a, start) in a.iter_mut().zip(&starts) {
                *a = &data[start + ky * width * c..][..run];
            }
            let weights = &weights[ky * run * V * S::LANES..];
            for k in 0..run {
                if FETCH {
                    let ahead = (k + FETCHED_INPUTS) * V * S::LANES;
                    s.prefetch(weights, ahead);
                    s.prefetch(weights, ahead + (V - 1) * S::LANES);
                }
                let weights = &weights[k * V * S::LANES..][..V * S::LANES];
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
        }
        let end = (&mut self.out, at, panel.columns);
        finish_tile::<S, f32, O, R, V, PART>(s, sums, &self.epilogue, end);
    }

    /// Where windows from number `at` on start.
    #[inline(always)]
    fn starts<const R: usize>(&self, at: usize) -> [usize; R] {
        let Windows {
            width,
            c,
            stride,
            n: (_, columns),
            ..
        } = self.windows;
        let (mut y, mut x) = (at / columns, at % columns);
        let mut starts = [0; R];
        for start in &mut starts {
            *start = (y * stride.0 * width + x * stride.1) * c;
            x += 1;
            if x == columns {
                (y, x) = (y + 1, 0);
            }
        }
        starts
    }
}

/// Writes rows `rows` of a tensor with zeros around it, dense.
///
/// # Shapes
/// `input` is a whole tensor `[h][w][c]`. `pad` is `(top, left, right)`; row `y` of the padded tensor is row
/// `y - top` of the tensor, or zeros where it has none. `out` is `[rows][left + w + right][c]`.
///
/// # Panics
/// When a length does not fit.
pub fn pad_rows<E: Element>(
    input: &[E],
    (h, w, c): (usize, usize, usize),
    (top, left, right): (usize, usize, usize),
    rows: std::ops::Range<usize>,
    out: &mut [E],
) {
    let width = (left + w + right) * c;
    assert_eq!(input.len(), h * w * c, "input is [h][w][c]");
    assert_eq!(out.len(), rows.len() * width, "out is [rows][width][c]");
    for (y, out) in rows.zip(out.chunks_exact_mut(width)) {
        match y.checked_sub(top).filter(|&y| y < h) {
            None => out.fill(E::ZERO),
            Some(y) => {
                let (before, rest) = out.split_at_mut(left * c);
                let (inside, after) = rest.split_at_mut(w * c);
                before.fill(E::ZERO);
                inside.copy_from_slice(&input[y * w * c..][..w * c]);
                after.fill(E::ZERO);
            }
        }
    }
}
