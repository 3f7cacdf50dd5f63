//! Resizing as OpenCV's `INTER_CUBIC` does it; [`linear`] has its `INTER_LINEAR`.
//!
//! The networks were trained on OpenCV's output, and other libraries differ from it by up to 168 levels.
//! So this small kernel is our own: cubic convolution with `a = -0.75`, half-pixel centres,
//! replicated borders, and four taps whatever the scale, that is, **no antialiasing**. Between the
//! two passes values stay unrounded and unclamped. OpenCV itself rounds its weights to 11 bits for
//! u8 pictures, which moves a pixel by at most one level.
//!
//! Source: `resize.cpp` of OpenCV's imgproc module (`interpolateCubic`, `HResizeCubic`).

mod linear;

use lipsync_core::face::ResizeFilter;

use crate::picture::PIXEL_BYTES;

/// Weights of one output position: four, and where in the source they start.
struct Tap {
    /// Index of the source pixel under the first weight; from -2 to `n_source - 1`.
    first: isize,
    weights: [f32; 4],
}

/// Pixels added on either side of a row, so that every tap is on it: see [`Tap::first`].
const MARGIN_PX: usize = 2;

/// Source rows that one target row is blended of.
const N_BLENDED: usize = 4;

/// The source picture: rows of interleaved pixels with three channels, each possibly in pieces.
///
/// Neither side may be 0; the callers' types see to that.
pub(crate) trait Source {
    /// Width, px.
    fn width(&self) -> usize;
    /// Height, px.
    fn height(&self) -> usize;
    /// The bytes of a row, one piece after the other.
    fn row(&self, y: usize) -> [&[u8]; 3];
}

/// Resizes to as many rows as `target` has; all of them have one length, and are not empty.
pub(crate) fn resize<'a>(
    filter: ResizeFilter,
    source: &impl Source,
    target: impl ExactSizeIterator<Item = &'a mut [u8]>,
) {
    // Chooses the widest registers that the processor has. They change no result: products are not
    // fused with sums.
    let arch = pulp::Arch::new();
    match filter {
        ResizeFilter::Cubic => arch.dispatch(Resize { source, target }),
        ResizeFilter::Linear => arch.dispatch(linear::Resize { source, target }),
    }
}

struct Resize<'s, S, T> {
    source: &'s S,
    target: T,
}

impl<'a, S: Source, T: ExactSizeIterator<Item = &'a mut [u8]>> pulp::NullaryFnOnce
    for Resize<'_, S, T>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { source, target } = self;
        let n_source = source.width();
        let mut rows = FloatRows::new(n_source * PIXEL_BYTES);
        // One source row, blended of four, with margins; then one target row before rounding. Both
        // are a float longer than their pixels: see `resample_row`.
        let mut blended = vec![0.0; (n_source + 2 * MARGIN_PX) * PIXEL_BYTES + 1];
        let mut columns = Vec::new();
        let mut resampled = Vec::new();
        // Rows first: that pass runs over contiguous memory, and skips what a smaller target lacks.
        let row_taps = taps(source.height(), target.len());
        for (out, tap) in target.zip(row_taps) {
            if columns.is_empty() {
                columns = taps(n_source, out.len() / PIXEL_BYTES)
                    .map(Column::from)
                    .collect();
                resampled = vec![0.0; out.len() + 1];
            }
            rows.blend(source, &tap, &mut blended);
            resample_row(&blended, &columns, &mut resampled);
            for (byte, value) in out.iter_mut().zip(&resampled) {
                *byte = to_byte(*value);
            }
        }
    }
}

/// The taps of every output position along one axis.
fn taps(n_source: usize, n_target: usize) -> impl Iterator<Item = Tap> {
    let scale = n_source as f64 / n_target as f64;
    (0..n_target).map(move |i| {
        let centre = (i as f64 + 0.5) * scale - 0.5;
        let whole = centre.floor();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the whole part is at least -1 and less than the source's side"
        )]
        Tap {
            first: whole as isize - 1,
            weights: cubic_weights((centre - whole) as f32),
        }
    })
}

/// Cubic convolution weights of the pixels at -1, 0, 1 and 2 for a position in 0..1.
fn cubic_weights(x: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let before = ((A * (x + 1.0) - 5.0 * A) * (x + 1.0) + 8.0 * A) * (x + 1.0) - 4.0 * A;
    let (left, right) = (near(x), near(1.0 - x));
    [before, left, right, 1.0 - before - left - right]
}

/// The source rows under one target row, as floats.
///
/// Neighbouring target rows share most of them, so that each source row is converted once.
struct FloatRows {
    rows: [Vec<f32>; N_BLENDED],
    /// Which row of the source each one is.
    held: [Option<usize>; N_BLENDED],
}

impl FloatRows {
    fn new(n_floats: usize) -> Self {
        Self {
            rows: [(); N_BLENDED].map(|()| vec![0.0; n_floats]),
            held: [None; N_BLENDED],
        }
    }

    /// Blends four source rows into one, and repeats its border pixels in the margins.
    #[inline(always)]
    fn blend(&mut self, source: &impl Source, tap: &Tap, blended: &mut [f32]) {
        let last = source.height() - 1;
        let row = |i: usize| {
            let y = tap.first.saturating_add_unsigned(i);
            y.max(0).unsigned_abs().min(last)
        };
        for y in [row(0), row(1), row(2), row(3)] {
            self.hold(source, y);
        }
        let float_row = |i: usize| &self.rows[row(i) % N_BLENDED];
        let [w0, w1, w2, w3] = tap.weights;
        let margin = MARGIN_PX * PIXEL_BYTES;
        let end = margin + float_row(0).len();
        let upper = float_row(0).iter().zip(float_row(1));
        let lower = float_row(2).iter().zip(float_row(3));
        for (out, ((a, b), (c, d))) in blended[margin..end].iter_mut().zip(upper.zip(lower)) {
            *out = w0 * a + w1 * b + w2 * c + w3 * d;
        }
        for i in 0..margin {
            blended[i] = blended[margin + i % PIXEL_BYTES];
            blended[end + i] = blended[end - PIXEL_BYTES + i % PIXEL_BYTES];
        }
    }

    /// Converts a row unless it is there. Four rows in succession have different places.
    #[inline(always)]
    fn hold(&mut self, source: &impl Source, y: usize) {
        let place = y % N_BLENDED;
        if self.held[place] == Some(y) {
            return;
        }
        self.held[place] = Some(y);
        let mut rest = self.rows[place].as_mut_slice();
        for piece in source.row(y) {
            let (floats, later) = rest.split_at_mut(piece.len());
            rest = later;
            for (float, byte) in floats.iter_mut().zip(piece) {
                *float = f32::from(*byte);
            }
        }
    }
}

/// A [`Tap`] along rows, as the inner loop wants it.
struct Column {
    /// The first float of its first pixel in a row that has margins.
    start: usize,
    /// Each weight once a lane: processors then need not spread it.
    weights: [[f32; 4]; 4],
}

impl From<Tap> for Column {
    fn from(tap: Tap) -> Self {
        let first = tap.first.saturating_add_unsigned(MARGIN_PX).unsigned_abs();
        Self {
            start: first * PIXEL_BYTES,
            weights: tap.weights.map(|weight| [weight; 4]),
        }
    }
}

/// Resamples a row that has margins.
///
/// Four lanes are computed where a pixel has three channels, because processors have no registers
/// of three: the surplus lane is overwritten by the next pixel, the last one falls on the spare
/// float behind the row.
#[inline(always)]
fn resample_row(blended: &[f32], columns: &[Column], resampled: &mut [f32]) {
    for (i, column) in columns.iter().enumerate() {
        let source = &blended[column.start..column.start + 4 * PIXEL_BYTES + 1];
        let [w0, w1, w2, w3] = &column.weights;
        let out = &mut resampled[i * PIXEL_BYTES..][..4];
        for lane in 0..4 {
            out[lane] = w0[lane] * source[lane]
                + w1[lane] * source[lane + 3]
                + w2[lane] * source[lane + 6]
                + w3[lane] * source[lane + 9];
        }
    }
}

/// Rounds to the nearest byte, ties to even, and saturates.
///
/// Adding 2^23 leaves a float no room for a fraction, so that the addition itself rounds and the
/// byte lies at the bottom of the bits. Unlike `round` that vectorises on every x86-64.
#[inline(always)]
fn to_byte(value: f32) -> u8 {
    const NO_FRACTION: f32 = 8_388_608.0;
    (value.clamp(0.0, 255.0) + NO_FRACTION)
        .to_bits()
        .to_le_bytes()[0]
}

#[cfg(test)]
mod tests;
