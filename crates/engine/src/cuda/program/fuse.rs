//! Which nodes one kernel computes: the inverted residual blocks.

use crate::{
    cuda::launch::BlockTile,
    graph::{Conv, Graph, Op, Shape, ValueId},
    schedule::units::{BlockNodes, Unit, UnitKind},
};

/// Joins the units of every block that there is a kernel for. It stands where its last unit was, and reads its
/// input, then what is lifted, then what is added to its result.
pub(super) fn fuse(graph: &Graph, units: Vec<Unit>) -> Vec<Unit> {
    let finder = Finder {
        graph,
        units: &units,
        use_counts: graph.use_counts(),
    };
    let mut joined: Vec<usize> = vec![];
    let mut blocks = vec![];
    for i in 0..units.len() {
        // The projection of one block may look like the expansion of another.
        let is_free = |unit: &Unit| nodes_of(unit).all(|node| !joined.contains(&node));
        let block = finder.block(i).filter(is_free);
        joined.extend(block.iter().flat_map(nodes_of));
        blocks.push(block);
    }
    units
        .iter()
        .zip(&blocks)
        .filter(|(unit, block)| block.is_some() || !joined.contains(&unit.last()))
        .map(|(unit, block)| block.as_ref().unwrap_or(unit).clone())
        .collect()
}

fn nodes_of(block: &Unit) -> impl Iterator<Item = usize> {
    let nodes = block.block().into_iter();
    nodes.flat_map(|nodes| nodes.convs.into_iter().chain(nodes.lift))
}

struct Finder<'a> {
    graph: &'a Graph,
    units: &'a [Unit],
    use_counts: Vec<usize>,
}

impl Finder<'_> {
    /// The block that ends with unit `i`.
    fn block(&self, i: usize) -> Option<Unit> {
        let project = &self.units[i];
        let depthwise = self.sole_writer(project.inputs[0])?;
        let expand = self.sole_writer(depthwise.inputs[0])?;
        // A single channel has no groups: it is a product, whose weights are rounded.
        let is_depthwise = |conv: &Conv| conv.is_depthwise_3x3() && conv.groups > 1;
        let fits = self.is_conv(expand, Conv::is_pointwise)
            && self.is_conv(depthwise, is_depthwise)
            && self.is_conv(project, Conv::is_pointwise)
            && depthwise.inputs.len() == 1
            // The last value may become bytes where it is computed.
            && !self.graph.outputs.contains(&project.output);
        let [input, expanded, out] =
            [expand.inputs[0], expand.output, project.output].map(|value| self.graph.shapes[value]);
        let is_same_size = |value: ValueId, of: Shape| {
            let shape = self.graph.shapes[value];
            (shape.h, shape.w) == (of.h, of.w)
        };
        let lift = match expand.inputs.get(1) {
            None => None,
            Some(&low) => Some(self.lift(low, expanded)?),
        };
        let added = project.inputs.get(1).copied();
        let adds_as_it_can = (lift.is_none() || is_same_size(project.output, expanded))
            && added.is_none_or(|value| is_same_size(value, out));
        if !fits || !adds_as_it_can || !BlockTile::suits(input.c, out.c, [out.h, out.w]) {
            return None;
        }
        let nodes = BlockNodes {
            convs: [expand, depthwise, project].map(Unit::last),
            lift: lift.map(Unit::last),
            residual: added.is_some(),
            head: None,
        };
        Some(Unit {
            kind: UnitKind::Block(nodes),
            inputs: [
                Some(expand.inputs[0]),
                lift.map(|unit| unit.inputs[0]),
                added,
            ]
            .into_iter()
            .flatten()
            .collect(),
            output: project.output,
        })
    }

    /// The product whose result `low` is resized and added to what is expanded, if the block can compute it.
    fn lift(&self, low: ValueId, expanded: Shape) -> Option<&Unit> {
        let lift = self.sole_writer(low)?;
        // The block resizes what the product reads, not what it makes of that: they are the same without a bias.
        let has_no_bias = |conv: &Conv| conv.bias.iter().all(|&bias| bias == 0.0);
        let is_plain = |conv: &Conv| conv.is_pointwise() && !conv.relu && has_no_bias(conv);
        let shape = self.graph.shapes[lift.inputs[0]];
        let fits = self.is_conv(lift, is_plain)
            && lift.inputs.len() == 1
            && BlockTile::lifts(shape, expanded);
        fits.then_some(lift)
    }

    /// The unit that writes a value, if nothing else reads it.
    fn sole_writer(&self, value: ValueId) -> Option<&Unit> {
        let writer = self.units.iter().find(|unit| unit.output == value)?;
        (self.use_counts[value] == 1).then_some(writer)
    }

    fn is_conv(&self, unit: &Unit, fits: impl Fn(&Conv) -> bool) -> bool {
        matches!(&self.graph.nodes[unit.last()].op, Op::Conv(conv) if fits(conv))
    }
}

#[cfg(test)]
mod tests;
