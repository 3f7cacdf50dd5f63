//! Transposed convolutions, as plain ones.
//!
//! With a stride of 2, the places of the output fall into four *phases*, by what is left of row and column
//! when they are divided by 2. All places of one phase see the same taps of the kernel, at neighbouring
//! pixels of the input: each phase is a small dense convolution, and together they multiply nothing in vain.
//! Of an input of one pixel the result is a matrix product, every column of which has a place of its own.

use std::fmt;

use super::{
    step::Kernel,
    strips::Products,
    tensor::{Source, Target},
};
use crate::{
    cpu::{
        arena::ScratchSize,
        kernels::{Element, Epilogue, Isa, MatMut, MatRef, Weights},
    },
    graph::{Conv, Shape, op::Window},
};

/// A packed transposed convolution.
#[derive(Debug)]
pub(super) struct Transposed<E: Element> {
    form: Form<E>,
    window: Window,
    shape: Shape,
    n_out: usize,
    macs: u64,
}

#[derive(Debug)]
enum Form<E: Element> {
    /// Of an input of one pixel.
    Pixel { matrix: E::Matrix, relu: bool },
    /// A convolution for each remainder of row and column by the stride.
    Phases(Vec<Phase<E>>),
}

#[derive(Debug)]
struct Phase<E: Element> {
    kernel: Kernel<E>,
    /// Its first place in the output.
    at: [usize; 2],
    /// Of its result, before that is spread over the output.
    shape: Shape,
}

/// The taps that a phase sees along an axis.
struct Taps {
    /// Of the kernel, in the order of the input's pixels.
    taps: Vec<usize>,
    /// Zeros before the input's first pixel and behind its last.
    pads: [usize; 2],
    /// Places of the phase in the output.
    n_places: usize,
}

impl Taps {
    /// Of the places `at`, `at + stride`, ... of an output of `n_out`, on an input of `n_in`.
    fn new(window: &Window, axis: usize, at: usize, (n_in, n_out): (usize, usize)) -> Self {
        let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
        let first = (at + window.pads[axis]) % stride;
        let taps: Vec<usize> = (first..kernel).step_by(stride).collect();
        // The pixel of the input that the first tap meets, less that of the place itself.
        let reach = (at + window.pads[axis] - first) / stride;
        let n_places = n_out.saturating_sub(at).div_ceil(stride);
        Self {
            pads: [
                (taps.len() - 1).saturating_sub(reach),
                (n_places + reach).saturating_sub(n_in),
            ],
            taps: taps.into_iter().rev().collect(),
            n_places,
        }
    }
}

impl<E: Element> Transposed<E> {
    /// Packs a transposed convolution of `shape` to `out`.
    pub fn pack(settings: (Isa, Products), conv: &Conv, shape: Shape, out: Shape) -> Self {
        let window = conv.window;
        let form = if (shape.h, shape.w) == (1, 1) && [out.h, out.w] == window.kernel {
            Self::of_pixel(settings, conv, shape)
        } else {
            Self::of_phases(settings, conv, shape, out)
        };
        Self {
            form,
            window,
            shape,
            n_out: out.c,
            macs: conv.weights.len() as u64 * (shape.h * shape.w) as u64,
        }
    }

    fn of_pixel((isa, products): (Isa, Products), conv: &Conv, shape: Shape) -> Form<E> {
        let n_out = conv.bias.len();
        let plane: usize = conv.window.kernel.iter().product();
        let weight =
            |place: usize, o: usize, i: usize| conv.weights[(o * shape.c + i) * plane + place];
        let columns = (0..plane).flat_map(|place| (0..n_out).map(move |o| (place, o)));
        let weights: Vec<f32> = columns
            .flat_map(|(place, o)| (0..shape.c).map(move |i| weight(place, o, i)))
            .collect();
        let bias = conv.bias.repeat(plane);
        Form::Pixel {
            matrix: products.pack::<E>(isa, &weights, &bias, shape.c),
            relu: conv.relu,
        }
    }

    fn of_phases(settings: (Isa, Products), conv: &Conv, shape: Shape, out: Shape) -> Form<E> {
        let [stride_h, stride_w] = conv.window.stride;
        let phase = |at: [usize; 2]| {
            let rows = Taps::new(&conv.window, 0, at[0], (shape.h, out.h));
            let columns = Taps::new(&conv.window, 1, at[1], (shape.w, out.w));
            let of_phase = Shape {
                c: out.c,
                h: rows.n_places,
                w: columns.n_places,
            };
            let conv = of_taps(conv, &rows, &columns);
            Phase {
                kernel: Kernel::pack_conv(settings, &conv, shape, of_phase),
                at,
                shape: of_phase,
            }
        };
        let all =
            (0..stride_h.min(out.h)).flat_map(|y| (0..stride_w.min(out.w)).map(move |x| [y, x]));
        Form::Phases(all.map(phase).collect())
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        match &self.form {
            Form::Pixel { matrix, .. } => matrix.bytes(),
            Form::Phases(phases) => phases.iter().map(|phase| phase.kernel.bytes()).sum(),
        }
    }

    /// Multiplications and additions of a frame, counted in pairs, as the file has them.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// What the products are computed in.
    pub fn numbers(&self) -> &'static str {
        match &self.form {
            Form::Pixel { matrix, .. } => matrix.numbers(),
            Form::Phases(phases) => phases.last().map_or("-", |phase| phase.kernel.numbers()),
        }
    }

    /// Working memory: the result of the largest phase, and what its convolution needs.
    pub fn scratch(&self) -> ScratchSize {
        let of_phase = |phase: &Phase<E>| phase.shape.len() + phase.kernel.scratch().narrow;
        let narrow = match &self.form {
            Form::Pixel { .. } => 0,
            Form::Phases(phases) => phases.iter().map(of_phase).max().unwrap_or(0),
        };
        ScratchSize {
            narrow,
            ..ScratchSize::default()
        }
    }

    /// Runs one frame.
    pub fn run(&self, input: Source<'_, E>, target: &mut Target<'_, E>, scratch: &mut [E]) {
        match &self.form {
            Form::Pixel { matrix, relu } => {
                let n_out = matrix.n_out();
                let pixel = MatRef {
                    data: input.dense(),
                    rows: 1,
                    stride: self.shape.c,
                };
                let out = MatMut::new(target.dense(), n_out);
                E::gemm(matrix, pixel, out, Epilogue::new(*relu));
            }
            Form::Phases(phases) => {
                for phase in phases {
                    let (result, scratch) = scratch.split_at_mut(phase.shape.len());
                    let mut dense = Target {
                        data: &mut *result,
                        stride: phase.shape.c,
                        shape: phase.shape,
                    };
                    phase.kernel.run_conv((input, None), &mut dense, scratch);
                    self.spread(phase, result, target);
                }
            }
        }
    }

    /// Copies the result of a phase to its places in the output.
    fn spread(&self, phase: &Phase<E>, result: &[E], target: &mut Target<'_, E>) {
        let Shape { c, w, .. } = phase.shape;
        let [stride_h, stride_w] = self.window.stride;
        let (row, step) = (target.shape.w * target.stride, stride_w * target.stride);
        for (y, pixels) in result.chunks_exact(w * c).enumerate() {
            let start = (phase.at[0] + y * stride_h) * row + phase.at[1] * target.stride;
            let places = target.data[start..].chunks_mut(step);
            for (pixel, place) in pixels.chunks_exact(c).zip(places) {
                place[..c].copy_from_slice(pixel);
            }
        }
    }
}

/// The convolution of one phase.
fn of_taps(conv: &Conv, rows: &Taps, columns: &Taps) -> Conv {
    let [kernel_h, kernel_w] = conv.window.kernel;
    let pick = |kernel: &[f32]| -> Vec<f32> {
        let rows = rows.taps.iter();
        rows.flat_map(|ky| columns.taps.iter().map(move |kx| (ky, kx)))
            .map(|(ky, kx)| kernel[ky * kernel_w + kx])
            .collect()
    };
    let kernels = conv.weights.chunks_exact(kernel_h * kernel_w);
    Conv {
        weights: kernels.flat_map(pick).collect(),
        bias: conv.bias.clone(),
        window: Window {
            kernel: [rows.taps.len(), columns.taps.len()],
            stride: [1, 1],
            pads: [rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1]],
        },
        groups: 1,
        relu: conv.relu,
    }
}

impl<E: Element> fmt::Display for Transposed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([h, w], [sh, sw]) = (self.window.kernel, self.window.stride);
        let (n_in, n_out) = (self.shape.c, self.n_out);
        write!(f, "transposed conv {h}x{w} {n_in}-{n_out} / {sh}x{sw}")
    }
}
