//! The operator set of networks over sequences: the encoders of speech, which have no frames and no channels last.
//!
//! A [`Sequence`] is what [`crate::import`] makes of such a file for one size of input: all shapes are known, so operators
//! hold places instead of shapes. Values are row-major floats. Reshaping costs nothing: it makes no node.

use std::rc::Rc;

use super::ValueId;
use crate::onnx::Tensor;

/// A network of one input and one output, its nodes in an order in which they can run.
#[derive(Debug, Default)]
pub struct Sequence {
    /// Floats of each value.
    pub sizes: Vec<usize>,
    /// The nodes.
    pub nodes: Vec<SequenceNode>,
    /// The value given by the caller.
    pub input: ValueId,
    /// The value handed to the caller.
    pub output: ValueId,
}

/// One operation.
#[derive(Debug)]
pub struct SequenceNode {
    /// What it computes.
    pub op: SequenceOp,
    /// Its inputs, in the operator's order.
    pub inputs: Vec<Operand>,
    /// Its output, which no other node writes.
    pub output: ValueId,
}

/// What a node reads.
#[derive(Debug, Clone)]
pub enum Operand {
    /// Computed for each input of the network.
    Value(ValueId),
    /// Known at load, floats.
    Constant(Rc<Tensor>),
}

/// What a node computes.
#[derive(Debug, Clone)]
pub enum SequenceOp {
    /// Products of matrices.
    Product(Product),
    /// A convolution over rows and columns, of one batch.
    Convolution(Convolution),
    /// A function of two numbers.
    Binary {
        /// Which.
        op: Binary,
        /// Where the two numbers of each result are.
        pairs: Strided<2>,
    },
    /// A function of one number.
    Unary(Unary),
    /// `exp(x) / sum(exp(x))` of every `width` numbers.
    Softmax {
        /// Numbers of a row.
        width: usize,
    },
    /// `(x - mean) / sqrt(variance + epsilon)` of every `width` numbers.
    Normalise {
        /// Numbers of a row.
        width: usize,
        /// What is added to the variance.
        epsilon: f32,
    },
    /// The mean of every `width` numbers.
    Mean {
        /// Numbers of a row.
        width: usize,
    },
    /// Copies of parts of the inputs. What none of them writes is `fill`.
    Rearrange {
        /// The copies.
        parts: Vec<Part>,
        /// What lies between them.
        fill: f32,
    },
}

/// Products `[rows, inner] x [inner, columns]`, one after the other in the output.
#[derive(Debug, Clone)]
pub struct Product {
    /// Rows of the first matrix and of the product.
    pub rows: usize,
    /// Columns of the first matrix, rows of the second.
    pub inner: usize,
    /// Columns of the second matrix and of the product.
    pub columns: usize,
    /// Where the two matrices of each product begin.
    pub places: Vec<[usize; 2]>,
}

/// A convolution of `[c_in, h, w]`; its inputs are the map, the weights `[c_out, c_in / groups, kernel]` and the bias.
#[derive(Debug, Clone)]
pub struct Convolution {
    /// Channels of the input.
    pub c_in: usize,
    /// Channels of the output.
    pub c_out: usize,
    /// Parts that the channels are split into.
    pub groups: usize,
    /// Rows and columns of the input.
    pub size: [usize; 2],
    /// Rows and columns of the output.
    pub out: [usize; 2],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns between its places.
    pub stride: [usize; 2],
    /// Rows and columns between its taps.
    pub dilation: [usize; 2],
    /// Zeros before the first row and column.
    pub pads: [usize; 2],
}

/// Functions of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// `a` to the power of `b`
    Pow,
    /// The larger one.
    Max,
    /// The smaller one.
    Min,
}

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unary {
    /// Negative numbers become 0.
    Relu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// The exponential function.
    Exp,
    /// The square root.
    Sqrt,
    /// The error function.
    Erf,
    /// `x / 2 (1 + erf(x / sqrt(2)))`
    Gelu,
    /// `-x`
    Neg,
    /// `1 / x`
    Reciprocal,
}

/// Places in `N` tensors that are walked together: each axis has a length and a stride in each tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strided<const N: usize> {
    /// Where the first numbers are.
    pub offsets: [usize; N],
    /// Length and strides of each axis, the slowest first.
    pub axes: Vec<(usize, [usize; N])>,
}

/// A copy from one of the inputs.
#[derive(Debug, Clone)]
pub struct Part {
    /// Which input.
    pub input: usize,
    /// Places in the input and in the output.
    pub places: Strided<2>,
}

impl<const N: usize> Strided<N> {
    /// The same places with as few axes as possible.
    #[must_use]
    pub fn new(offsets: [usize; N], axes: Vec<(usize, [usize; N])>) -> Self {
        let mut merged: Vec<(usize, [usize; N])> = Vec::new();
        for (n, strides) in axes.into_iter().filter(|&(n, _)| n != 1) {
            match merged.last_mut() {
                // The axis before steps over the whole of this one.
                Some((before, steps)) if *steps == strides.map(|s| s * n) => {
                    *before *= n;
                    *steps = strides;
                }
                _ => merged.push((n, strides)),
            }
        }
        Self {
            offsets,
            axes: merged,
        }
    }

    /// Calls `row` with the places where each row of the fastest axis begins, its length and its strides.
    pub fn for_each_row(&self, mut row: impl FnMut([usize; N], usize, [usize; N])) {
        let one = (1, [0; N]);
        let (&(n, strides), outer) = self.axes.split_last().unwrap_or((&one, &[]));
        if n == 0 || outer.iter().any(|&(n, _)| n == 0) {
            return;
        }
        let mut index = vec![0; outer.len()];
        let mut at = self.offsets;
        loop {
            row(at, n, strides);
            let mut axis = outer.len();
            loop {
                let Some(next) = axis.checked_sub(1) else {
                    return;
                };
                axis = next;
                let (length, steps) = outer[axis];
                index[axis] += 1;
                if index[axis] < length {
                    for (at, step) in at.iter_mut().zip(steps) {
                        *at += step;
                    }
                    break;
                }
                index[axis] = 0;
                for (at, step) in at.iter_mut().zip(steps) {
                    *at -= step * (length - 1);
                }
            }
        }
    }
}

impl Sequence {
    /// Multiplications and additions of one run, counted in pairs: those of products and convolutions.
    #[must_use]
    pub fn macs(&self) -> u64 {
        let of = |node: &SequenceNode| -> u64 {
            match &node.op {
                SequenceOp::Product(p) => [p.rows, p.inner, p.columns, p.places.len()]
                    .iter()
                    .fold(1, |n, &d| n.saturating_mul(d as u64)),
                SequenceOp::Convolution(c) => {
                    let taps = c.c_in / c.groups.max(1) * c.kernel[0] * c.kernel[1];
                    [c.c_out, taps, c.out[0], c.out[1]]
                        .iter()
                        .fold(1, |n, &d| n.saturating_mul(d as u64))
                }
                _ => 0,
            }
        };
        self.nodes
            .iter()
            .fold(0, |n, node| n.saturating_add(of(node)))
    }

    /// Takes off the nodes whose results nobody reads.
    pub fn prune(&mut self) {
        let mut is_read = vec![false; self.sizes.len()];
        is_read[self.output] = true;
        let mut kept = Vec::new();
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if !is_read[node.output] {
                continue;
            }
            for input in &node.inputs {
                if let Operand::Value(id) = input {
                    is_read[*id] = true;
                }
            }
            kept.push(node);
        }
        kept.reverse();
        self.nodes = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(strided: &Strided<1>) -> Vec<usize> {
        let mut found = Vec::new();
        strided.for_each_row(|[at], n, [step]| found.extend((0..n).map(|i| at + i * step)));
        found
    }

    #[test]
    fn axes_are_merged_and_walked_in_order() {
        let rows = Strided::new([0], vec![(2, [12]), (3, [4]), (4, [1])]);
        assert_eq!(rows.axes, [(24, [1])]);
        assert_eq!(places(&rows), (0..24).collect::<Vec<_>>());
        let transposed = Strided::new([1], vec![(2, [1]), (1, [7]), (3, [4])]);
        assert_eq!(transposed.axes.len(), 2);
        assert_eq!(places(&transposed), [1, 5, 9, 2, 6, 10]);
        assert_eq!(places(&Strided::new([5], vec![])), [5]);
        assert_eq!(places(&Strided::new([5], vec![(0, [1])])), [0; 0]);
        assert_eq!(places(&Strided::new([2], vec![(3, [0])])), [2, 2, 2]);
    }
}
