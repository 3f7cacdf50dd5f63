//! The small operator set that every network of the family is lowered to.
//!
//! A [`Graph`] is what [`crate::import`] makes of an ONNX file: shapes are known, the batch is one
//! frame, constants are folded. [`simplify`] rewrites it; [`crate::oracle::reference`] runs it as it is,
//! `plan` lowers it to kernels.

pub mod branches;
pub mod op;
pub mod sequence;
pub mod simplify;
pub mod upsampling;

pub use op::{Activation, Conv, Op, Pool, PoolKind, Reduction};

/// Index of a value in [`Graph::shapes`].
pub type ValueId = usize;

/// Channels, height and width of a feature map. A vector of n floats is `n x 1 x 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Channels.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Shape {
    /// Number of floats.
    #[must_use]
    pub fn len(self) -> usize {
        self.c * self.h * self.w
    }

    /// Whether there are no floats.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// One operation on values of one frame.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Its inputs, in the operator's order.
    pub inputs: Vec<ValueId>,
    /// Its output; every value is written by exactly one node or is an input of the graph.
    pub output: ValueId,
    /// Name in the ONNX file.
    pub name: String,
}

/// A network for one frame: nodes in an order in which they can run.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Shapes by value.
    pub shapes: Vec<Shape>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Values given by the caller.
    pub inputs: Vec<ValueId>,
    /// Values handed to the caller.
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// Adds a value and returns its id.
    pub fn add_value(&mut self, shape: Shape) -> ValueId {
        self.shapes.push(shape);
        self.shapes.len() - 1
    }

    /// How often each value is read; being handed to the caller counts too.
    #[must_use]
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.shapes.len()];
        let read = self.nodes.iter().flat_map(|n| &n.inputs);
        for &value in read.chain(&self.outputs) {
            counts[value] += 1;
        }
        counts
    }

    /// Multiplications and additions of one frame, counted in pairs: those of convolutions, and
    /// the samples of pools.
    #[must_use]
    pub fn macs(&self) -> u64 {
        let of = |node: &Node| match &node.op {
            Op::Conv(conv) => {
                let out = self.shapes[node.output];
                conv.weights.len() as u64 * (out.h * out.w) as u64
            }
            Op::ConvTranspose(conv) => {
                let shape = self.shapes[node.inputs[0]];
                conv.weights.len() as u64 * (shape.h * shape.w) as u64
            }
            Op::Pool(pool) => {
                let [kernel_h, kernel_w] = pool.window.kernel.map(|k| k as u64);
                self.shapes[node.output].len() as u64 * kernel_h * kernel_w
            }
            _ => 0,
        };
        self.nodes.iter().map(of).sum()
    }

    /// Weights and biases of all nodes.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        let of = |node: &Node| match &node.op {
            Op::Conv(conv) | Op::ConvTranspose(conv) => {
                (conv.weights.len() + conv.bias.len()) as u64
            }
            Op::Affine { scale, shift } => (scale.len() + shift.len()) as u64,
            _ => 0,
        };
        self.nodes.iter().map(of).sum()
    }
}
