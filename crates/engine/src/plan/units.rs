//! The nodes of a graph grouped into what runs as one step.

use crate::graph::{Conv, Graph, Node, Op, ValueId};

/// Nodes that run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub kind: UnitKind,
    /// Values read; for a block its input and perhaps what is added at the end.
    pub inputs: Vec<ValueId>,
    /// The value written.
    pub output: ValueId,
}

/// What a unit is made of; numbers are indices of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitKind {
    /// An inverted residual block: 1x1 expansion, depthwise 3x3, 1x1 projection.
    Block([usize; 3]),
    /// One node.
    Single(usize),
}

impl Unit {
    /// The node that writes the output.
    pub fn last(&self) -> usize {
        match self.kind {
            UnitKind::Block([.., last]) | UnitKind::Single(last) => last,
        }
    }

    /// Whether the output may be a range of channels of a wider tensor.
    pub fn writes_strided(&self, graph: &Graph) -> bool {
        match &graph.nodes[self.last()].op {
            Op::Conv(conv) => conv.groups == 1,
            Op::ResizeBilinear => true,
            _ => false,
        }
    }

    /// Whether inputs may be ranges of channels of wider tensors.
    pub fn reads_strided(&self, graph: &Graph) -> bool {
        match &graph.nodes[self.last()].op {
            Op::Conv(conv) => conv.is_pointwise(),
            Op::Concat => true,
            _ => false,
        }
    }
}

/// Groups the nodes; a block stands where its projection was.
pub(crate) fn group(graph: &Graph) -> Vec<Unit> {
    let use_counts = graph.use_counts();
    let mut writers = vec![None; graph.shapes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        writers[node.output] = Some(index);
    }
    let before = |node: &Node| {
        let input = *node.inputs.first()?;
        (use_counts[input] == 1).then_some(writers[input]).flatten()
    };
    let mut inside_block = vec![false; graph.nodes.len()];
    let mut blocks = vec![None; graph.nodes.len()];
    for (project, node) in graph.nodes.iter().enumerate() {
        let Some(depthwise) = before(node) else {
            continue;
        };
        let Some(expand) = before(&graph.nodes[depthwise]) else {
            continue;
        };
        if is_block([expand, depthwise, project].map(|i| &graph.nodes[i])) {
            blocks[project] = Some([expand, depthwise, project]);
            inside_block[expand] = true;
            inside_block[depthwise] = true;
        }
    }
    let unit = |(index, node): (usize, &Node)| {
        let (kind, inputs) = match blocks[index] {
            _ if inside_block[index] => return None,
            Some(nodes) => {
                let mut inputs = graph.nodes[nodes[0]].inputs.clone();
                inputs.extend_from_slice(&node.inputs[1..]);
                (UnitKind::Block(nodes), inputs)
            }
            None => (UnitKind::Single(index), node.inputs.clone()),
        };
        Some(Unit {
            kind,
            inputs,
            output: node.output,
        })
    };
    graph.nodes.iter().enumerate().filter_map(unit).collect()
}

fn is_block([expand, depthwise, project]: [&Node; 3]) -> bool {
    let conv = |node: &Node, fits: fn(&Conv) -> bool| match &node.op {
        Op::Conv(conv) => fits(conv),
        _ => false,
    };
    expand.inputs.len() == 1
        && depthwise.inputs.len() == 1
        && conv(expand, Conv::is_pointwise)
        && conv(depthwise, Conv::is_depthwise_3x3)
        && conv(project, Conv::is_pointwise)
}
