//! The nodes of a graph grouped into what runs as one step.

use crate::graph::{Conv, Graph, Node, Op, ValueId};

/// Most output channels of a convolution that runs as the head of a block: it is computed strip by
/// strip, and worth it where its result is much smaller than what it reads.
const MAX_HEAD_CHANNELS: usize = 16;

/// Nodes that run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub kind: UnitKind,
    /// Values read. A block reads its input, then what is lifted, then what is added at the end, as
    /// far as there are such.
    pub inputs: Vec<ValueId>,
    /// The value written.
    pub output: ValueId,
}

/// What a unit is made of; numbers are indices of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitKind {
    /// An inverted residual block.
    Block(BlockNodes),
    /// One node.
    Single(usize),
}

/// The nodes of an inverted residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockNodes {
    /// 1x1 expansion, depthwise 3x3, 1x1 projection.
    pub convs: [usize; 3],
    /// A 1x1 convolution whose result is resized and added to the expansion's.
    pub lift: Option<usize>,
    /// Whether something is added to the projection's result.
    pub residual: bool,
    /// The network's last convolution: 1x1, of few channels, alone in reading the projection's result.
    pub head: Option<usize>,
}

impl Unit {
    /// The node that writes the output.
    pub fn last(&self) -> usize {
        match self.kind {
            UnitKind::Block(BlockNodes {
                convs: [.., last],
                head,
                ..
            }) => head.unwrap_or(last),
            UnitKind::Single(last) => last,
        }
    }

    /// The block's nodes, if it is one.
    pub fn block(&self) -> Option<BlockNodes> {
        match self.kind {
            UnitKind::Block(nodes) => Some(nodes),
            UnitKind::Single(_) => None,
        }
    }

    /// Whether the output may be a range of channels of a wider tensor.
    pub fn writes_strided(&self, graph: &Graph) -> bool {
        match &graph.nodes[self.last()].op {
            // One channel is a depthwise convolution, too, and runs as one.
            Op::Conv(conv) => conv.groups == 1 && !conv.is_depthwise_3x3(),
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

/// Groups the nodes; a block stands where its last node was.
pub(crate) fn group(graph: &Graph) -> Vec<Unit> {
    let finder = Finder::new(graph);
    let mut inside_block = vec![false; graph.nodes.len()];
    let mut blocks = vec![None; graph.nodes.len()];
    for project in 0..graph.nodes.len() {
        let Some(block) = finder.block(project) else {
            continue;
        };
        let [expand, depthwise, project] = block.convs;
        let resize = finder.added_resize(expand);
        let members = [
            Some(expand),
            Some(depthwise),
            Some(project),
            block.lift,
            resize,
            block.head,
        ];
        // The projection of one block may look like the expansion of another, which it then is not.
        if members.into_iter().flatten().any(|i| inside_block[i]) {
            continue;
        }
        members
            .into_iter()
            .flatten()
            .for_each(|i| inside_block[i] = true);
        blocks[block.head.unwrap_or(project)] = Some(block);
    }
    let unit = |(index, node): (usize, &Node)| {
        let (kind, inputs) = match blocks[index] {
            Some(block) => (UnitKind::Block(block), inputs_of(graph, block)),
            None if inside_block[index] => return None,
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

/// Moves the units that depend on input `input` alone before all others; how many those are.
///
/// The order among them and among the others stays.
pub(crate) fn order_by_input(graph: &Graph, units: &mut [Unit], input: ValueId) -> usize {
    let mut depends_only = vec![false; graph.shapes.len()];
    depends_only[input] = true;
    for unit in &*units {
        depends_only[unit.output] = unit.inputs.iter().all(|&v| depends_only[v]);
    }
    units.sort_by_key(|unit| !depends_only[unit.output]);
    units.iter().filter(|u| depends_only[u.output]).count()
}

fn inputs_of(graph: &Graph, block: BlockNodes) -> Vec<ValueId> {
    let [expand, _, project] = block.convs;
    let lifted = block.lift.map(|node| graph.nodes[node].inputs[0]);
    let residual = graph.nodes[project].inputs.get(1).copied();
    [Some(graph.nodes[expand].inputs[0]), lifted, residual]
        .into_iter()
        .flatten()
        .collect()
}

struct Finder<'a> {
    graph: &'a Graph,
    use_counts: Vec<usize>,
    /// Writing node by value.
    writers: Vec<Option<usize>>,
}

impl<'a> Finder<'a> {
    fn new(graph: &'a Graph) -> Self {
        let mut writers = vec![None; graph.shapes.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            writers[node.output] = Some(index);
        }
        Self {
            graph,
            use_counts: graph.use_counts(),
            writers,
        }
    }

    /// The block that ends with projection `project`.
    fn block(&self, project: usize) -> Option<BlockNodes> {
        let depthwise = self.sole_writer(project, 0)?;
        let expand = self.sole_writer(depthwise, 0)?;
        let nodes = &self.graph.nodes;
        let fits = self.is_conv(expand, Conv::is_pointwise)
            && self.is_conv(depthwise, Conv::is_depthwise_3x3)
            && self.is_conv(project, Conv::is_pointwise)
            && nodes[depthwise].inputs.len() == 1;
        if !fits {
            return None;
        }
        let lift = match nodes[expand].inputs.len() {
            1 => None,
            _ => Some(self.lift(expand)?),
        };
        Some(BlockNodes {
            convs: [expand, depthwise, project],
            lift,
            residual: nodes[project].inputs.len() == 2,
            head: self.head(project),
        })
    }

    /// The resizing that alone is added to what `expand` computes.
    fn added_resize(&self, expand: usize) -> Option<usize> {
        let resize = self.sole_writer(expand, 1)?;
        matches!(self.graph.nodes[resize].op, Op::ResizeBilinear).then_some(resize)
    }

    fn lift(&self, expand: usize) -> Option<usize> {
        let lift = self.sole_writer(self.added_resize(expand)?, 0)?;
        let is_plain = |conv: &Conv| conv.is_pointwise() && !conv.relu;
        (self.is_conv(lift, is_plain) && self.graph.nodes[lift].inputs.len() == 1).then_some(lift)
    }

    fn head(&self, project: usize) -> Option<usize> {
        let output = self.graph.nodes[project].output;
        if self.use_counts[output] != 1 {
            return None;
        }
        let reads = |node: &Node| node.inputs == [output];
        let head = self.graph.nodes.iter().position(reads)?;
        let is_small = |conv: &Conv| conv.is_pointwise() && conv.bias.len() <= MAX_HEAD_CHANNELS;
        let is_last = self.graph.outputs.contains(&self.graph.nodes[head].output);
        (self.is_conv(head, is_small) && is_last).then_some(head)
    }

    /// The node that writes input `i` of `node`, if nothing else reads it.
    fn sole_writer(&self, node: usize, i: usize) -> Option<usize> {
        let value = *self.graph.nodes[node].inputs.get(i)?;
        (self.use_counts[value] == 1)
            .then_some(self.writers[value])
            .flatten()
    }

    fn is_conv(&self, node: usize, fits: impl Fn(&Conv) -> bool) -> bool {
        matches!(&self.graph.nodes[node].op, Op::Conv(conv) if fits(conv))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Shape, op::Window};

    /// 1x1, 3x3, 1x1, 3x3, 1x1: what the middle one reads is written by nobody but its own block.
    #[test]
    fn of_two_blocks_that_share_a_convolution_one_is_a_block() {
        let mut graph = Graph::default();
        let shape = Shape { c: 8, h: 8, w: 8 };
        let mut value = graph.add_value(shape);
        graph.inputs = vec![value];
        for kernel in [1, 3, 1, 3, 1] {
            let groups = if kernel == 3 { 8 } else { 1 };
            let conv = Conv {
                weights: vec![0.5; 64 / groups * kernel * kernel],
                bias: vec![0.0; 8],
                window: Window {
                    kernel: [kernel; 2],
                    pads: [kernel / 2; 4],
                    ..Window::POINT
                },
                groups,
                relu: false,
            };
            let output = graph.add_value(shape);
            graph.nodes.push(Node {
                op: Op::Conv(conv),
                inputs: vec![value],
                output,
                name: String::new(),
            });
            value = output;
        }
        graph.outputs = vec![value];
        let units = group(&graph);
        assert_eq!(units.len(), 3);
        assert!(units[0].block().is_some());
        let mut written = graph.inputs.clone();
        for unit in &units {
            assert!(unit.inputs.iter().all(|value| written.contains(value)));
            written.push(unit.output);
        }
    }
}
