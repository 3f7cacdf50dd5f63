//! Rows and columns of a product become bytes.

use super::{GROUP, QUAD};
use crate::{
    Int8Kind,
    cpu::kernels::{Element, MatRef, aligned::LINE_BYTES, simd::Simd},
};

/// Most that the integers of one sign which one sum of 16 bits meets may add up to, in narrow int8.
pub(in crate::cpu::kernels) const MAX_LANE_SUM: i32 =
    (i16::MAX as i32) / (levels(Int8Kind::Narrow) as i32);

/// Most of [`Simd::BYTES`].
const MOST_BYTES: usize = 32;

/// The largest input as an integer; the smallest is 0.
pub(in crate::cpu::kernels) const fn levels(kind: Int8Kind) -> u8 {
    match kind {
        Int8Kind::Narrow => 127,
        Int8Kind::Full | Int8Kind::FullBf16 => 255,
    }
}

/// The sum of a column's weights as they were rounded.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the nearest float is enough"
)]
pub(super) fn sum_of(ints: &[i8], unit: f32) -> f32 {
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
pub(in crate::cpu::kernels) fn quantise_column(kind: Int8Kind, weights: &[f32]) -> (f32, Vec<i8>) {
    let unit = column_unit(kind, weights);
    if !(unit > 0.0 && unit.is_finite()) {
        return (unit, vec![0; weights.len()]);
    }
    let ints: Vec<i8> = weights.iter().map(|w| nearest(w / unit)).collect();
    let largest = lane_sums(&ints, f64::from).fold(0.0, f64::max);
    assert!(
        kind != Int8Kind::Narrow || largest <= f64::from(MAX_LANE_SUM),
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

/// The smallest unit with which a column's integers fit 8 bits and, in narrow int8, no sum of 16 bits can saturate; 0
/// where it would be too small to be exact.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a scale may be rounded: there is a margin; a group has few inputs"
)]
fn column_unit(kind: Int8Kind, weights: &[f32]) -> f32 {
    /// Covers what is lost by rounding the unit and the quotients.
    const MARGIN: f64 = 1.000_01;
    let sum: f64 = weights.iter().map(|&w| f64::from(w).abs()).sum();
    if !sum.is_finite() {
        return f32::NAN;
    }
    let largest = weights.iter().fold(0.0, |m: f32, w| m.max(w.abs()));
    let by_size = f64::from(largest) / f64::from(i8::MAX);
    let by_lanes = match kind {
        Int8Kind::Narrow => {
            // Each integer may be half a step larger than its weight.
            let n_steps = f64::from(MAX_LANE_SUM) - 0.5 * (GROUP / 2) as f64;
            lane_sums(weights, f64::from).fold(0.0, f64::max) / n_steps
        }
        Int8Kind::Full | Int8Kind::FullBf16 => 0.0,
    };
    let unit = (by_size.max(by_lanes) * MARGIN) as f32;
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

/// Rows up to this long are fetched [`ROWS`] ahead: the hardware begins anew after every block.
const PREFETCHED_INPUTS: usize = 128;

/// Rows whose scales are computed together, since a vector divides as fast as one number.
const ROWS: usize = 16;

/// Rounds the rows of a block to integers, one after the other `stride` apart, the smallest input of each (or 0, if none
/// is below) to 0 and the largest to `levels`; 128 less where the instruction set asks for that. A row with an infinity or a NaN gets a unit that is a NaN.
#[inline(always)]
pub(super) fn quantise_rows<S: Simd, A: Element>(
    s: S,
    (a, n_in): (MatRef<'_, A>, usize),
    levels: f32,
    (ints, stride): (&mut [u8], usize),
    scales: &mut [RowScale],
) {
    let (mut lows, mut ranges) = ([0.0; ROWS], [0.0; ROWS]);
    let (mut factors, mut units) = ([0.0; ROWS], [0.0; ROWS]);
    for (group, scales) in scales.chunks_mut(ROWS).enumerate() {
        let (first, n_rows) = (group * ROWS, scales.len());
        if n_in <= PREFETCHED_INPUTS {
            for line in (0..ROWS * a.stride).step_by(LINE_BYTES / size_of::<A>()) {
                s.prefetch(a.data, (first + ROWS) * a.stride + line);
            }
        }
        let extents = lows.iter_mut().zip(&mut ranges).enumerate();
        for (i, (low, range)) in extents.take(n_rows) {
            (*low, *range) = extent(s, &a.data[(first + i) * a.stride..][..n_in]);
        }
        for ((factor, unit), range) in factors.iter_mut().zip(&mut units).zip(&ranges) {
            (*factor, *unit) = (levels / range, range / levels);
        }
        for (i, scale) in scales.iter_mut().enumerate() {
            let row = &a.data[(first + i) * a.stride..][..n_in];
            let is_usable = factors[i].abs() < f32::INFINITY;
            let factor = if is_usable { factors[i] } else { 0.0 };
            let ints = &mut ints[(first + i) * stride..][..n_in];
            round_row(s, row, (factor, -lows[i] * factor), ints);
            if S::FOURS_LESS_128 {
                for int in ints {
                    // 128 less, as a byte with a sign.
                    *int ^= 0x80;
                }
            }
            *scale = RowScale {
                unit: units[i],
                zero: lows[i],
            };
        }
    }
}

/// The smallest of a row and 0, and how far the largest of the row and 0 is above it: a NaN where the row has an infinity
/// or a NaN.
#[inline(always)]
fn extent<S: Simd, A: Element>(s: S, row: &[A]) -> (f32, f32) {
    let zero = s.splat(0.0);
    // Two chains of each, since each waits for the one before.
    let (mut low, mut high, mut odd) = ([zero; 2], [zero; 2], [zero; 2]);
    let (pairs, rest) = row.split_at(row.len() / (2 * S::LANES) * (2 * S::LANES));
    for pair in pairs.chunks_exact(2 * S::LANES) {
        for chain in 0..2 {
            let x = A::load(s, &pair[chain * S::LANES..]);
            low[chain] = s.min(low[chain], x);
            high[chain] = s.max(high[chain], x);
            // Minimum and maximum lose a NaN; this does not.
            odd[chain] = s.mul_add(x, zero, odd[chain]);
        }
    }
    let (last, tail) = rest.split_at(rest.len() / S::LANES * S::LANES);
    if !last.is_empty() {
        let x = A::load(s, last);
        (low[0], high[0]) = (s.min(low[0], x), s.max(high[0], x));
        odd[0] = s.mul_add(x, zero, odd[0]);
    }
    let (mut least, mut most) = s.extremes(s.min(low[0], low[1]), s.max(high[0], high[1]));
    let mut is_odd = s.has_nan(s.add(odd[0], odd[1]));
    for x in tail {
        let x = x.to_f32();
        least = if x < least { x } else { least };
        most = if x > most { x } else { most };
        is_odd |= !x.is_finite();
    }
    let range = if is_odd { f32::NAN } else { most - least };
    (least, range)
}

/// Rounds a row times a factor plus an offset.
#[inline(always)]
fn round_row<S: Simd, A: Element>(s: S, row: &[A], (factor, offset): (f32, f32), ints: &mut [u8]) {
    let scale = (s.splat(factor), s.splat(offset));
    let n_bytes = row.len() / S::BYTES * S::BYTES;
    for (x, ints) in row[..n_bytes]
        .chunks_exact(S::BYTES)
        .zip(ints.chunks_exact_mut(S::BYTES))
    {
        s.round_to_bytes(x, scale, ints);
    }
    let rest = &row[n_bytes..];
    if !rest.is_empty() {
        let (mut last, mut rounded) = ([A::ZERO; MOST_BYTES], [0; MOST_BYTES]);
        last[..rest.len()].copy_from_slice(rest);
        s.round_to_bytes(&last, scale, &mut rounded);
        ints[n_bytes..].copy_from_slice(&rounded[..rest.len()]);
    }
}

/// The nearest integer of what lies between 0 and 255, but for rounding; anything of a NaN.
#[inline(always)]
pub(in crate::cpu::kernels) fn nearest_byte(x: f32) -> u8 {
    /// Added to a float below 2^22 in size, leaves its nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    (x + ROUND).to_bits().to_le_bytes()[0]
}
