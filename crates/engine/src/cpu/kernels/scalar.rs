//! The kernels' twins: the same formulas, one value at a time, with sums in f64.

use lipsync_core::{FaceGeometry, face::FacePart};

use super::{Bf16, Element};

/// A tensor's shape: `(h, w, c)`.
pub type Shape = (usize, usize, usize);

fn act(x: f64, relu: bool) -> f64 {
    if relu { x.max(0.0) } else { x }
}

/// `act(weights * row + bias + residual)` for one output element.
pub fn dot(weights: &[f32], row: &[f32], bias: f32, residual: f32, relu: bool) -> f64 {
    let products = weights
        .iter()
        .zip(row)
        .map(|(&w, &x)| f64::from(w) * f64::from(x));
    act(
        f64::from(bias) + products.sum::<f64>() + f64::from(residual),
        relu,
    )
}

/// As [`dot`] for bf16, rounding where the kernel rounds: the second product of each pair is added
/// first.
pub fn dot_bf16(weights: &[f32], row: &[Bf16], bias: f32, residual: f32, relu: bool) -> f32 {
    let products: Vec<f32> = weights
        .iter()
        .zip(row)
        .map(|(&w, x)| Bf16::from_f32(w).to_f32() * x.to_f32())
        .collect();
    let mut sum = bias;
    for pair in products.chunks(2) {
        for product in pair.iter().rev() {
            sum += product;
        }
    }
    sum += residual;
    if relu { sum.max(0.0) } else { sum }
}

/// The nearest integer, the even one of two, of what is far below 2^53 in size.
#[expect(clippy::cast_possible_truncation, reason = "integers that fit")]
fn nearest(x: f64) -> i64 {
    x.round_ties_even() as i64
}

/// As [`dot`] in 16-bit integers: rounded as the kernel rounds, summed without a bound. A row's largest
/// input becomes `levels`, a step of the column's weights is worth `unit`.
pub fn dot_int16(
    (weights, unit): (&[f32], f32),
    (row, levels): (&[f32], f32),
    bias: f32,
) -> (f64, i64) {
    let largest = row.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
    let factor = if largest > 0.0 { levels / largest } else { 0.0 };
    let steps = if unit > 0.0 { unit } else { 1.0 };
    let products = weights
        .iter()
        .zip(row)
        .map(|(&w, &x)| nearest(f64::from(w / steps)) * nearest(f64::from(x * factor)));
    let sum: i64 = products.sum();
    let scale = f64::from(largest / levels) * f64::from(unit);
    (sum as f64 * scale + f64::from(bias), sum)
}

/// What [`dot_int8`] finds.
pub struct Int8Dot {
    pub value: f32,
    /// The sum of the products of integers.
    pub sum: i64,
    /// The largest sum, in size, that a lane of 16 bits comes to hold on the way, where products are added to such.
    pub largest: i64,
}

/// As [`dot`] in bytes, rounded wherever the kernel rounds and summed without a bound: the kernel's result to the bit.
///
/// A row's smallest input becomes 0, its largest `levels`; `weights` are a column's integers, a step of which is worth
/// `unit`. Multiply-adds round once where `is_fused`.
pub fn dot_int8(
    (weights, unit): (&[i8], f32),
    (row, levels): (&[f32], f32),
    bias: f32,
    is_fused: bool,
) -> Int8Dot {
    let mul_add = |a: f32, b: f32, c: f32| if is_fused { a.mul_add(b, c) } else { a * b + c };
    let low = row.iter().fold(0.0, |low: f32, &x| low.min(x));
    let range = row.iter().fold(0.0, |high: f32, &x| high.max(x)) - low;
    let factor = Some(levels / range)
        .filter(|f| f.is_finite())
        .unwrap_or(0.0);
    let inputs: Vec<i64> = row
        .iter()
        .map(|&x| nearest(mul_add(x, factor, -low * factor).into()))
        .collect();
    let (mut sum, mut largest) = (0, 0);
    for (w, x) in weights.chunks(16).zip(inputs.chunks(16)) {
        let mut lanes = [0_i64; 2];
        for (k, (&w, &x)) in w.iter().zip(x).enumerate() {
            lanes[k % 4 / 2] += i64::from(w) * x;
            largest = largest.max(lanes[k % 4 / 2].abs());
        }
        sum += lanes[0] + lanes[1];
    }
    let total: i64 = weights.iter().map(|&w| i64::from(w)).sum();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the nearest float is what is asked for"
    )]
    let total = (total as f64 * f64::from(unit)) as f32;
    let value = mul_add(
        sum as f32 * (range / levels),
        unit,
        mul_add(total, low, bias),
    );
    Int8Dot {
        value,
        sum,
        largest,
    }
}

/// The whole output of a depthwise 3x3 convolution with weights `[c][3][3]`.
pub fn depthwise3x3(
    input: &[f32],
    (h, w, c): Shape,
    (weights, bias): (&[f32], &[f32]),
    stride: usize,
    relu: bool,
) -> Vec<f64> {
    let mut out = Vec::new();
    for y in (0..h).step_by(stride) {
        for x in (0..w).step_by(stride) {
            for channel in 0..c {
                let mut sum = f64::from(bias[channel]);
                for (ky, kx) in (0..9).map(|tap| (tap / 3, tap % 3)) {
                    let (y, x) = (y + ky, x + kx);
                    if y >= 1 && y <= h && x >= 1 && x <= w {
                        let value = input[((y - 1) * w + x - 1) * c + channel];
                        sum += f64::from(value) * f64::from(weights[channel * 9 + ky * 3 + kx]);
                    }
                }
                out.push(act(sum, relu));
            }
        }
    }
    out
}

/// One element of a dense convolution, straight from ONNX's definition; `weights` is `[c][kh][kw]`.
pub fn conv_at(
    (input, (h, w, c)): (&[f32], Shape),
    (weights, kh, kw): (&[f32], usize, usize),
    (y, x): (isize, isize),
) -> f64 {
    let mut sum = 0.0;
    for channel in 0..c {
        for (ky, kx) in (0..kh * kw).map(|tap| (tap / kw, tap % kw)) {
            let (y, x) = (y + ky.cast_signed(), x + kx.cast_signed());
            if (0..h.cast_signed()).contains(&y) && (0..w.cast_signed()).contains(&x) {
                let place = (y.cast_unsigned() * w + x.cast_unsigned()) * c + channel;
                sum += f64::from(input[place]) * f64::from(weights[(channel * kh + ky) * kw + kx]);
            }
        }
    }
    sum
}

/// Bilinear resizing with aligned corners, dense.
pub fn upsample(src: &[f32], (h, w, c): Shape, (oh, ow): (usize, usize)) -> Vec<f64> {
    let place = |i: usize, n_in: usize, n_out: usize| {
        let at = (i * (n_in - 1)) as f64 / (n_out - 1).max(1) as f64;
        (i * (n_in - 1) / (n_out - 1).max(1), at.fract())
    };
    let mut out = Vec::new();
    for (y, x) in (0..oh * ow).map(|i| (i / ow, i % ow)) {
        let ((y0, fy), (x0, fx)) = (place(y, h, oh), place(x, w, ow));
        let (y1, x1) = ((y0 + 1).min(h - 1), (x0 + 1).min(w - 1));
        for channel in 0..c {
            let at = |y: usize, x: usize| f64::from(src[(y * w + x) * c + channel]);
            let top = at(y0, x0) * (1.0 - fx) + at(y0, x1) * fx;
            let bottom = at(y1, x0) * (1.0 - fx) + at(y1, x1) * fx;
            out.push(top * (1.0 - fy) + bottom * fy);
        }
    }
    out
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(x)).exp())
}

/// The six channels of pixel `(x, y)` of the region.
pub fn face_pixel(crop: &[u8], g: &FaceGeometry, x: usize, y: usize) -> [f32; 6] {
    let start = ((y + g.ring_px) * g.crop_px + x + g.ring_px) * 3;
    let unit = |i: usize| f32::from(crop[start + i]) / 255.0;
    let shown = |i: usize| match g.inputs[i / 3] {
        FacePart::Masked if g.is_masked(x, y) => 0.0,
        _ => 1.0,
    };
    std::array::from_fn(|i| unit(i % 3) * shown(i))
}
