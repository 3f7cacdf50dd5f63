//! Which nodes one kernel computes: the inverted residual blocks.

use crate::{
    cuda::launch::BlockTile,
    graph::{Conv, Graph, Op, Shape, ValueId},
    plan::units::{BlockNodes, Unit, UnitKind},
};

/// Joins the units of every block that there is a kernel for. It stands where its last unit was, and reads its
/// input, then what is resized and added to its expansion, then what is added to its result.
pub(super) fn fuse(graph: &Graph, units: Vec<Unit>) -> Vec<Unit> {
    let finder = Finder {
        graph,
        units: &units,
        use_counts: graph.use_counts(),
    };
    let blocks: Vec<Option<Unit>> = (0..units.len()).map(|i| finder.block(i)).collect();
    let nodes = blocks.iter().flatten().filter_map(Unit::block);
    let joined: Vec<usize> = nodes.flat_map(|nodes| nodes.convs).collect();
    units
        .iter()
        .zip(&blocks)
        .filter(|(unit, block)| block.is_some() || !joined.contains(&unit.last()))
        .map(|(unit, block)| block.as_ref().unwrap_or(unit).clone())
        .collect()
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
        let lifted = expand.inputs.get(1).copied();
        let added = project.inputs.get(1).copied();
        let is_lifted =
            |value| !is_same_size(value, expanded) && is_same_size(project.output, expanded);
        let adds_as_it_can =
            lifted.is_none_or(is_lifted) && added.is_none_or(|value| is_same_size(value, out));
        if !fits || !adds_as_it_can || !BlockTile::suits(input.c, out.c, [out.h, out.w]) {
            return None;
        }
        let nodes = BlockNodes {
            convs: [expand, depthwise, project].map(Unit::last),
            lift: None,
            residual: added.is_some(),
            head: None,
        };
        Some(Unit {
            kind: UnitKind::Block(nodes),
            inputs: [Some(expand.inputs[0]), lifted, added]
                .into_iter()
                .flatten()
                .collect(),
            output: project.output,
        })
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
