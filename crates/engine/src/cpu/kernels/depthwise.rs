//! The depthwise 3x3 convolution.
//!
//! Works on one vector of channels at a time and walks along the rows of pixels, so that the nine
//! weights and a window of three columns stay in registers: every input vector is loaded once for
//! each band of output rows. A band is two rows at stride 1, which is 1.5 times as fast as one row
//! (AVX2, 4x320x64). Borders cost nothing inside the walk: a row outside the tensor is a row of zeros
//! (with a step of 0), the columns outside are peeled off.
//!
//! A walk over planes reads memory line by line, which the hardware foresees; over pixels of many channels it
//! reads one line of each, which takes 1.2 times as long (4x320x128).
#![expect(unsafe_code, reason = "loads and stores without a check of the bounds")]

use std::ops::Range;

use super::{AlignedFloats, Element, Isa, isa::Kernel, simd::Simd};

/// Weights and bias of a depthwise 3x3 convolution, channel-last.
#[derive(Debug)]
pub struct PackedDepthwise {
    isa: Isa,
    /// `[c / lanes][10][lanes]`: the nine weights (row-major in the kernel), then the bias of one vector
    /// of channels; those past `c` are zeros.
    taps: AlignedFloats,
    c: usize,
}

/// Consecutive rows of a tensor, in a ring: the next strip's rows take the places of those that it no
/// longer needs, and nothing is moved.
#[derive(Debug, Clone)]
pub struct Strip<'a, E = f32> {
    /// `[n][width][c]`, dense; row `y` of the tensor is at `y % n`. In planes,
    /// `[vectors of channels][n][width][lanes]`.
    pub data: &'a [E],
    /// Elements from one vector of channels to the next, where each is a plane of its own, as
    /// [`MatMut::planes`](super::MatMut::planes) writes them for the same instruction set.
    pub plane: Option<usize>,
    /// Which rows are there; `n` of them at most.
    pub rows: Range<usize>,
    /// Pixels of a row.
    pub width: usize,
    /// Rows of the whole tensor; what lies outside them is zero.
    pub height: usize,
}

impl PackedDepthwise {
    /// Packs `weights`, `[c][3][3]`, and `bias`, `[c]`, for `isa`.
    ///
    /// # Panics
    /// When a length does not fit.
    #[must_use]
    pub fn pack(isa: Isa, weights: &[f32], bias: &[f32], c: usize) -> Self {
        assert_eq!(weights.len(), 9 * c, "weights are [c][3][3]");
        assert_eq!(bias.len(), c, "bias is [c]");
        let lanes = isa.lanes();
        let mut taps = AlignedFloats::zeroed(10 * c.next_multiple_of(lanes));
        for channel in 0..c {
            let vector = &mut taps[channel / lanes * 10 * lanes..][..10 * lanes];
            for tap in 0..9 {
                vector[tap * lanes + channel % lanes] = weights[channel * 9 + tap];
            }
            vector[9 * lanes + channel % lanes] = bias[channel];
        }
        Self { isa, taps, c }
    }

    /// Bytes that the packed weights take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.taps.bytes()
    }

    /// Channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.c
    }
}

/// Output rows `rows` of the depthwise 3x3 convolution of a tensor, padded by one zero pixel.
///
/// # Shapes
/// The whole output has `ceil(height / stride)` rows of `ceil(width / stride)` pixels; `out`
/// gets rows `rows` of it, dense, with `c` channels, or whole vectors of them if the input is planes. Output row `y` reads input rows `y * stride - 1 ..= y * stride + 1`,
/// which `input` must contain where they lie in the tensor.
///
/// # Panics
/// When the stride is neither 1 nor 2, a row wanted does not exist, an input row needed is not in
/// the strip, the strip has no room for its rows, or `out` has another length.
#[expect(
    clippy::too_many_arguments,
    reason = "a strip in, a strip out, and what lies between"
)]
pub fn depthwise3x3<I: Element, O: Element>(
    d: &PackedDepthwise,
    input: Strip<'_, I>,
    rows: Range<usize>,
    stride: usize,
    relu: bool,
    out: &mut [O],
) {
    assert!(
        matches!(stride, 1 | 2),
        "stride {stride} is neither 1 nor 2"
    );
    if rows.is_empty() || d.c == 0 || input.width == 0 {
        assert!(
            out.is_empty(),
            "nothing to compute, yet somewhere to put it"
        );
        return;
    }
    let out_height = input.height.div_ceil(stride);
    assert!(rows.end <= out_height, "rows past the end");
    // Planes are of whole vectors. Checked products: the loops below rely on these lengths.
    let (step, out_channels) = match input.plane {
        Some(_) => (d.isa.lanes(), d.c.next_multiple_of(d.isa.lanes())),
        None => (d.c, d.c),
    };
    let row_floats = input
        .width
        .checked_mul(step)
        .expect("a row fits the address space");
    let out_floats = (input.width.div_ceil(stride))
        .checked_mul(out_channels)
        .and_then(|row| row.checked_mul(rows.len()));
    assert_eq!(Some(out.len()), out_floats, "out is dense");
    let needed =
        (rows.start * stride).saturating_sub(1)..((rows.end - 1) * stride + 2).min(input.height);
    assert!(
        input.rows.start <= needed.start && needed.end <= input.rows.end,
        "rows {needed:?} are not all in the strip"
    );
    let places = input.plane.unwrap_or(input.data.len()) / row_floats;
    assert!(
        input.rows.len() <= places,
        "{} rows in {places} places",
        input.rows.len()
    );
    d.isa.run(Depthwise {
        d,
        input: &input,
        places,
        rows,
        stride,
        relu,
        out,
    });
}

struct Depthwise<'a, I, O> {
    d: &'a PackedDepthwise,
    input: &'a Strip<'a, I>,
    /// Rows that the strip has room for.
    places: usize,
    rows: Range<usize>,
    stride: usize,
    relu: bool,
    out: &'a mut [O],
}

/// The channels that one walk computes, of `c`: `n` from `first` on.
#[derive(Clone, Copy)]
struct Channels {
    first: usize,
    n: usize,
    c: usize,
}

/// One input row, of all channels or of one vector of them.
#[derive(Clone, Copy)]
struct Row<'a, E> {
    /// Of one vector: `n` elements at every `step`, for each pixel of the row.
    data: &'a [E],
    /// Elements from one pixel to the next.
    step: usize,
}

impl<E: Element> Row<'_, E> {
    /// The row above the first and below the last one.
    const ZERO: Self = Row {
        data: E::ZEROS,
        step: 0,
    };

    /// The `n` channels from element `first` on of a row of all channels, which has `width` pixels.
    #[inline(always)]
    fn channels(self, first: usize, n: usize, width: usize) -> Self {
        let first = if self.step == 0 { 0 } else { first };
        let len = (width - 1) * self.step + n;
        Row {
            data: &self.data[first..][..len],
            step: self.step,
        }
    }

    #[inline(always)]
    fn pixel<S: Simd, const PART: bool>(&self, s: S, x: usize, n: usize) -> S::Vector {
        if PART {
            E::load_part(s, &self.data[x * self.step..], n)
        } else {
            // SAFETY: the walk asks for pixels inside the row, and for whole vectors where `n` is one;
            // so this pixel's `n` elements are in `data`, as the field's comment says.
            unsafe { E::load_at(s, self.data, x * self.step) }
        }
    }
}

impl<'a, I: Element, O> Depthwise<'a, I, O> {
    /// What makes `out` of `IN` rows, the first of them being row `first - 1` of the tensor.
    #[inline(always)]
    fn band<'o, S: Simd, const IN: usize>(
        &self,
        first: usize,
        out: &'o mut [O],
    ) -> Band<'o, I, O, IN>
    where
        'a: 'o,
    {
        let Strip { data, width, .. } = *self.input;
        // Planes are of whole vectors.
        let (c, step, vector_stride) = match self.input.plane {
            Some(plane) => (self.d.c.next_multiple_of(S::LANES), S::LANES, plane),
            None => (self.d.c, self.d.c, S::LANES),
        };
        let mut rows = [Row::ZERO; IN];
        for (i, row) in rows.iter_mut().enumerate() {
            let y = first + i;
            if (1..=self.input.height).contains(&y) {
                let place = (y - 1) % self.places;
                row.data = &data[place * width * step..];
                row.step = step;
            }
        }
        Band {
            d: self.d,
            c,
            rows,
            vector_stride,
            width,
            relu: self.relu,
            out,
        }
    }
}

impl<I: Element, O: Element> Kernel for Depthwise<'_, I, O> {
    const BF16: bool = I::IS_BF16 || O::IS_BF16;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let row_floats = self.out.len() / self.rows.len();
        let (mut out, mut row) = (std::mem::take(&mut self.out), self.rows.start);
        while row < self.rows.end {
            let pair = self.stride == 1 && self.rows.end - row >= 2;
            let n_rows = if pair { 2 } else { 1 };
            let (now, later) = out.split_at_mut(n_rows * row_floats);
            if pair {
                self.band::<S, 4>(row, now).run::<S, 2, 1>(s);
            } else if self.stride == 1 {
                self.band::<S, 3>(row, now).run::<S, 1, 1>(s);
            } else {
                self.band::<S, 3>(2 * row, now).run::<S, 1, 2>(s);
            }
            (out, row) = (later, row + n_rows);
        }
    }
}

/// Output rows that are computed together, of `IN` input rows.
struct Band<'a, I, O, const IN: usize> {
    d: &'a PackedDepthwise,
    /// Channels of a pixel of the output.
    c: usize,
    rows: [Row<'a, I>; IN],
    /// Input elements from one vector of channels to the next.
    vector_stride: usize,
    /// Pixels of an input row.
    width: usize,
    relu: bool,
    out: &'a mut [O],
}

impl<I: Element, O: Element, const IN: usize> Band<'_, I, O, IN> {
    /// Makes `OUT` output rows.
    #[inline(always)]
    fn run<S: Simd, const OUT: usize, const STRIDE: usize>(mut self, s: S) {
        let c = self.c;
        for first in (0..c).step_by(S::LANES) {
            let n = (c - first).min(S::LANES);
            let channels = Channels { first, n, c };
            if n == S::LANES {
                self.walk::<S, OUT, STRIDE, false>(s, channels);
            } else {
                self.walk::<S, OUT, STRIDE, true>(s, channels);
            }
        }
    }

    /// One vector of channels, along the whole row.
    #[inline(always)]
    fn walk<S: Simd, const OUT: usize, const STRIDE: usize, const PART: bool>(
        &mut self,
        s: S,
        channels: Channels,
    ) {
        let Channels { first, n, .. } = channels;
        let mut taps = [s.splat(0.0); 10];
        for (tap, t) in taps.iter_mut().enumerate() {
            *t = s.load(&self.d.taps[10 * first + tap * S::LANES..]);
        }
        let mut rows = [Row::ZERO; IN];
        for (row, whole) in rows.iter_mut().zip(&self.rows) {
            *row = whole.channels(first / S::LANES * self.vector_stride, n, self.width);
        }
        // Columns x - 1, x and x + 1 of each row; the first one lies left of the tensor.
        let mut window = [[s.splat(0.0); 3]; IN];
        if STRIDE == 1 {
            for i in 0..IN {
                window[i][1] = rows[i].pixel::<S, PART>(s, 0, n);
            }
        }
        let out_width = self.width.div_ceil(STRIDE);
        let n_inside = (self.width + STRIDE - 2) / STRIDE;
        for x in 0..n_inside {
            for i in 0..IN {
                if STRIDE == 2 {
                    window[i][1] = rows[i].pixel::<S, PART>(s, 2 * x, n);
                }
                window[i][2] = rows[i].pixel::<S, PART>(s, STRIDE * x + 1, n);
            }
            self.emit::<S, OUT, STRIDE, PART>(s, (&window, &taps), x, channels);
            for columns in &mut window {
                if STRIDE == 1 {
                    columns[0] = columns[1];
                }
                columns[2 - STRIDE] = columns[2];
            }
        }
        if n_inside < out_width {
            for i in 0..IN {
                if STRIDE == 2 {
                    window[i][1] = rows[i].pixel::<S, PART>(s, 2 * n_inside, n);
                }
                window[i][2] = s.splat(0.0);
            }
            self.emit::<S, OUT, STRIDE, PART>(s, (&window, &taps), n_inside, channels);
        }
    }

    /// Pixel `x` of each output row, of the window around it.
    #[inline(always)]
    fn emit<S: Simd, const OUT: usize, const STRIDE: usize, const PART: bool>(
        &mut self,
        s: S,
        (window, taps): (&[[S::Vector; 3]; IN], &[S::Vector; 10]),
        x: usize,
        channels: Channels,
    ) {
        for o in 0..OUT {
            let mut sum = taps[9];
            for ky in 0..3 {
                for kx in 0..3 {
                    sum = s.mul_add(window[o * STRIDE + ky][kx], taps[ky * 3 + kx], sum);
                }
            }
            if self.relu {
                sum = s.relu(sum);
            }
            let row_floats = self.out.len() / OUT;
            let at = o * row_floats + x * channels.c + channels.first;
            if PART {
                O::store_part(s, &mut self.out[at..], channels.n, sum);
            } else {
                // SAFETY: `out` is `OUT` rows of `out_width * c` elements, `x < out_width`, and
                // `first + LANES <= c` as `n` is a whole vector.
                unsafe { O::store_at(s, self.out, at, sum) };
            }
        }
    }
}
