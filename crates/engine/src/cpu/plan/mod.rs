//! A graph made ready to run: grouped, packed, placed.
//!
//! Activations are [`Element`]s in NHWC. [`crate::schedule`] finds what runs as one step and where
//! values live, [`step`] packs weights and calls kernels, [`block`] is the fused inverted residual
//! block, [`ends`] what comes from the caller and goes to it. A plan is immutable and shared; what a
//! run writes to belongs to [`Arenas`]. Nothing is parallel inside a frame, and frames never meet:
//! a frame's result is bit-equal whatever runs beside it.
//!
//! What depends on one input alone can be kept from one run to another: see [`visual`].

mod block;
pub(crate) mod ends;
mod lift;
mod plain;
pub(crate) mod report;
mod ring;
mod step;
mod strips;
mod tensor;
mod transposed;
pub(crate) mod visual;
mod winograd;

pub(crate) use strips::Products;

#[cfg(test)]
mod tests;

use self::{
    block::{Input, Output},
    ends::{Drain, Feed},
    report::PlanReport,
    step::Kernel,
    strips::PlanOptions,
    visual::{N_RECOMPUTED, Visual, VisualPart},
};
use crate::{
    cpu::arena::{Arena, Arenas, Kept, ScratchSize, Stored},
    cpu::kernels::{Element, Isa},
    graph::{Graph, Shape, ValueId, upsampling::convolve_before_upsampling},
    schedule::{View, memory, units},
};

/// A network packed for one instruction set, with activations stored as `E`.
#[derive(Debug)]
pub(crate) struct Plan<E: Element> {
    isa: Isa,
    steps: Vec<Step<E>>,
    inputs: Vec<End>,
    outputs: Vec<End>,
    visual: Option<VisualPart>,
    arena_len: usize,
    scratch: ScratchSize,
}

#[derive(Debug)]
struct Step<E: Element> {
    kernel: Kernel<E>,
    inputs: Vec<Place>,
    output: Place,
    /// Of the output.
    shape: Shape,
}

/// An input or output of the network.
#[derive(Debug)]
struct End {
    shape: Shape,
    /// In the arena, unless a step reads or writes it row by row.
    view: Option<View>,
}

/// Where a step finds a value or leaves it.
#[derive(Debug, Clone)]
enum Place {
    Arena {
        view: View,
        /// Which of the kept values it is.
        kept: Option<usize>,
    },
    /// Input or output of this number, row by row.
    End(usize),
}

/// One frame to run.
pub(crate) struct Frame<'a, 'd> {
    /// One for each input.
    pub feeds: &'a [Feed<'a>],
    /// One for each output.
    pub drains: &'a mut [Drain<'d>],
    /// What becomes of the part that depends on the visual input alone.
    pub visual: Visual<'a>,
}

/// A plan of any element.
pub(crate) trait Executable: std::fmt::Debug + Send + Sync {
    /// The instruction set that it is packed for.
    fn isa(&self) -> Isa;
    /// Shapes of the inputs.
    fn input_shapes(&self) -> Vec<Shape>;
    /// Shapes of the outputs.
    fn output_shapes(&self) -> Vec<Shape>;
    /// Bytes of all packed weights.
    fn weights_bytes(&self) -> u64;
    /// Bytes of arena and working memory that a run needs.
    fn workspace_bytes(&self) -> u64;
    /// Bytes of what [`Visual::Keep`] keeps; 0 where nothing can be kept.
    fn kept_bytes(&self) -> u64;
    /// What it does, step by step.
    fn report(&self) -> PlanReport;
    /// Runs the part that depends on the visual input alone and writes its crossings to `kept`; other
    /// inputs are not looked at. `false` where there is no such part, or `stop` said so between two
    /// steps.
    fn prepare(
        &self,
        arenas: &mut Arenas,
        feeds: &[Feed<'_>],
        kept: &mut Kept,
        stop: &dyn Fn() -> bool,
    ) -> bool;
    /// Runs one frame; `after_step` is told the index of each step when it is done.
    fn run(&self, arenas: &mut Arenas, frame: Frame<'_, '_>, after_step: &mut dyn FnMut(usize));
}

impl<E: Stored> Plan<E> {
    /// Packs a simplified graph, with products in `products`. What depends on input number `visual` alone
    /// runs first and can be kept.
    pub fn new(graph: &Graph, isa: Isa, visual: Option<usize>, products: Products) -> Self {
        let options = PlanOptions {
            products,
            ..PlanOptions::default()
        };
        Self::with_options(graph, isa, visual, &options)
    }

    /// As [`new`](Self::new), in strips of another size.
    fn with_options(graph: &Graph, isa: Isa, visual: Option<usize>, options: &PlanOptions) -> Self {
        let mut graph = graph.clone();
        convolve_before_upsampling(&mut graph);
        let mut units = units::group(&graph);
        let n_visual = visual.map_or(0, |i| {
            units::order_by_input(&graph, &mut units, graph.inputs[i])
        });
        let ends = streamed_ends(&graph, &units);
        let is_streamed: Vec<bool> = ends.iter().map(Option::is_some).collect();
        let memory = memory::plan(&graph, &units, &is_streamed, 1);
        let visual = VisualPart::find(&graph, &units, n_visual, &memory.views);
        let place = |&value: &ValueId| match (&memory.views[value], ends[value]) {
            (Some(view), _) => Some(Place::Arena {
                view: view.clone(),
                kept: visual.as_ref().and_then(|v| v.kept_index(value)),
            }),
            (None, end) => end.map(Place::End),
        };
        let placed = || units.iter().filter_map(|u| Some((u, place(&u.output)?)));
        let n_steps = placed().count();
        let step = |(number, (unit, output)): (usize, (&units::Unit, Place))| {
            let options = PlanOptions {
                products: options.products.of_step(number, n_steps),
                ..*options
            };
            let mut kernel = Kernel::pack(isa, &graph, unit, &options);
            let mut inputs: Vec<Place> = unit.inputs.iter().filter_map(place).collect();
            if let Kernel::Concat { offsets } = &mut kernel {
                (*offsets, inputs) = absent_parts(inputs, &output);
            }
            Step {
                kernel,
                inputs,
                output,
                shape: graph.shapes[unit.output],
            }
        };
        let steps: Vec<Step<E>> = placed().enumerate().map(step).collect();
        let ends = |ids: &[ValueId]| -> Vec<End> {
            let end = |&id: &ValueId| End {
                shape: graph.shapes[id],
                view: memory.views[id].clone(),
            };
            ids.iter().map(end).collect()
        };
        let outputs = ends(&graph.outputs);
        let scratch = steps.iter().map(|s| s.kernel.scratch());
        Self {
            isa,
            scratch: scratch.fold(scratch_of_outputs(&outputs), ScratchSize::max),
            inputs: ends(&graph.inputs),
            outputs,
            steps,
            visual,
            arena_len: memory.len,
        }
    }
}

/// An output that is in the arena is converted row by row.
fn scratch_of_outputs(outputs: &[End]) -> ScratchSize {
    let rows = outputs.iter().map(|end| end.shape.w * end.shape.c);
    ScratchSize {
        floats: rows.max().unwrap_or(0),
        ..ScratchSize::default()
    }
}

/// Which inputs and outputs, by value, a block reads or writes row by row.
fn streamed_ends(graph: &Graph, units: &[units::Unit]) -> Vec<Option<usize>> {
    let mut ends = vec![None; graph.shapes.len()];
    let use_counts = graph.use_counts();
    for unit in units {
        let Some(block) = unit.block() else { continue };
        let is_main = |&v: &ValueId| v == unit.inputs[0] && use_counts[v] == 1;
        if let Some(i) = graph.inputs.iter().position(is_main) {
            ends[unit.inputs[0]] = Some(i);
        }
        let is_drained = |&v: &ValueId| v == unit.output && use_counts[v] == 1;
        if let Some(i) = graph.outputs.iter().position(is_drained)
            && block.head.is_some()
        {
            ends[unit.output] = Some(i);
        }
    }
    ends
}

/// The parts of a concatenation that were not written at their place, and where they belong.
fn absent_parts(parts: Vec<Place>, joined: &Place) -> (Vec<usize>, Vec<Place>) {
    let is_there =
        |part: &View| matches!(joined, Place::Arena { view, .. } if view.tensor == part.tensor);
    let mut end = 0;
    let mut absent = (vec![], vec![]);
    for part in parts {
        if let Place::Arena { view, .. } = &part {
            end += view.shape.c;
            if !is_there(view) {
                absent.0.push(end - view.shape.c);
                absent.1.push(part);
            }
        }
    }
    absent
}

impl<E: Stored> Executable for Plan<E> {
    fn isa(&self) -> Isa {
        self.isa
    }

    fn input_shapes(&self) -> Vec<Shape> {
        self.inputs.iter().map(|end| end.shape).collect()
    }

    fn output_shapes(&self) -> Vec<Shape> {
        self.outputs.iter().map(|end| end.shape).collect()
    }

    fn weights_bytes(&self) -> u64 {
        self.steps.iter().map(|s| s.kernel.bytes() as u64).sum()
    }

    fn workspace_bytes(&self) -> u64 {
        (self.arena_len * size_of::<E>() + self.scratch.bytes::<E>()) as u64
    }

    fn kept_bytes(&self) -> u64 {
        let len = self.visual.as_ref().map_or(0, VisualPart::len);
        (len * size_of::<E>()) as u64
    }

    fn report(&self) -> PlanReport {
        self.describe()
    }

    fn prepare(
        &self,
        arenas: &mut Arenas,
        feeds: &[Feed<'_>],
        kept: &mut Kept,
        stop: &dyn Fn() -> bool,
    ) -> bool {
        let Some(part) = &self.visual else {
            return false;
        };
        let arena = self.fed_arena(arenas, feeds);
        for step in &self.steps[..part.n_steps] {
            if stop() {
                return false;
            }
            self.run_step(step, arena, (feeds, &mut []), None);
        }
        part.save(&arena.tensors, E::kept_mut(kept));
        true
    }

    fn run(&self, arenas: &mut Arenas, frame: Frame<'_, '_>, after_step: &mut dyn FnMut(usize)) {
        let Frame {
            feeds,
            drains,
            visual,
        } = frame;
        let arena = self.fed_arena(arenas, feeds);
        let part = self.visual.as_ref();
        let reused = match (part, &visual) {
            (Some(part), Visual::Reuse(kept)) => Some((part, E::kept(kept))),
            _ => None,
        };
        let mut visual = visual;
        for (index, step) in self.steps.iter().enumerate() {
            if let Some((part, kept)) = reused {
                // Only then: what is put back may lie where the recomputed steps read.
                if index == N_RECOMPUTED {
                    part.restore(kept, &mut arena.tensors);
                }
                if part.is_skipped(index) {
                    continue;
                }
            }
            self.run_step(step, arena, (feeds, drains), reused);
            after_step(index);
            if let (Some(part), Visual::Keep(kept)) = (part, &mut visual)
                && index + 1 == part.n_steps
            {
                part.save(&arena.tensors, E::kept_mut(kept));
            }
        }
        for (end, drain) in self.outputs.iter().zip(drains) {
            if let Some(view) = &end.view {
                self.drain_tensor(view, arena, drain);
            }
        }
    }
}

impl<E: Stored> Plan<E> {
    /// The arena, with the inputs that no step reads row by row.
    fn fed_arena<'s>(&self, arenas: &'s mut Arenas, feeds: &[Feed<'_>]) -> &'s mut Arena<E> {
        let arena = E::arena(arenas);
        arena.reserve(self.arena_len, self.scratch);
        for (end, feed) in self.inputs.iter().zip(feeds) {
            if let Some(view) = &end.view {
                let shape = end.shape;
                let tensor = &mut arena.tensors[view.tensor.clone()];
                feed.rows(self.isa, shape, 0..shape.h, tensor);
            }
        }
        arena
    }

    fn run_step(
        &self,
        step: &Step<E>,
        arena: &mut Arena<E>,
        (feeds, drains): (&[Feed<'_>], &mut [Drain<'_>]),
        reused: Option<(&VisualPart, &[E])>,
    ) {
        let (written, drain) = match &step.output {
            Place::Arena { view, .. } => (view.tensor.clone(), None),
            Place::End(i) => (0..0, Some(*i)),
        };
        // The tensor written and the tensors read are borrowed side by side.
        let (before, rest) = arena.tensors.split_at_mut(written.start);
        let (tensor, after) = rest.split_at_mut(written.len());
        let input = |place: &Place| match place {
            Place::Arena { view, kept } => match (kept, reused) {
                (Some(kept), Some((part, values))) => Input::Tensor(part.source(*kept, values)),
                _ if view.tensor.start < written.start => {
                    Input::Tensor(view.source(&before[view.tensor.clone()]))
                }
                _ => {
                    let (start, end) = (
                        view.tensor.start - written.end,
                        view.tensor.end - written.end,
                    );
                    Input::Tensor(view.source(&after[start..end]))
                }
            },
            Place::End(i) => Input::Feed(feeds[*i]),
        };
        let inputs: Vec<Input<'_, E>> = step.inputs.iter().map(input).collect();
        let mut output = match (&step.output, drain) {
            (Place::Arena { view, .. }, _) => Output::Tensor(view.target(tensor)),
            (Place::End(i), _) => Output::Drain(&mut drains[*i]),
        };
        step.kernel
            .run(self.isa, &inputs, &mut output, &mut arena.scratch);
    }

    /// Hands out an output that is in the arena.
    fn drain_tensor(&self, view: &View, arena: &mut Arena<E>, drain: &mut Drain<'_>) {
        let shape = view.shape;
        let row_len = shape.w * shape.c;
        let row = &mut arena.scratch.floats[..row_len];
        let values = view.source(&arena.tensors[view.tensor.clone()]).dense();
        for (y, values) in values.chunks_exact(row_len).enumerate() {
            for (to, from) in row.iter_mut().zip(values) {
                *to = from.to_f32();
            }
            drain.rows(self.isa, shape, y..y + 1, row);
        }
    }
}
