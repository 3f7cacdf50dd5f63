//! What the steps of a sequence compute.

use super::super::kernels::{Epilogue, Isa, MatMut, MatRef, PackedMatrix, Weights, gemm};
use crate::{
    EngineError,
    graph::sequence::{Binary, Convolution, Part, Product, SequenceOp, Strided, Unary},
};

/// A step's operation with what it holds of its constants.
#[derive(Debug)]
pub(super) enum Kernel {
    /// Products with one matrix of weights.
    Weighted(Product, PackedMatrix),
    /// Products of matrices that are both computed.
    Pairs(Product, Isa),
    /// A convolution, group by group.
    Grouped(Convolution, Vec<PackedMatrix>),
    /// A convolution whose channels do not mix, with its weights and bias.
    Depthwise(Convolution, Vec<f32>, Vec<f32>),
    /// All others.
    Plain(SequenceOp),
}

/// Working memory of single steps.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Windows of a convolution, one a row.
    columns: Vec<f32>,
    /// The result before it is turned.
    product: Vec<f32>,
}

impl Scratch {
    pub fn floats(&self) -> usize {
        self.columns.capacity() + self.product.capacity()
    }
}

impl Kernel {
    /// The kernel of a node; `known` are the operands that are known.
    pub fn new(op: &SequenceOp, known: &[Option<&[f32]>], isa: Isa) -> Result<Self, EngineError> {
        Ok(match op {
            SequenceOp::Product(product) => match known.get(1) {
                Some(Some(weights)) if product.places.iter().all(|&[_, b]| b == 0) => {
                    let packed = pack(isa, weights, product);
                    Self::Weighted(product.clone(), packed)
                }
                _ => Self::Pairs(product.clone(), isa),
            },
            SequenceOp::Convolution(conv) => Self::convolution(conv, known, isa)?,
            other => Self::Plain(other.clone()),
        })
    }

    fn convolution(
        conv: &Convolution,
        known: &[Option<&[f32]>],
        isa: Isa,
    ) -> Result<Self, EngineError> {
        let unsupported = || EngineError::UnsupportedOperator {
            node: String::new(),
            operator: "Conv".into(),
            opset: 0,
            reason: "weights that are computed".into(),
        };
        let weights = known.get(1).copied().flatten().ok_or_else(unsupported)?;
        let zeros = vec![0.0; conv.c_out];
        let bias = match known.get(2) {
            None => &zeros[..],
            Some(bias) => bias.ok_or_else(unsupported)?,
        };
        let n_in = conv.c_in / conv.groups * conv.kernel[0] * conv.kernel[1];
        if weights.len() != n_in * conv.c_out || bias.len() != conv.c_out {
            return Err(unsupported());
        }
        if conv.groups == conv.c_in && conv.groups == conv.c_out && conv.groups > 1 {
            let (weights, bias) = (weights.to_vec(), bias.to_vec());
            return Ok(Self::Depthwise(conv.clone(), weights, bias));
        }
        let n_out = conv.c_out / conv.groups;
        let groups = weights
            .chunks_exact(n_out * n_in)
            .zip(bias.chunks_exact(n_out));
        let packed = groups.map(|(w, b)| PackedMatrix::pack(isa, w, b, n_out, n_in));
        Ok(Self::Grouped(conv.clone(), packed.collect()))
    }

    /// Whether the kernel holds its operand `i`.
    pub fn holds(&self, i: usize) -> bool {
        match self {
            Self::Weighted(..) => i == 1,
            Self::Grouped(..) | Self::Depthwise(..) => i > 0,
            Self::Pairs(..) | Self::Plain(_) => false,
        }
    }

    /// Bytes of what it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Weighted(_, packed) => packed.bytes(),
            Self::Grouped(_, packed) => packed.iter().map(Weights::bytes).sum(),
            Self::Depthwise(_, weights, bias) => (weights.len() + bias.len()) * size_of::<f32>(),
            Self::Pairs(..) | Self::Plain(_) => 0,
        }
    }

    /// Computes `out`.
    pub fn run(&self, inputs: &[&[f32]], out: &mut [f32], scratch: &mut Scratch) {
        match self {
            Self::Weighted(product, packed) => weighted(product, packed, inputs[0], out),
            Self::Pairs(product, isa) => products(product, *isa, [inputs[0], inputs[1]], out),
            Self::Grouped(conv, packed) => grouped(conv, packed, inputs[0], (out, scratch)),
            Self::Depthwise(conv, weights, bias) => {
                depthwise(conv, (weights, bias), inputs[0], out)
            }
            Self::Plain(op) => plain(op, inputs, out),
        }
    }
}

/// The second matrix of a product, `[inner, columns]`, turned and packed.
fn pack(isa: Isa, matrix: &[f32], product: &Product) -> PackedMatrix {
    let Product { inner, columns, .. } = *product;
    let mut turned = vec![0.0; inner * columns];
    turn(&matrix[..inner * columns], columns, &mut turned);
    let bias = vec![0.0; columns];
    PackedMatrix::pack(isa, &turned, &bias, columns, inner)
}

/// Rows that are turned together, so that lines of the cache are used whole on both sides.
const BLOCK: usize = 16;

/// Columns become rows.
fn turn(matrix: &[f32], columns: usize, out: &mut [f32]) {
    let rows = matrix.len() / columns.max(1);
    for first in (0..rows).step_by(BLOCK) {
        let n = BLOCK.min(rows - first);
        for column in 0..columns {
            let to = &mut out[column * rows + first..][..n];
            for (r, to) in to.iter_mut().enumerate() {
                *to = matrix[(first + r) * columns + column];
            }
        }
    }
}

fn weighted(product: &Product, packed: &PackedMatrix, a: &[f32], out: &mut [f32]) {
    let (rows, inner, columns) = (product.rows, product.inner, product.columns);
    let parts = out.chunks_exact_mut(rows * columns);
    for (&[from, _], out) in product.places.iter().zip(parts) {
        let a = MatRef {
            data: &a[from..from + rows * inner],
            rows,
            stride: inner,
        };
        gemm(packed, a, MatMut::new(out, columns), Epilogue::default());
    }
}

fn products(product: &Product, isa: Isa, [a, b]: [&[f32]; 2], out: &mut [f32]) {
    let (rows, inner, columns) = (product.rows, product.inner, product.columns);
    let parts = out.chunks_exact_mut(rows * columns);
    for (&[from, weights], out) in product.places.iter().zip(parts) {
        let packed = pack(isa, &b[weights..], product);
        let a = MatRef {
            data: &a[from..from + rows * inner],
            rows,
            stride: inner,
        };
        gemm(&packed, a, MatMut::new(out, columns), Epilogue::default());
    }
}

fn grouped(
    conv: &Convolution,
    packed: &[PackedMatrix],
    map: &[f32],
    (out, scratch): (&mut [f32], &mut Scratch),
) {
    let (n_channels, n_places) = (conv.c_in / conv.groups, conv.out[0] * conv.out[1]);
    let (n_in, n_out) = (
        n_channels * conv.kernel[0] * conv.kernel[1],
        conv.c_out / conv.groups,
    );
    let Scratch { columns, product } = scratch;
    columns.resize(columns.len().max(n_places * n_in), 0.0);
    product.resize(product.len().max(n_places * n_out), 0.0);
    let maps = map.chunks_exact(n_channels * conv.size[0] * conv.size[1]);
    let outs = out.chunks_exact_mut(n_out * n_places);
    for ((map, out), packed) in maps.zip(outs).zip(packed) {
        let columns = &mut columns[..n_places * n_in];
        for (place, row) in columns.chunks_exact_mut(n_in).enumerate() {
            window(conv, map, [place / conv.out[1], place % conv.out[1]], row);
        }
        let a = MatRef {
            data: columns,
            rows: n_places,
            stride: n_in,
        };
        let product = &mut product[..n_places * n_out];
        gemm(packed, a, MatMut::new(product, n_out), Epilogue::default());
        turn(product, n_out, out);
    }
}

/// The numbers of `[channels, h, w]` under a kernel, zeros outside.
fn window(conv: &Convolution, map: &[f32], place: [usize; 2], row: &mut [f32]) {
    let [h, w] = conv.size;
    let at = |axis: usize, tap: usize, size: usize| {
        let padded = place[axis] * conv.stride[axis] + tap * conv.dilation[axis];
        padded.checked_sub(conv.pads[axis]).filter(|&at| at < size)
    };
    let mut taps = row.chunks_exact_mut(conv.kernel[1]);
    for channel in map.chunks_exact(h * w) {
        for ky in 0..conv.kernel[0] {
            let Some(to) = taps.next() else {
                return;
            };
            let Some(y) = at(0, ky, h) else {
                to.fill(0.0);
                continue;
            };
            let line = &channel[y * w..][..w];
            for (kx, to) in to.iter_mut().enumerate() {
                *to = at(1, kx, w).map_or(0.0, |x| line[x]);
            }
        }
    }
}

fn depthwise(conv: &Convolution, (weights, bias): (&[f32], &[f32]), map: &[f32], out: &mut [f32]) {
    let n_taps = conv.kernel[0] * conv.kernel[1];
    let mut window_row = vec![0.0; n_taps];
    let channels = map.chunks_exact(conv.size[0] * conv.size[1]);
    let outs = out.chunks_exact_mut(conv.out[0] * conv.out[1]);
    let kernels = weights.chunks_exact(n_taps).zip(bias);
    for ((channel, out), (kernel, bias)) in channels.zip(outs).zip(kernels) {
        for (place, out) in out.iter_mut().enumerate() {
            let place = [place / conv.out[1], place % conv.out[1]];
            window(conv, channel, place, &mut window_row);
            let taps = kernel.iter().zip(&window_row);
            *out = taps.fold(*bias, |sum, (w, x)| w.mul_add(*x, sum));
        }
    }
}

fn plain(op: &SequenceOp, inputs: &[&[f32]], out: &mut [f32]) {
    match op {
        SequenceOp::Unary(unary) => each(*unary, inputs[0], out),
        SequenceOp::Binary { op, pairs } => both(*op, pairs, [inputs[0], inputs[1]], out),
        SequenceOp::Softmax { width } => {
            let rows = inputs[0].chunks_exact(*width);
            rows.zip(out.chunks_exact_mut(*width))
                .for_each(|(row, out)| softmax(row, out));
        }
        SequenceOp::Normalise { width, epsilon } => {
            let rows = inputs[0].chunks_exact(*width);
            rows.zip(out.chunks_exact_mut(*width))
                .for_each(|(row, out)| normalise(row, *epsilon, out));
        }
        SequenceOp::Mean { width } => {
            let rows = inputs[0].chunks_exact(*width);
            rows.zip(out)
                .for_each(|(row, out)| *out = narrow(mean(row)));
        }
        SequenceOp::Rearrange { parts, fill } => rearrange(parts, *fill, inputs, out),
        SequenceOp::Product(_) | SequenceOp::Convolution(_) => {}
    }
}

fn each(unary: Unary, from: &[f32], out: &mut [f32]) {
    let apply = |f: fn(f32) -> f32, out: &mut [f32]| {
        for (out, &x) in out.iter_mut().zip(from) {
            *out = f(x);
        }
    };
    match unary {
        // What is not a number stays so, and is found at the end.
        Unary::Relu => apply(|x| if x < 0.0 { 0.0 } else { x }, out),
        Unary::Sigmoid => apply(|x| 1.0 / (1.0 + (-x).exp()), out),
        Unary::Tanh => apply(f32::tanh, out),
        Unary::Exp => apply(f32::exp, out),
        Unary::Sqrt => apply(f32::sqrt, out),
        Unary::Erf => apply(erf, out),
        Unary::Gelu => apply(gelu, out),
        Unary::Neg => apply(|x| -x, out),
        Unary::Reciprocal => apply(f32::recip, out),
    }
}

fn gelu(x: f32) -> f32 {
    x * 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function, off by 4e-7 at most. No branches, so that compilers make vectors of it.
///
/// Source: the rational approximation of Eigen's `generic_fast_erf_float`.
fn erf(x: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] = [
        -1.456_607_2e-5,
        -2.133_740_6e-4,
        -1.682_827e-3,
        -7.373_329e-3,
        -1.426_473_9e-2,
    ];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let sum = |terms: &[f32]| terms.iter().fold(0.0, |sum, term| sum * square + term);
    x * sum(&ABOVE) / sum(&BELOW)
}

fn both(op: Binary, pairs: &Strided<2>, [a, b]: [&[f32]; 2], out: &mut [f32]) {
    match op {
        Binary::Add => zip(pairs, [a, b], out, |a, b| a + b),
        Binary::Sub => zip(pairs, [a, b], out, |a, b| a - b),
        Binary::Mul => zip(pairs, [a, b], out, |a, b| a * b),
        Binary::Div => zip(pairs, [a, b], out, |a, b| a / b),
        Binary::Pow => zip(pairs, [a, b], out, power),
        Binary::Max => zip(pairs, [a, b], out, f32::max),
        Binary::Min => zip(pairs, [a, b], out, f32::min),
    }
}

/// A square is a product: that is what nearly all powers are, and what is exact.
fn power(a: f32, b: f32) -> f32 {
    if (b - 2.0).abs() < f32::EPSILON {
        a * a
    } else {
        a.powf(b)
    }
}

fn zip(pairs: &Strided<2>, [a, b]: [&[f32]; 2], out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    let mut rest = out;
    pairs.for_each_row(|[at_a, at_b], n, steps| {
        let (row, others) = std::mem::take(&mut rest).split_at_mut(n);
        rest = others;
        match steps {
            [1, 1] => {
                let both = a[at_a..][..n].iter().zip(&b[at_b..][..n]);
                row.iter_mut()
                    .zip(both)
                    .for_each(|(o, (&a, &b))| *o = f(a, b));
            }
            [1, 0] => {
                let b = b[at_b];
                let a = &a[at_a..][..n];
                row.iter_mut().zip(a).for_each(|(o, &a)| *o = f(a, b));
            }
            [step_a, step_b] => {
                for (i, o) in row.iter_mut().enumerate() {
                    *o = f(a[at_a + i * step_a], b[at_b + i * step_b]);
                }
            }
        }
    });
}

fn softmax(row: &[f32], out: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (out, x) in out.iter_mut().zip(row) {
        *out = (x - most).exp();
        sum += *out;
    }
    out.iter_mut().for_each(|out| *out /= sum);
}

fn mean(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64
}

fn normalise(row: &[f32], epsilon: f32, out: &mut [f32]) {
    let mean = mean(row);
    let squares = row.iter().map(|&x| (f64::from(x) - mean).powi(2));
    let variance = squares.sum::<f64>() / row.len() as f64;
    let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
    for (out, &x) in out.iter_mut().zip(row) {
        *out = narrow((f64::from(x) - mean) * scale);
    }
}

fn rearrange(parts: &[Part], fill: f32, inputs: &[&[f32]], out: &mut [f32]) {
    let n_written: usize = parts
        .iter()
        .map(|part| part.places.axes.iter().map(|&(n, _)| n).product::<usize>())
        .sum();
    if n_written < out.len() {
        out.fill(fill);
    }
    for part in parts {
        let input = inputs[part.input];
        part.places
            .for_each_row(|[from, to], n, steps| match steps {
                [1, 1] => out[to..to + n].copy_from_slice(&input[from..from + n]),
                [step, step_out] => {
                    for i in 0..n {
                        out[to + i * step_out] = input[from + i * step];
                    }
                }
            });
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sums are wide, values are not"
)]
fn narrow(wide: f64) -> f32 {
    wide as f32
}
