//! Where a value lies among the others.

use std::ops::Range;

use crate::graph::Shape;

/// Where a value is: pixel `p` starts at `offset + p * stride` of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// The tensor's elements in the arena.
    pub tensor: Range<usize>,
    /// First channel's place in the tensor.
    pub offset: usize,
    /// Channels of the tensor.
    pub stride: usize,
    /// The value's own shape.
    pub shape: Shape,
}
