//! The scalar executor: slow, plain, and the oracle for everything fast.
//!
//! It runs a [`Graph`] node by node in NCHW with double-precision sums, shares no code with the
//! kernels, and keeps every value until the end. Nothing in serving uses it.

use crate::graph::{Activation, Conv, Graph, Node, Op, Pool, PoolKind, Shape};

/// Runs one frame. `inputs` are NCHW, one slice per graph input; so are the answers per output.
///
/// # Panics
/// When an input's length is not its shape's.
#[must_use]
pub fn run(graph: &Graph, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    let mut values: Vec<Vec<f32>> = vec![Vec::new(); graph.shapes.len()];
    assert_eq!(inputs.len(), graph.inputs.len(), "number of inputs");
    for (&id, &input) in graph.inputs.iter().zip(inputs) {
        assert_eq!(input.len(), graph.shapes[id].len(), "length of an input");
        values[id] = input.to_vec();
    }
    for node in &graph.nodes {
        values[node.output] = run_node(graph, node, &values);
    }
    graph.outputs.iter().map(|&id| values[id].clone()).collect()
}

/// How far `actual` is from `expected`: the root of the squared errors' sum over that of the squared values.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn relative_l2(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "lengths");
    let pairs = actual
        .iter()
        .zip(expected)
        .map(|(&a, &e)| (f64::from(a), f64::from(e)));
    let (error, norm) = pairs.fold((0.0, 0.0), |(error, norm), (a, e)| {
        (error + (a - e).powi(2), norm + e * e)
    });
    (error / norm).sqrt()
}

fn run_node(graph: &Graph, node: &Node, values: &[Vec<f32>]) -> Vec<f32> {
    let input = |i: usize| values[node.inputs[i]].as_slice();
    let shape = graph.shapes[node.inputs[0]];
    let out = graph.shapes[node.output];
    match &node.op {
        Op::Conv(c) => {
            let residual = node.inputs.get(1).map(|&id| values[id].as_slice());
            conv(c, input(0), residual, (shape, out))
        }
        Op::ConvTranspose(c) => conv_transpose(c, input(0), (shape, out)),
        Op::Gate => {
            let plane = shape.h * shape.w;
            let each = |(i, x): (usize, &f32)| x * input(1)[i % plane];
            input(0).iter().enumerate().map(each).collect()
        }
        Op::Reduce(reduction) => {
            let plane = shape.h * shape.w;
            let of_pixel = |p: usize| reduction.of((0..shape.c).map(|c| input(0)[c * plane + p]));
            (0..plane).map(of_pixel).collect()
        }
        Op::Affine { scale, shift } => {
            let plane = shape.h * shape.w;
            let each = |(i, &x): (usize, &f32)| x * scale[i / plane] + shift[i / plane];
            input(0).iter().enumerate().map(each).collect()
        }
        Op::Add => input(0).iter().zip(input(1)).map(|(a, b)| a + b).collect(),
        Op::Activation(activation) => input(0).iter().map(|&x| activation.apply(x)).collect(),
        Op::Concat => node
            .inputs
            .iter()
            .flat_map(|&id| &values[id])
            .copied()
            .collect(),
        Op::ResizeBilinear => resize(input(0), shape, out),
        Op::Pad { pads, value } => pad(input(0), shape, out, (*pads, *value)),
        Op::Pool(p) => pool(*p, input(0), shape, out),
        Op::Reshape => input(0).to_vec(),
    }
}

/// The samples of one window position along an axis: `(offset in the kernel, index in the input)`.
fn taps(
    position: usize,
    stride: usize,
    pad: usize,
    kernel: usize,
    size: usize,
) -> impl Iterator<Item = (usize, usize)> {
    (0..kernel).filter_map(move |k| {
        let i = (position * stride + k).checked_sub(pad)?;
        (i < size).then_some((k, i))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "sums are f64, results f32")]
fn conv(conv: &Conv, x: &[f32], residual: Option<&[f32]>, shapes: (Shape, Shape)) -> Vec<f32> {
    let (shape, out) = shapes;
    let [kernel_h, kernel_w] = conv.window.kernel;
    let [stride_h, stride_w] = conv.window.stride;
    let [top, left, ..] = conv.window.pads;
    let (c_in, c_out) = (shape.c / conv.groups, out.c / conv.groups);
    let mut y = Vec::with_capacity(out.len());
    let mut sums = vec![0.0_f64; out.h * out.w];
    for o in 0..out.c {
        sums.fill(f64::from(conv.bias[o]));
        for i in 0..c_in {
            let plane = &x[(o / c_out * c_in + i) * shape.h * shape.w..][..shape.h * shape.w];
            let kernel = &conv.weights[(o * c_in + i) * kernel_h * kernel_w..];
            if conv.is_pointwise() {
                let w = f64::from(kernel[0]);
                sums.iter_mut()
                    .zip(plane)
                    .for_each(|(s, &x)| *s += w * f64::from(x));
                continue;
            }
            for (place, sum) in sums.iter_mut().enumerate() {
                let (oy, ox) = (place / out.w, place % out.w);
                for (ky, iy) in taps(oy, stride_h, top, kernel_h, shape.h) {
                    for (kx, ix) in taps(ox, stride_w, left, kernel_w, shape.w) {
                        let w = kernel[ky * kernel_w + kx];
                        *sum += f64::from(w) * f64::from(plane[iy * shape.w + ix]);
                    }
                }
            }
        }
        y.extend(sums.iter().map(|&s| s as f32));
    }
    if let Some(residual) = residual {
        y.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
    }
    if conv.relu {
        y.iter_mut().for_each(|y| *y = Activation::Relu.apply(*y));
    }
    y
}

/// As the definition has it: every input pixel adds to the output.
#[expect(clippy::cast_possible_truncation, reason = "sums are f64, results f32")]
fn conv_transpose(conv: &Conv, x: &[f32], (shape, out): (Shape, Shape)) -> Vec<f32> {
    let [kernel_h, kernel_w] = conv.window.kernel;
    let [stride_h, stride_w] = conv.window.stride;
    let [top, left, ..] = conv.window.pads;
    let mut y = Vec::with_capacity(out.len());
    for o in 0..out.c {
        let mut sums = vec![f64::from(conv.bias[o]); out.h * out.w];
        for i in 0..shape.c {
            let plane = &x[i * shape.h * shape.w..][..shape.h * shape.w];
            let kernel =
                &conv.weights[(o * shape.c + i) * kernel_h * kernel_w..][..kernel_h * kernel_w];
            for (place, &x) in plane.iter().enumerate() {
                let (iy, ix) = (place / shape.w, place % shape.w);
                for (tap, &weight) in kernel.iter().enumerate() {
                    let (ky, kx) = (tap / kernel_w, tap % kernel_w);
                    let oy = (iy * stride_h + ky).checked_sub(top);
                    let ox = (ix * stride_w + kx).checked_sub(left);
                    if let (Some(oy), Some(ox)) = (oy, ox)
                        && oy < out.h
                        && ox < out.w
                    {
                        sums[oy * out.w + ox] += f64::from(weight) * f64::from(x);
                    }
                }
            }
        }
        y.extend(sums.iter().map(|&s| s as f32));
    }
    if conv.relu {
        y.iter_mut().for_each(|y| *y = Activation::Relu.apply(*y));
    }
    y
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "coordinates are small and not negative"
)]
fn resize(x: &[f32], shape: Shape, out: Shape) -> Vec<f32> {
    // Source place of a sample: the lower neighbour, the upper one, the upper one's part.
    let place = |o: usize, n_out: usize, n_in: usize| {
        let at = if n_out == 1 {
            0.0
        } else {
            o as f64 * (n_in - 1) as f64 / (n_out - 1) as f64
        };
        let low = (at.floor() as usize).min(n_in - 1);
        (low, (low + 1).min(n_in - 1), at - low as f64)
    };
    let mut y = Vec::with_capacity(out.len());
    for plane in x.chunks_exact(shape.h * shape.w) {
        let at = |iy: usize, ix: usize| f64::from(plane[iy * shape.w + ix]);
        for oy in 0..out.h {
            let (y0, y1, fy) = place(oy, out.h, shape.h);
            for ox in 0..out.w {
                let (x0, x1, fx) = place(ox, out.w, shape.w);
                let row = |iy: usize| at(iy, x0) * (1.0 - fx) + at(iy, x1) * fx;
                y.push((row(y0) * (1.0 - fy) + row(y1) * fy) as f32);
            }
        }
    }
    y
}

fn pad(x: &[f32], shape: Shape, out: Shape, (pads, value): ([usize; 4], f32)) -> Vec<f32> {
    let mut y = vec![value; out.len()];
    for c in 0..shape.c {
        for row in 0..shape.h {
            let from = (c * shape.h + row) * shape.w;
            let to = (c * out.h + row + pads[0]) * out.w + pads[1];
            y[to..to + shape.w].copy_from_slice(&x[from..from + shape.w]);
        }
    }
    y
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "sums are f64, results f32; windows are small"
)]
fn pool(pool: Pool, x: &[f32], shape: Shape, out: Shape) -> Vec<f32> {
    let [kernel_h, kernel_w] = pool.window.kernel;
    let [stride_h, stride_w] = pool.window.stride;
    let [top, left, ..] = pool.window.pads;
    let mut y = Vec::with_capacity(out.len());
    for plane in x.chunks_exact(shape.h * shape.w) {
        for place in 0..out.h * out.w {
            let (oy, ox) = (place / out.w, place % out.w);
            let mut samples = Vec::with_capacity(kernel_h * kernel_w);
            for (_, iy) in taps(oy, stride_h, top, kernel_h, shape.h) {
                for (_, ix) in taps(ox, stride_w, left, kernel_w, shape.w) {
                    samples.push(plane[iy * shape.w + ix]);
                }
            }
            let sum: f64 = samples.iter().map(|&s| f64::from(s)).sum();
            y.push(match pool.kind {
                PoolKind::Max => samples.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                PoolKind::Average { include_pad: true } => {
                    (sum / (kernel_h * kernel_w) as f64) as f32
                }
                PoolKind::Average { include_pad: false } => (sum / samples.len() as f64) as f32,
            });
        }
    }
    y
}
