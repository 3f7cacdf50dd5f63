//! Linear resizing as OpenCV's `INTER_LINEAR` does it for u8 pictures, bit for bit.
//!
//! Networks of the Wav2Lip family were trained on its output, and their bytes are cut off, not rounded: a level
//! more or less in a crop, and another one in the paste, would add up. So this is its own arithmetic: weights
//! of 11 bits, sums in integers, the second pass on 16 of their bits. Halving a picture is another kernel
//! there, the mean of four pixels.
//!
//! Source: `resize.cpp` of OpenCV's imgproc module (`HResizeLinear`, `VResizeLinear`, `ResizeAreaFast`).

use super::Source;
use crate::picture::PIXEL_BYTES;

/// What a weight of 1 is.
const ONE: f32 = 2048.0;

pub(super) struct Resize<'s, S, T> {
    pub source: &'s S,
    pub target: T,
}

/// The two pixels of the source under one of the target, and their weights.
#[derive(Debug, Clone, Copy)]
struct Pair {
    pixels: [usize; 2],
    weights: [i32; 2],
}

/// The pairs of every position along an axis. Beyond the edge, rows are the row at the edge with the weights of
/// two; columns are the column at the edge alone.
#[expect(
    clippy::cast_possible_truncation,
    reason = "OpenCV's own steps; positions are small, weights have 11 bits"
)]
fn pairs(n_source: usize, n_target: usize, is_row: bool) -> impl Iterator<Item = Pair> {
    let scale = 1.0 / (n_target as f64 / n_source as f64);
    let last = n_source.cast_signed() - 1;
    (0..n_target).map(move |i| {
        let at = ((i as f64 + 0.5) * scale - 0.5) as f32;
        let first = at.floor();
        let mut part = at - first;
        let first = first as isize;
        if !is_row && !(0..last).contains(&first) {
            part = 0.0;
        }
        let pixel = |at: isize| at.clamp(0, last).unsigned_abs();
        let weight = |part: f32| (part * ONE).round_ties_even() as i32;
        Pair {
            pixels: [pixel(first), pixel(first + 1)],
            weights: [weight(1.0 - part), weight(part)],
        }
    })
}

impl<'a, S: Source, T: ExactSizeIterator<Item = &'a mut [u8]>> pulp::NullaryFnOnce
    for Resize<'_, S, T>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { source, target } = self;
        let (width, height) = (source.width(), source.height());
        let mut lines = Lines {
            columns: Vec::new(),
            bytes: vec![0; width * PIXEL_BYTES],
            sums: [Vec::new(), Vec::new()],
            held: [None; 2],
        };
        let n_rows = target.len();
        for ((y, out), rows) in target.enumerate().zip(pairs(height, n_rows, true)) {
            let n_columns = out.len() / PIXEL_BYTES;
            if (width, height) == (2 * n_columns, 2 * n_rows) {
                halve(source, y, out);
                continue;
            }
            if lines.columns.is_empty() {
                lines.columns = pairs(width, n_columns, false).collect();
                lines.sums = [(); 2].map(|()| vec![0; out.len()]);
            }
            for row in rows.pixels {
                lines.hold(source, row);
            }
            let [first, second] = rows.pixels.map(|row| &lines.sums[row % 2]);
            let [above, below] = rows.weights;
            for ((byte, a), b) in out.iter_mut().zip(first).zip(second) {
                let sum = ((above * (a >> 4)) >> 16) + ((below * (b >> 4)) >> 16);
                *byte = ((sum + 2) >> 2).to_le_bytes()[0];
            }
        }
    }
}

/// Rows of the source, as wide as the target, before the second pass. Neighbouring rows have different places.
struct Lines {
    columns: Vec<Pair>,
    /// A row of the source in one piece.
    bytes: Vec<u8>,
    sums: [Vec<i32>; 2],
    /// Which row of the source each one is.
    held: [Option<usize>; 2],
}

impl Lines {
    #[inline(always)]
    fn hold(&mut self, source: &impl Source, y: usize) {
        let place = y % 2;
        if self.held[place] == Some(y) {
            return;
        }
        self.held[place] = Some(y);
        join(source.row(y), &mut self.bytes);
        let pixels = self.sums[place].chunks_exact_mut(PIXEL_BYTES);
        for (sums, column) in pixels.zip(&self.columns) {
            let [a, b] = column
                .pixels
                .map(|x| &self.bytes[x * PIXEL_BYTES..][..PIXEL_BYTES]);
            let [left, right] = column.weights;
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum = left * i32::from(a) + right * i32::from(b);
            }
        }
    }
}

/// Writes the pieces of a row one after the other.
#[inline(always)]
fn join(pieces: [&[u8]; 3], mut bytes: &mut [u8]) {
    for piece in pieces {
        let (place, rest) = bytes.split_at_mut(piece.len());
        place.copy_from_slice(piece);
        bytes = rest;
    }
}

/// Row `y` of a picture of half the size.
fn halve(source: &impl Source, y: usize, out: &mut [u8]) {
    let mut rows = [2 * y, 2 * y + 1].map(|_| vec![0; source.width() * PIXEL_BYTES]);
    for (row, bytes) in rows.iter_mut().enumerate() {
        join(source.row(2 * y + row), bytes);
    }
    for (i, byte) in out.iter_mut().enumerate() {
        let left = i / PIXEL_BYTES * 2 * PIXEL_BYTES + i % PIXEL_BYTES;
        let sum: u16 = rows
            .iter()
            .map(|row| u16::from(row[left]) + u16::from(row[left + PIXEL_BYTES]))
            .sum();
        *byte = ((sum + 2) >> 2).to_le_bytes()[0];
    }
}
