//! A graph made ready to run: grouped, packed, placed.
//!
//! Activations are f32 in NHWC. [`units`] finds what runs as one step, [`memory`] where values live,
//! [`step`] packs weights and calls kernels, [`block`] is the fused inverted residual block. A plan
//! is immutable and shared; what a run writes to belongs to a [`Session`]. Nothing is parallel inside
//! a frame, and frames never meet: a frame's result is bit-equal whatever runs beside it.

mod block;
mod memory;
mod plain;
mod step;
pub(crate) mod units;

use std::ops::Range;

use self::{memory::View, step::Kernel};
use crate::{
    Session,
    graph::{Graph, Shape},
    kernels::{Isa, MatMut, MatRef},
};

/// A network packed for one instruction set.
#[derive(Debug)]
pub(crate) struct Plan {
    isa: Isa,
    steps: Vec<Step>,
    inputs: Vec<View>,
    outputs: Vec<View>,
    slot_floats: Vec<usize>,
    scratch_floats: usize,
}

#[derive(Debug)]
struct Step {
    kernel: Kernel,
    inputs: Vec<View>,
    output: View,
}

/// A value to read.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    /// From the first channel of the first pixel on.
    data: &'a [f32],
    /// Floats from one pixel to the next.
    stride: usize,
    shape: Shape,
}

/// A value to write.
#[derive(Debug)]
struct Target<'a> {
    data: &'a mut [f32],
    stride: usize,
    shape: Shape,
}

impl Plan {
    /// Packs a simplified graph.
    pub fn new(graph: &Graph, isa: Isa) -> Self {
        let units = units::group(graph);
        let memory = memory::plan(graph, &units);
        let view = |id: &usize| memory.views[*id];
        let step = |unit: &units::Unit| {
            let output = view(&unit.output);
            let mut kernel = Kernel::pack(isa, graph, unit);
            let mut inputs: Vec<View> = unit.inputs.iter().map(view).collect();
            if let Kernel::Concat { offsets } = &mut kernel {
                let all = inputs.iter().scan(0, |end, input| {
                    *end += input.shape.c;
                    Some((*end - input.shape.c, *input))
                });
                // Parts that were placed are there already.
                let absent = all.filter(|(_, input)| input.slot != output.slot);
                (*offsets, inputs) = absent.unzip();
            }
            Step {
                kernel,
                inputs,
                output,
            }
        };
        let steps: Vec<Step> = units
            .iter()
            .map(step)
            .filter(|step| !step.inputs.is_empty())
            .collect();
        let scratch = steps
            .iter()
            .map(|s| s.kernel.scratch_floats(s.output.shape));
        Self {
            isa,
            scratch_floats: scratch.max().unwrap_or(0),
            inputs: graph.inputs.iter().map(view).collect(),
            outputs: graph.outputs.iter().map(view).collect(),
            slot_floats: memory.slot_floats.clone(),
            steps,
        }
    }

    /// The instruction set that it is packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Shapes of the inputs.
    pub fn input_shapes(&self) -> Vec<Shape> {
        self.inputs.iter().map(|v| v.shape).collect()
    }

    /// Shapes of the outputs.
    pub fn output_shapes(&self) -> Vec<Shape> {
        self.outputs.iter().map(|v| v.shape).collect()
    }

    /// Bytes of all packed weights.
    pub fn weights_bytes(&self) -> u64 {
        self.steps.iter().map(|s| s.kernel.bytes() as u64).sum()
    }

    /// Runs one frame: `fill(i, x)` writes input `i`, `read(i, y)` gets output `i`, both NHWC.
    pub fn run(
        &self,
        session: &mut Session,
        mut fill: impl FnMut(usize, &mut [f32]),
        mut read: impl FnMut(usize, &[f32]),
    ) {
        session.reserve(&self.slot_floats, self.scratch_floats);
        let Session { slots, scratch } = session;
        for (i, view) in self.inputs.iter().enumerate() {
            fill(i, &mut slots[view.slot][..view.shape.len()]);
        }
        for step in &self.steps {
            // The tensor written and the tensors read are borrowed side by side.
            let (before, rest) = slots.split_at_mut(step.output.slot);
            let Some((written, after)) = rest.split_first_mut() else {
                continue;
            };
            let slot = |i: usize| match i.checked_sub(before.len() + 1) {
                Some(i) => &after[i],
                None => &before[i],
            };
            let sources: Vec<Source<'_>> = step
                .inputs
                .iter()
                .map(|view| view.source(slot(view.slot)))
                .collect();
            let mut target = Target {
                data: &mut written[step.output.offset..],
                stride: step.output.stride,
                shape: step.output.shape,
            };
            step.kernel.run(self.isa, &sources, &mut target, scratch);
        }
        for (i, view) in self.outputs.iter().enumerate() {
            read(i, &slots[view.slot][..view.shape.len()]);
        }
    }
}

impl View {
    fn source(self, slot: &[f32]) -> Source<'_> {
        Source {
            data: &slot[self.offset..],
            stride: self.stride,
            shape: self.shape,
        }
    }
}

impl<'a> Source<'a> {
    /// Rows of pixels as a matrix, one line a pixel.
    fn rows(self, rows: Range<usize>) -> MatRef<'a> {
        let start = rows.start * self.shape.w * self.stride;
        // A strip may need no new row at all; then there is nothing to point at.
        let data = self.data.get(start..).unwrap_or_default();
        MatRef {
            data,
            rows: rows.len() * self.shape.w,
            stride: self.stride,
        }
    }

    /// The channels of pixel `p`.
    fn pixel(self, p: usize) -> &'a [f32] {
        &self.data[p * self.stride..][..self.shape.c]
    }

    /// All floats of a value that is a whole tensor.
    fn dense(self) -> &'a [f32] {
        debug_assert_eq!(
            self.stride, self.shape.c,
            "the value is part of a wider tensor"
        );
        &self.data[..self.shape.len()]
    }
}

impl Target<'_> {
    fn rows(&mut self, rows: Range<usize>) -> MatMut<'_> {
        let start = rows.start * self.shape.w * self.stride;
        MatMut {
            data: &mut self.data[start..],
            stride: self.stride,
        }
    }

    /// The channels of every pixel, in order.
    fn pixels(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let Shape { c, h, w } = self.shape;
        self.data
            .chunks_mut(self.stride)
            .take(h * w)
            .map(move |pixel| &mut pixel[..c])
    }

    fn dense(&mut self) -> &mut [f32] {
        debug_assert_eq!(
            self.stride, self.shape.c,
            "the value is part of a wider tensor"
        );
        &mut self.data[..self.shape.len()]
    }
}
