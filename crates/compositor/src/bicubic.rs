//! Bicubic resizing as OpenCV's `INTER_CUBIC` does it.
//!
//! The networks were trained on what OpenCV makes, and libraries differ by up to 168 levels here,
//! so this small kernel is our own: cubic convolution with `a = -0.75`, half-pixel centres,
//! replicated borders, and four taps whatever the scale, that is, **no antialiasing**. Between the
//! two passes values stay unrounded and unclamped. OpenCV itself rounds its weights to 11 bits for
//! u8 pictures, which moves a pixel by at most one level.
//!
//! Source: `resize.cpp` of OpenCV's imgproc module (`interpolateCubic`, `HResizeCubic`).

use crate::picture::PIXEL_BYTES;

/// Weights of one output position: four, and where in the source they start.
struct Tap {
    /// Index of the source pixel under the first weight; from -2 to `n_source - 1`.
    first: isize,
    weights: [f32; 4],
}

/// Pixels added on either side of a row, so that every tap lies on it: see [`Tap::first`].
const MARGIN_PX: usize = 2;

/// Resizes interleaved pixels of three channels; `rows` are the source rows, all of one length.
///
/// Neither the source nor the target may be empty; the callers' types see to that.
pub(crate) fn resize(rows: &[&[u8]], width: usize, height: usize) -> Vec<u8> {
    let n_source = rows.first().map_or(0, |row| row.len() / PIXEL_BYTES);
    let columns = taps(n_source, width);
    // One source row, blended of four, with margins; then one target row before rounding. Both are
    // a float longer than their pixels: see `resample_row`.
    let mut blended = vec![0.0; (n_source + 2 * MARGIN_PX) * PIXEL_BYTES + 1];
    let mut resampled = vec![0.0; width * PIXEL_BYTES + 1];
    let mut target = vec![0; width * height * PIXEL_BYTES];
    // Rows first: that pass runs over contiguous memory, and skips what a smaller target lacks.
    let out_rows = target.chunks_exact_mut(width * PIXEL_BYTES);
    for (out, tap) in out_rows.zip(taps(rows.len(), height)) {
        blend_rows(rows, &tap, &mut blended);
        resample_row(&blended, &columns, &mut resampled);
        for (byte, value) in out.iter_mut().zip(&resampled) {
            *byte = to_byte(*value);
        }
    }
    target
}

/// The taps of every output position along one axis.
fn taps(n_source: usize, n_target: usize) -> Vec<Tap> {
    let scale = n_source as f64 / n_target as f64;
    (0..n_target)
        .map(|i| {
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
        .collect()
}

/// Cubic convolution weights of the pixels at -1, 0, 1 and 2 for a position in 0..1.
fn cubic_weights(x: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let before = ((A * (x + 1.0) - 5.0 * A) * (x + 1.0) + 8.0 * A) * (x + 1.0) - 4.0 * A;
    let (left, right) = (near(x), near(1.0 - x));
    [before, left, right, 1.0 - before - left - right]
}

/// Blends four source rows into one, and repeats its border pixels in the margins.
fn blend_rows(rows: &[&[u8]], tap: &Tap, blended: &mut [f32]) {
    let last = rows.len() - 1;
    let row = |i: usize| {
        rows[tap
            .first
            .saturating_add_unsigned(i)
            .max(0)
            .unsigned_abs()
            .min(last)]
    };
    let [w0, w1, w2, w3] = tap.weights;
    let margin = MARGIN_PX * PIXEL_BYTES;
    let end = margin + rows[0].len();
    let sources = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3));
    for (out, (((a, b), c), d)) in blended[margin..end].iter_mut().zip(sources) {
        *out = w0 * f32::from(*a) + w1 * f32::from(*b) + w2 * f32::from(*c) + w3 * f32::from(*d);
    }
    for i in 0..margin {
        blended[i] = blended[margin + i % PIXEL_BYTES];
        blended[end + i] = blended[end - PIXEL_BYTES + i % PIXEL_BYTES];
    }
}

/// Resamples a row that has margins.
///
/// Four lanes are computed where a pixel has three channels, because processors have no registers
/// of three: the surplus lane is overwritten by the next pixel, the last one falls on the spare
/// float behind the row.
fn resample_row(blended: &[f32], columns: &[Tap], resampled: &mut [f32]) {
    for (i, tap) in columns.iter().enumerate() {
        let start = tap.first.saturating_add_unsigned(MARGIN_PX).unsigned_abs() * PIXEL_BYTES;
        let source = &blended[start..start + 4 * PIXEL_BYTES + 1];
        let [w0, w1, w2, w3] = tap.weights;
        let out = &mut resampled[i * PIXEL_BYTES..][..4];
        for lane in 0..4 {
            out[lane] = w0 * source[lane]
                + w1 * source[lane + 3]
                + w2 * source[lane + 6]
                + w3 * source[lane + 9];
        }
    }
}

/// Rounds to the nearest byte, ties to even, and saturates.
///
/// Adding 2^23 leaves a float no room for a fraction, so that the addition itself rounds and the
/// byte lies at the bottom of the bits. Unlike `round` that vectorises on every x86-64.
fn to_byte(value: f32) -> u8 {
    const NO_FRACTION: f32 = 8_388_608.0;
    (value.clamp(0.0, 255.0) + NO_FRACTION)
        .to_bits()
        .to_le_bytes()[0]
}

#[cfg(test)]
mod tests;
