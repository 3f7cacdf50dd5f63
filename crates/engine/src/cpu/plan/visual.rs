//! Keeping what depends on the visual input alone.
//!
//! An avatar loops over a few hundred background frames, and the first half of its network sees
//! nothing but them. A plan that is told which input is the visual one runs the steps that depend on it
//! alone first; the values that later steps read of them are its *crossings*. A run can keep them
//! ([`Visual::Keep`]) and a later one, of the same background frame, read them instead of computing
//! them ([`Visual::Reuse`]): bit for bit the same result, since the values are the same.
//!
//! The first [`N_RECOMPUTED`] visual steps run every time and their results are not kept: the first
//! block is cheap, and its result is two thirds of what there would be to keep.

use std::ops::Range;

use super::tensor::Source;
use crate::{
    cpu::arena::{Kept, Stored},
    cpu::kernels::{Aligned, Element},
    graph::{Graph, ValueId},
    schedule::{View, units::Unit},
};

/// Visual steps that run every time.
pub(crate) const N_RECOMPUTED: usize = 1;

/// What a run does about the visual part.
#[derive(Debug)]
pub(crate) enum Visual<'a> {
    /// Computes it.
    Compute,
    /// Computes it and writes the crossings there.
    Keep(&'a mut Kept),
    /// Reads the crossings from there. They must come from this plan.
    Reuse(&'a Kept),
}

/// The steps that depend on the visual input alone, and what others read of them.
#[derive(Debug)]
pub(super) struct VisualPart {
    /// How many they are; they come first.
    pub n_steps: usize,
    crossings: Vec<Crossing>,
}

#[derive(Debug)]
struct Crossing {
    value: ValueId,
    view: View,
    /// Its elements among all that are kept, dense.
    kept: Range<usize>,
}

impl VisualPart {
    /// Finds the crossings, given that the first `n_steps` of `units` are the visual part.
    pub fn find(
        graph: &Graph,
        units: &[Unit],
        n_steps: usize,
        views: &[Option<View>],
    ) -> Option<Self> {
        let (visual, others) = units.split_at(n_steps);
        let mut crossings: Vec<Crossing> = vec![];
        for unit in visual.iter().skip(N_RECOMPUTED) {
            let value = unit.output;
            let is_read = others.iter().any(|unit| unit.inputs.contains(&value));
            if !is_read || graph.outputs.contains(&value) {
                continue;
            }
            let start = crossings
                .last()
                .map_or(0, |c| c.kept.end.next_multiple_of(32));
            crossings.push(Crossing {
                value,
                view: views[value].clone()?,
                kept: start..start + graph.shapes[value].len(),
            });
        }
        let is_output = |unit: &Unit| graph.outputs.contains(&unit.output);
        let nothing = crossings.is_empty() || visual.iter().any(is_output);
        (!nothing).then_some(Self { n_steps, crossings })
    }

    /// Elements that are kept.
    pub fn len(&self) -> usize {
        self.crossings.last().map_or(0, |c| c.kept.end)
    }

    /// Whether step `index` has nothing to do where the crossings are known.
    pub fn is_skipped(&self, index: usize) -> bool {
        (N_RECOMPUTED..self.n_steps).contains(&index)
    }

    /// The number of a value that is read straight from what was kept.
    pub fn kept_index(&self, value: ValueId) -> Option<usize> {
        self.crossings.iter().position(|c| c.value == value)
    }

    /// Crossing number `index`, of all that was kept.
    pub fn source<'a, E>(&self, index: usize, kept: &'a [E]) -> Source<'a, E> {
        let Crossing {
            view, kept: range, ..
        } = &self.crossings[index];
        Source {
            data: &kept[range.clone()],
            stride: view.shape.c,
            shape: view.shape,
        }
    }

    /// Copies the crossings out of the arena.
    pub fn save<E: Stored>(&self, arena: &[E], kept: &mut Aligned<E>) {
        if kept.len() != self.len() {
            *kept = Aligned::zeroed(self.len());
        }
        for Crossing {
            view, kept: range, ..
        } in &self.crossings
        {
            let source = view.source(&arena[view.tensor.clone()]);
            let c = view.shape.c;
            for (p, pixel) in kept[range.clone()].chunks_exact_mut(c).enumerate() {
                pixel.copy_from_slice(source.pixel(p));
            }
        }
    }

    /// Copies into the arena those crossings that are read as part of a wider tensor.
    pub fn restore<E: Element>(&self, kept: &[E], arena: &mut [E]) {
        let is_part = |c: &&Crossing| c.view.stride != c.view.shape.c;
        for Crossing {
            view, kept: range, ..
        } in self.crossings.iter().filter(is_part)
        {
            let mut target = view.target(&mut arena[view.tensor.clone()]);
            let c = view.shape.c;
            for (to, from) in target.pixels().zip(kept[range.clone()].chunks_exact(c)) {
                to.copy_from_slice(from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Products, *};
    use crate::{
        CpuIsa,
        cpu::{
            arena::Arenas,
            plan::{
                Executable, Frame, Plan,
                ends::{Drain, Feed},
            },
        },
        graph::simplify::simplify,
        import::import,
        oracle::network_writer::variants::write_variant,
    };
    use lipsync_core::SplitMix64;

    #[test]
    fn what_is_kept_gives_the_same_bits() {
        for name in ["small-opset13", "small-328-plumbing"] {
            let mut graph = import(&write_variant(name).unwrap()).unwrap().graph;
            simplify(&mut graph);
            let plan = Plan::<f32>::new(
                &graph,
                CpuIsa::Auto.resolve().unwrap(),
                Some(0),
                Products::Stored,
            );
            let out_len = plan.output_shapes()[0].len();
            let mut arenas = Arenas::default();
            let mut run = |inputs: [&[f32]; 2], visual: Visual<'_>| {
                let mut out = vec![0.0; out_len];
                let mut n_steps = 0;
                let frame = Frame {
                    feeds: &inputs.map(Feed::Nchw),
                    drains: &mut [Drain::Nchw(&mut out)],
                    visual,
                };
                plan.run(&mut arenas, frame, &mut |_| n_steps += 1);
                let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                (bits, n_steps)
            };
            let mut random = SplitMix64::new(2);
            let shapes = plan.input_shapes();
            let mut floats = |i: usize| random.floats(shapes[i].len(), 0.0, 1.0);
            let [face, other_face] = [floats(0), floats(0)];
            let audios = [floats(1), floats(1)];
            let mut kept = Kept::default();
            let (first, n_all) = run([&face, &audios[0]], Visual::Keep(&mut kept));
            assert!(
                (plan.kept_bytes()..plan.kept_bytes() + 128).contains(&(kept.f32.bytes() as u64))
            );
            let (expected, _) = run([&face, &audios[1]], Visual::Compute);
            // Another frame leaves its own values in the arena.
            let (other, _) = run([&other_face, &audios[1]], Visual::Compute);
            let (actual, n_left) = run([&face, &audios[1]], Visual::Reuse(&kept));
            assert!(actual == expected, "{name}");
            assert!(actual != first && actual != other);
            assert!(n_left < n_all, "{n_left} of {n_all} steps");
        }
    }
}
