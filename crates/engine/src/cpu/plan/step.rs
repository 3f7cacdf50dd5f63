//! One step of a plan: packed weights and the kernel calls that they are for.

use super::{
    block::{Block, Input, Inputs, Output},
    plain,
    strips::{PlanOptions, Products},
    tensor::{Source, Target},
    transposed::Transposed,
    units::{Unit, UnitKind},
    winograd::Winograd,
};
use crate::{
    cpu::arena::{Scratch, ScratchSize},
    cpu::kernels::{
        self, Element, Epilogue, Isa, MatRef, PackedDepthwise, Strip, Weights, Windows,
        depthwise3x3,
    },
    graph::{Activation, Conv, Graph, Op, Pool, Reduction, Shape, op::Window},
};

/// Elements of padded rows, or of unfolded windows, that are multiplied at once.
const PATCH_LEN: usize = 64 * 1024;
/// Longest row of unfolded windows, in elements; a convolution beyond that runs unpacked.
const MAX_PATCH_ROW: usize = 1 << 24;

/// What a step computes, with the weights in the form in which it reads them.
#[derive(Debug)]
pub(super) enum Kernel<E: Element> {
    Block(Box<Block<E>>),
    Pointwise {
        matrix: E::Matrix,
        relu: bool,
    },
    Dense {
        matrix: E::Matrix,
        relu: bool,
        window: Window,
        /// Rows of the result that are computed at once.
        patch_rows: usize,
        /// Elements of the padded rows or unfolded windows that they read.
        scratch_len: usize,
    },
    Depthwise {
        filter: PackedDepthwise,
        relu: bool,
        stride: usize,
    },
    AnyConv(Conv),
    Transposed(Box<Transposed<E>>),
    Winograd(Box<Winograd>),
    /// Multiplies all channels of a pixel by one number.
    Gate,
    Reduce(Reduction),
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    Add,
    Activation(Activation),
    /// Copies each input to the channel that it starts at.
    Concat {
        offsets: Vec<usize>,
    },
    ResizeBilinear,
    Pad {
        pads: [usize; 4],
        value: f32,
    },
    Pool(Pool),
    Reshape,
}

impl<E: Element> Kernel<E> {
    /// Packs what `unit` needs.
    pub fn pack(isa: Isa, graph: &Graph, unit: &Unit, options: &PlanOptions) -> Self {
        let shape = graph.shapes[unit.inputs[0]];
        let out = graph.shapes[unit.output];
        if let UnitKind::Block(nodes) = unit.kind
            && let Some(block) = Block::pack(isa, graph, nodes, options)
        {
            return Self::Block(Box::new(block));
        }
        let index = unit.last();
        match &graph.nodes[index].op {
            Op::Conv(conv) => {
                let settings = (isa, options.products);
                match Winograd::pack::<E>(settings, conv, [shape, out]) {
                    Some(winograd) => Self::Winograd(Box::new(winograd)),
                    None => Self::pack_conv(settings, conv, shape, out),
                }
            }
            Op::ConvTranspose(conv) => {
                let settings = (isa, options.products);
                Self::Transposed(Box::new(Transposed::pack(settings, conv, shape, out)))
            }
            Op::Gate => Self::Gate,
            Op::Reduce(reduction) => Self::Reduce(*reduction),
            Op::Affine { scale, shift } => Self::Affine {
                scale: scale.clone(),
                shift: shift.clone(),
            },
            Op::Add => Self::Add,
            Op::Activation(activation) => Self::Activation(*activation),
            Op::Concat => Self::Concat { offsets: vec![] },
            Op::ResizeBilinear => Self::ResizeBilinear,
            Op::Pad { pads, value } => Self::Pad {
                pads: *pads,
                value: *value,
            },
            Op::Pool(pool) => Self::Pool(*pool),
            Op::Reshape => Self::Reshape,
        }
    }

    /// Packs a convolution alone.
    pub(super) fn pack_conv(
        (isa, products): (Isa, Products),
        conv: &Conv,
        shape: Shape,
        out: Shape,
    ) -> Self {
        let Conv {
            weights,
            bias,
            window,
            relu,
            ..
        } = conv;
        let [kernel_h, kernel_w] = window.kernel;
        let patch = kernel_h * kernel_w * shape.c;
        if conv.is_pointwise() {
            let matrix = products.pack::<E>(isa, weights, bias, shape.c);
            return Self::Pointwise {
                matrix,
                relu: *relu,
            };
        }
        if conv.is_depthwise_3x3() {
            let filter = PackedDepthwise::pack(isa, weights, bias, out.c);
            return Self::Depthwise {
                filter,
                relu: *relu,
                stride: window.stride[0],
            };
        }
        if conv.groups > 1 || patch.saturating_mul(out.w) > MAX_PATCH_ROW {
            return Self::AnyConv(conv.clone());
        }
        // From [c_out][c_in][h][w] to [c_out][h][w][c_in], the order of unfolded windows.
        let plane = kernel_h * kernel_w;
        let place = |i: usize| {
            let (o, rest) = (i / patch, i % patch);
            o * patch + rest % shape.c * plane + rest / shape.c
        };
        let reordered: Vec<f32> = (0..weights.len()).map(|i| weights[place(i)]).collect();
        let matrix = products.pack::<E>(isa, &reordered, bias, patch);
        let (patch_rows, scratch_len) = if matrix.convolves() {
            let row = padded_row(window, shape);
            let n_rows = (PATCH_LEN / row).saturating_sub(kernel_h) / window.stride[0] + 1;
            let n_rows = n_rows.min(out.h);
            (n_rows, padded_rows(window, n_rows) * row)
        } else {
            let n_rows = (PATCH_LEN / (patch * out.w)).clamp(1, out.h);
            (n_rows, patch * out.w * n_rows)
        };
        Self::Dense {
            matrix,
            relu: *relu,
            window: *window,
            patch_rows,
            scratch_len,
        }
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Block(block) => block.bytes(),
            Self::Pointwise { matrix, .. } | Self::Dense { matrix, .. } => matrix.bytes(),
            Self::Depthwise { filter, .. } => filter.bytes(),
            Self::AnyConv(conv) => (conv.weights.len() + conv.bias.len()) * size_of::<f32>(),
            Self::Transposed(transposed) => transposed.bytes(),
            Self::Winograd(winograd) => winograd.bytes(),
            Self::Affine { scale, shift } => (scale.len() + shift.len()) * size_of::<f32>(),
            _ => 0,
        }
    }

    /// Working memory that a run needs.
    pub fn scratch(&self) -> ScratchSize {
        match self {
            Self::Block(block) => block.scratch(),
            Self::Transposed(transposed) => transposed.scratch(),
            Self::Winograd(winograd) => winograd.scratch(),
            Self::Dense { scratch_len, .. } => ScratchSize {
                narrow: *scratch_len,
                ..ScratchSize::default()
            },
            _ => ScratchSize::default(),
        }
    }

    /// Runs one frame.
    pub fn run(
        &self,
        isa: Isa,
        inputs: &[Input<'_, E>],
        out: &mut Output<'_, '_, E>,
        scratch: &mut Scratch<E>,
    ) {
        if let Self::Block(block) = self {
            let mut others = inputs[1..].iter().filter_map(Input::tensor);
            let lifted = block.lift.as_ref().and_then(|_| others.next());
            let inputs = Inputs {
                main: inputs[0],
                lifted,
                residual: others.next(),
            };
            return block.run(inputs, out, scratch);
        }
        // A concatenation whose parts were all written at their places.
        if inputs.is_empty() {
            return;
        }
        let sources: Vec<Source<'_, E>> = inputs.iter().filter_map(Input::tensor).collect();
        if let Output::Tensor(target) = out {
            self.run_single(isa, &sources, target, scratch);
        }
    }

    fn run_single(
        &self,
        isa: Isa,
        inputs: &[Source<'_, E>],
        target: &mut Target<'_, E>,
        scratch: &mut Scratch<E>,
    ) {
        let input = inputs[0];
        let added = inputs.get(1).copied();
        match self {
            Self::Block(_) => {}
            Self::Pointwise { .. } | Self::Dense { .. } | Self::AnyConv(_) => {
                self.run_conv((input, added), target, &mut scratch.narrow);
            }
            Self::Transposed(transposed) => transposed.run(input, target, &mut scratch.narrow),
            Self::Winograd(winograd) => {
                winograd.run((input, added), target, &mut scratch.floats);
            }
            Self::Gate => plain::gate(input, inputs[1], target),
            Self::Reduce(reduction) => plain::reduce(*reduction, input, target),
            Self::Depthwise {
                filter,
                relu,
                stride,
            } => {
                run_depthwise((filter, *stride, *relu), input, added, target);
            }
            Self::Affine { scale, shift } => plain::affine(scale, shift, input, target),
            Self::Add => kernels::add(isa, input.dense(), inputs[1].dense(), target.dense()),
            Self::Activation(Activation::Relu) => {
                kernels::relu(isa, input.dense(), target.dense());
            }
            Self::Activation(Activation::Sigmoid) => {
                kernels::sigmoid(isa, input.dense(), target.dense());
            }
            Self::Activation(activation) => plain::activation(*activation, input, target),
            Self::Concat { offsets } => plain::concat(inputs, offsets, target),
            Self::ResizeBilinear => {
                let Shape { c, h, w } = input.shape;
                let Shape { h: oh, w: ow, .. } = target.shape;
                let (out, stride) = (&mut *target.data, target.stride);
                let source = input.dense();
                kernels::upsample_bilinear_align_corners(
                    isa,
                    source,
                    (h, w, c),
                    out,
                    (oh, ow),
                    stride,
                );
            }
            Self::Pad { pads, value } => plain::pad(*pads, *value, input, target),
            Self::Pool(pool) => plain::pool(*pool, input, target),
            Self::Reshape => plain::reshape(input, target),
        }
    }

    /// Runs a convolution that is no depthwise one; others do nothing.
    pub(super) fn run_conv(
        &self,
        (input, added): (Source<'_, E>, Option<Source<'_, E>>),
        target: &mut Target<'_, E>,
        scratch: &mut [E],
    ) {
        match self {
            Self::Pointwise { matrix, relu } => {
                let rows = 0..target.shape.h;
                let residual = added.map(|r| r.rows(rows.clone()));
                let epilogue = Epilogue::with_residual(*relu, residual);
                E::gemm(
                    matrix,
                    input.rows(rows.clone()),
                    target.rows(rows),
                    epilogue,
                );
            }
            Self::Dense { .. } => self.run_dense(input, added, target, scratch),
            Self::AnyConv(conv) => plain::conv(conv, input, added, target),
            _ => {}
        }
    }

    fn run_dense(
        &self,
        input: Source<'_, E>,
        added: Option<Source<'_, E>>,
        target: &mut Target<'_, E>,
        scratch: &mut [E],
    ) {
        let Self::Dense {
            matrix,
            relu,
            window,
            patch_rows,
            ..
        } = self
        else {
            return;
        };
        let Shape { c, h, w } = input.shape;
        let [kernel_h, kernel_w] = window.kernel;
        let [stride_h, stride_w] = window.stride;
        let [top, left, bottom, right] = window.pads;
        for start in (0..target.shape.h).step_by(*patch_rows) {
            let rows = start..(start + patch_rows).min(target.shape.h);
            let n_pixels = rows.len() * target.shape.w;
            let residual = added.map(|r| r.rows(rows.clone()));
            let epilogue = Epilogue::with_residual(*relu, residual);
            if matrix.convolves() {
                let padded = start * stride_h..start * stride_h + padded_rows(window, rows.len());
                let data = &mut scratch[..padded.len() * padded_row(window, input.shape)];
                kernels::pad_rows(input.dense(), (h, w, c), (top, left, right), padded, data);
                let windows = Windows {
                    data,
                    width: left + w + right,
                    c,
                    kernel: (kernel_h, kernel_w),
                    stride: (stride_h, stride_w),
                    n: (rows.len(), target.shape.w),
                };
                E::convolve(matrix, windows, target.rows(rows), epilogue);
                continue;
            }
            let patches = &mut scratch[..n_pixels * matrix.n_in()];
            kernels::im2col(
                input.dense(),
                (h, w, c),
                (kernel_h, kernel_w),
                (stride_h, stride_w),
                (top, left, bottom, right),
                rows.clone(),
                patches,
            );
            let patches = MatRef {
                data: patches,
                rows: n_pixels,
                stride: matrix.n_in(),
            };
            E::gemm(matrix, patches, target.rows(rows), epilogue);
        }
    }
}

/// Rows of the padded tensor that `n` rows of windows read.
fn padded_rows(window: &Window, n: usize) -> usize {
    (n - 1) * window.stride[0] + window.kernel[0]
}

/// Elements of a row of the padded tensor.
fn padded_row(window: &Window, shape: Shape) -> usize {
    let [_, left, _, right] = window.pads;
    (left + shape.w + right) * shape.c
}

fn run_depthwise<E: Element>(
    (filter, stride, relu): (&PackedDepthwise, usize, bool),
    input: Source<'_, E>,
    added: Option<Source<'_, E>>,
    target: &mut Target<'_, E>,
) {
    let Shape { h, w, .. } = input.shape;
    let strip = Strip {
        data: input.dense(),
        plane: None,
        rows: 0..h,
        width: w,
        height: h,
    };
    let rows = 0..target.shape.h;
    depthwise3x3(
        filter,
        strip,
        rows,
        stride,
        relu && added.is_none(),
        target.dense(),
    );
    if let Some(added) = added {
        plain::add_in_place(added, relu, target);
    }
}
