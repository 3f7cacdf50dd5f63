//! Which nodes run in which part of a program.

use super::{Blocks, fuse::fuse};
use crate::{
    graph::{
        Graph, Op, ValueId,
        upsampling::{convolve_before_upsampling, convolve_before_upsampling_but},
    },
    schedule::units::{self, Unit, UnitKind},
};

/// A graph's units by the part that they run in.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// What runs where an entry is made.
    pub visual: Vec<Unit>,
    /// What runs for every frame.
    pub frame: Vec<Unit>,
    /// The values that an entry keeps.
    pub kept: Vec<ValueId>,
}

impl Split {
    /// Rewrites the graph and splits it; `visual` is the value that is the face. Units of inverted residual blocks are joined
    /// where that is asked for. Otherwise the expansions of blocks that would lift a smaller map stay behind its upsampling,
    /// as within such a block: both ways then compute the same sums.
    pub fn new(graph: &mut Graph, visual: ValueId, blocks: Blocks) -> Self {
        if blocks == Blocks::Separate {
            let mut rewritten = graph.clone();
            let fused = Self::new(&mut rewritten, visual, Blocks::Fused);
            convolve_before_upsampling_but(graph, &fused.lifting(&rewritten));
            return Self::of(graph, visual);
        }
        convolve_before_upsampling(graph);
        let mut split = Self::of(graph, visual);
        split.visual = fuse(graph, split.visual);
        split.frame = fuse(graph, split.frame);
        split
    }

    /// What the expansions of blocks that lift something result in.
    fn lifting(&self, graph: &Graph) -> Vec<ValueId> {
        let blocks = self
            .visual
            .iter()
            .chain(&self.frame)
            .filter_map(Unit::block);
        let lifting = blocks.filter(|nodes| nodes.lift.is_some());
        lifting
            .map(|nodes| graph.nodes[nodes.convs[0]].output)
            .collect()
    }

    fn of(graph: &Graph, visual: ValueId) -> Self {
        let mut units = single_nodes(graph);
        let n_visual = units::order_by_input(graph, &mut units, visual);
        let (of_face, others) = units.split_at(n_visual);
        let is_read = |value: &ValueId| others.iter().any(|unit| unit.inputs.contains(value));
        let written: Vec<ValueId> = of_face.iter().map(|unit| unit.output).collect();
        let crossings: Vec<ValueId> = written.iter().copied().filter(|v| is_read(v)).collect();
        let first = first_block(graph, visual).filter(|value| crossings.contains(value));
        let again = ancestors(of_face, &first.into_iter().collect::<Vec<_>>());
        let is_again = |value: ValueId| again.iter().any(|unit| unit.output == value);
        let kept: Vec<ValueId> = crossings.into_iter().filter(|&v| !is_again(v)).collect();
        if kept.is_empty() || graph.outputs.iter().any(|v| written.contains(v)) {
            return Self {
                frame: units,
                ..Self::default()
            };
        }
        Self {
            visual: ancestors(of_face, &kept),
            frame: again.into_iter().chain(others.iter().cloned()).collect(),
            kept,
        }
    }
}

/// The units of a graph that runs as one part.
pub(super) fn whole(graph: &mut Graph) -> Vec<Unit> {
    convolve_before_upsampling(graph);
    fuse(graph, single_nodes(graph))
}

/// One unit a node, except that a resized value which only a 1x1 convolution adds is resized there.
fn single_nodes(graph: &Graph) -> Vec<Unit> {
    let use_counts = graph.use_counts();
    let resized = |conv: usize| {
        let node = &graph.nodes[conv];
        let added = *node.inputs.get(1)?;
        let fits = matches!(&node.op, Op::Conv(conv) if conv.is_pointwise());
        let writer = graph.nodes.iter().position(|node| node.output == added)?;
        let is_resize = matches!(graph.nodes[writer].op, Op::ResizeBilinear);
        (fits && is_resize && use_counts[added] == 1).then_some(writer)
    };
    let taken_up: Vec<usize> = (0..graph.nodes.len()).filter_map(resized).collect();
    let unit = |index: usize| {
        let mut inputs = graph.nodes[index].inputs.clone();
        if let Some(resize) = resized(index) {
            inputs[1] = graph.nodes[resize].inputs[0];
        }
        Unit {
            kind: UnitKind::Single(index),
            inputs,
            output: graph.nodes[index].output,
        }
    };
    (0..graph.nodes.len())
        .filter(|index| !taken_up.contains(index))
        .map(unit)
        .collect()
}

/// The result of what the CPU runs first of the visual part as one step.
fn first_block(graph: &Graph, visual: ValueId) -> Option<ValueId> {
    let mut units = units::group(graph);
    let n_visual = units::order_by_input(graph, &mut units, visual);
    (n_visual > 0).then(|| units[0].output)
}

/// Those of `units` that `values` depend on, in their order.
fn ancestors(units: &[Unit], values: &[ValueId]) -> Vec<Unit> {
    let mut needed = values.to_vec();
    let mut found: Vec<Unit> = vec![];
    for unit in units.iter().rev() {
        if needed.contains(&unit.output) {
            needed.extend(&unit.inputs);
            found.push(unit.clone());
        }
    }
    found.reverse();
    found
}
