//! A plan in words and numbers.

use std::fmt;

use super::{Place, Plan, Step, step::Kernel, visual::VisualPart};
use crate::{
    cpu::arena::Stored,
    cpu::kernels::{Element, Weights},
    graph::Shape,
};

/// What a network's plan does, step by step: `lipsync-server inspect-model --plan`.
#[derive(Debug, Clone)]
pub struct PlanReport {
    /// The instruction set.
    pub isa: &'static str,
    /// What activations are stored as.
    pub precision: &'static str,
    /// In the order in which they run.
    pub steps: Vec<StepReport>,
    /// Bytes of all packed weights, once a process.
    pub weights_bytes: u64,
    /// Bytes of the arena that all tensors share, once a worker.
    pub arena_bytes: u64,
    /// Bytes of working memory beside the arena, once a worker.
    pub scratch_bytes: u64,
    /// Bytes a background frame that the visual cache would keep.
    pub kept_bytes: u64,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// What it computes: `block 1x1 64-128, 3x3 / 2, 1x1 128-32`.
    pub what: String,
    /// Shape of the first input.
    pub input: Shape,
    /// Shape of the output.
    pub output: Shape,
    /// Multiplications and additions, counted in pairs; of convolutions.
    pub macs: u64,
    /// Those of them that are computed in bytes.
    pub int8_macs: u64,
    /// Bytes of packed weights.
    pub weights_bytes: u64,
    /// Bytes of the inputs read and the output written; not what stays within a step.
    pub activation_bytes: u64,
    /// Rows of a strip, of a fused block.
    pub strip_rows: Option<usize>,
    /// Columns of a strip, where it does not have all.
    pub strip_columns: Option<usize>,
    /// Which kernels run.
    pub kernel: &'static str,
    /// What its matrix products are computed in.
    pub numbers: &'static str,
    /// Whether it depends on the visual input alone.
    pub visual: bool,
}

impl PlanReport {
    /// Multiplications and additions of one frame, counted in pairs.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.steps.iter().map(|s| s.macs).sum()
    }

    /// As [`macs`](Self::macs), of the products that are computed in bytes.
    #[must_use]
    pub fn int8_macs(&self) -> u64 {
        self.steps.iter().map(|s| s.int8_macs).sum()
    }

    /// Steps that run on plain loops rather than vector kernels.
    #[must_use]
    pub fn n_plain(&self) -> usize {
        let is_plain = |s: &&StepReport| s.kernel == PLAIN;
        self.steps.iter().filter(is_plain).count()
    }

    /// Convolutions that run by themselves instead of within a fused block.
    #[must_use]
    pub fn n_unfused(&self) -> usize {
        let is_unfused = |s: &&StepReport| s.strip_rows.is_none() && s.macs > 0;
        self.steps.iter().filter(is_unfused).count()
    }
}

/// Loops without vectors.
const PLAIN: &str = "plain";

impl<E: Stored> Plan<E> {
    pub(super) fn describe(&self) -> PlanReport {
        let describe = |(index, step): (usize, &Step<E>)| {
            let visual = self.visual.as_ref().is_some_and(|v| index < v.n_steps);
            step.describe(self, visual)
        };
        PlanReport {
            isa: self.isa.name(),
            precision: E::NAME,
            steps: self.steps.iter().enumerate().map(describe).collect(),
            weights_bytes: self.steps.iter().map(|s| s.kernel.bytes() as u64).sum(),
            arena_bytes: (self.arena_len * size_of::<E>()) as u64,
            scratch_bytes: self.scratch.bytes::<E>() as u64,
            kept_bytes: (self.visual.as_ref().map_or(0, VisualPart::len) * size_of::<E>()) as u64,
        }
    }
}

impl<E: Element> Step<E> {
    fn describe(&self, plan: &Plan<E>, visual: bool) -> StepReport {
        let shape = |place: &Place| match place {
            Place::Arena { view, .. } => view.shape,
            Place::End(i) => plan.inputs[*i].shape,
        };
        let input = self.inputs.first().map_or(self.shape, shape);
        let n_values: usize = self.inputs.iter().map(|p| shape(p).len()).sum();
        let mut what = self.kernel.what(input);
        if let Some(Place::End(_)) = self.inputs.first() {
            what.insert_str(0, "packing, ");
        }
        if matches!(self.output, Place::End(_)) {
            what.push_str(", output");
        }
        StepReport {
            what,
            input,
            output: self.shape,
            macs: self.kernel.macs(input, self.shape),
            int8_macs: self.kernel.macs_in("int8", input, self.shape),
            weights_bytes: self.kernel.bytes() as u64,
            activation_bytes: ((n_values + self.shape.len()) * size_of::<E>()) as u64,
            strip_rows: match &self.kernel {
                Kernel::Block(block) => Some(block.strip_rows),
                _ => None,
            },
            strip_columns: match &self.kernel {
                Kernel::Block(block) => {
                    Some(block.tile_columns).filter(|&columns| columns < self.shape.w)
                }
                _ => None,
            },
            kernel: self.kernel.kernels(self.inputs.is_empty()),
            numbers: self.kernel.numbers(),
            visual,
        }
    }
}

impl<E: Element> Kernel<E> {
    fn what(&self, input: Shape) -> String {
        match self {
            Self::Block(block) => block.to_string(),
            Self::Pointwise { matrix, .. } => {
                format!("conv 1x1 {}-{}", matrix.n_in(), matrix.n_out())
            }
            Self::Dense { matrix, window, .. } => {
                let ([h, w], [sh, sw]) = (window.kernel, window.stride);
                format!("conv {h}x{w} {}-{} / {sh}x{sw}", input.c, matrix.n_out())
            }
            Self::Depthwise { filter, stride, .. } => {
                format!("depthwise 3x3 {} / {stride}", filter.channels())
            }
            Self::AnyConv(conv) => format!("conv in {} groups", conv.groups),
            Self::Transposed(transposed) => transposed.to_string(),
            Self::Winograd(winograd) => winograd.to_string(),
            Self::Gate => "gate".into(),
            Self::Reduce(reduction) => format!("{reduction:?} of channels").to_lowercase(),
            Self::Affine { .. } => "affine".into(),
            Self::Add => "add".into(),
            Self::Activation(activation) => format!("{activation:?}").to_lowercase(),
            Self::Concat { .. } => "concat".into(),
            Self::ResizeBilinear => "resize".into(),
            Self::Pad { .. } => "pad".into(),
            Self::Pool(_) => "pool".into(),
            Self::Reshape => "reshape".into(),
        }
    }

    /// What the products of most of its MACs are computed in; `-` without any.
    pub(super) fn numbers(&self) -> &'static str {
        match self {
            Self::Block(block) => block.numbers(),
            Self::Pointwise { matrix, .. } | Self::Dense { matrix, .. } => matrix.numbers(),
            Self::Transposed(transposed) => transposed.numbers(),
            Self::Depthwise { .. } | Self::AnyConv(_) | Self::Winograd(_) => "f32",
            _ => "-",
        }
    }

    fn kernels(&self, nothing_to_read: bool) -> &'static str {
        use crate::graph::Activation::{Relu, Sigmoid};
        match self {
            Self::Block(_) => "fused",
            Self::Pointwise { .. } => "gemm",
            Self::Dense { matrix, .. } if matrix.convolves() => "convolve",
            Self::Dense { .. } => "im2col, gemm",
            Self::Transposed(_) => "phases",
            Self::Winograd(_) => "winograd",
            Self::Depthwise { .. } => "depthwise",
            Self::Add | Self::Activation(Relu | Sigmoid) => "elementwise",
            Self::ResizeBilinear => "resize",
            // Its parts were written where they belong.
            Self::Concat { .. } if nothing_to_read => "in place",
            _ => PLAIN,
        }
    }

    /// As [`macs`](Self::macs), of the products that are computed in `numbers`.
    fn macs_in(&self, numbers: &str, input: Shape, out: Shape) -> u64 {
        match self {
            Self::Block(block) => block.macs_in(numbers),
            Self::Pointwise { matrix, .. } | Self::Dense { matrix, .. }
                if matrix.numbers() == numbers =>
            {
                self.macs(input, out)
            }
            _ => 0,
        }
    }

    fn macs(&self, input: Shape, out: Shape) -> u64 {
        let per_pixel = match self {
            Self::Block(block) => return block.macs(),
            Self::Transposed(transposed) => return transposed.macs(),
            Self::Pointwise { matrix, .. } | Self::Dense { matrix, .. } => {
                matrix.n_in() * matrix.n_out()
            }
            Self::Winograd(winograd) => winograd.macs_per_pixel(),
            Self::Depthwise { filter, .. } => 9 * filter.channels(),
            Self::AnyConv(conv) => conv.weights.len(),
            Self::Pool(pool) => input.c * pool.window.kernel.iter().product::<usize>(),
            _ => 0,
        };
        (per_pixel * out.h * out.w) as u64
    }
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: u64| bytes.div_ceil(1024);
        writeln!(
            f,
            "{:>4} {:<12} {:<12} {:>11} {:>10} {:>15} {:>6}  {:<13} {:<7} what",
            "step",
            "from (c,h,w)",
            "to (c,h,w)",
            "MACs",
            "weights kB",
            "activations kB",
            "strip",
            "kernel",
            "numbers"
        )?;
        for (index, step) in self.steps.iter().enumerate() {
            let shape = |s: Shape| format!("{},{},{}", s.c, s.h, s.w);
            let strip = match (step.strip_rows, step.strip_columns) {
                (Some(rows), Some(columns)) => format!("{rows}x{columns}"),
                (Some(rows), None) => rows.to_string(),
                _ => "-".into(),
            };
            writeln!(
                f,
                "{index:>3}{} {:<12} {:<12} {:>11} {:>10} {:>15} {strip:>6}  {:<13} {:<7} {}",
                if step.visual { 'v' } else { ' ' },
                shape(step.input),
                shape(step.output),
                step.macs,
                kib(step.weights_bytes),
                kib(step.activation_bytes),
                step.kernel,
                step.numbers,
                step.what,
            )?;
        }
        writeln!(
            f,
            "{} steps ({} convolutions unfused, {} steps on plain loops), {} MACs, {} on {}",
            self.steps.len(),
            self.n_unfused(),
            self.n_plain(),
            self.macs(),
            self.precision,
            self.isa,
        )?;
        if self.int8_macs() > 0 {
            let percent = 100 * self.int8_macs() / self.macs().max(1);
            writeln!(f, "{percent} % of the MACs in int8")?;
        }
        write!(
            f,
            "{} kB of weights; a worker: {} kB arena, {} kB working memory; v: {} kB a frame to keep",
            kib(self.weights_bytes),
            kib(self.arena_bytes),
            kib(self.scratch_bytes),
            kib(self.kept_bytes),
        )
    }
}
