//! The inverted residual block as one step.
//!
//! Expansion, depthwise convolution and projection run on strips of rows, so that the expanded
//! tensor, which is the largest by far, never leaves the second-level cache. Rows that the next strip
//! needs again are kept, not recomputed.

use super::{Source, Target};
use crate::{
    graph::{Conv, Shape},
    kernels::{
        Epilogue, Isa, MatMut, PackedDepthwise, PackedMatrix, Strip, Weights, depthwise3x3, gemm,
    },
};

/// Cache that a strip's tensors should fit in, in floats: about half of a 1 MiB second-level cache.
const STRIP_FLOATS: usize = 128 * 1024;
/// Pixels that a strip should have at least where weights are large, since each strip reads all
/// weights again.
const STRIP_PIXELS: usize = 192;
/// Weights from which on they count as large, in floats.
const LARGE_WEIGHTS: usize = 64 * 1024;

/// A block's packed weights and the height of its strips.
#[derive(Debug)]
pub(super) struct Block {
    expand: PackedMatrix,
    depthwise: PackedDepthwise,
    project: PackedMatrix,
    relu: [bool; 3],
    stride: usize,
    strip_rows: usize,
    shape: Shape,
    out: Shape,
}

impl Block {
    /// Packs the three convolutions of a block from `shape` to `out`.
    pub fn pack(isa: Isa, convs: [&Conv; 3], shape: Shape, out: Shape) -> Self {
        let [expand, depthwise, project] = convs;
        let wide = depthwise.groups;
        let stride = depthwise.window.stride[0];
        let row_floats = (stride * shape.w + out.w) * wide;
        let kept_floats = (3 - stride) * shape.w * wide;
        let mut strip_rows = STRIP_FLOATS.saturating_sub(kept_floats) / row_floats;
        if expand.weights.len() + project.weights.len() > LARGE_WEIGHTS {
            strip_rows = strip_rows.max(STRIP_PIXELS.div_ceil(out.w));
        }
        Self {
            expand: PackedMatrix::pack(isa, &expand.weights, &expand.bias, wide, shape.c),
            depthwise: PackedDepthwise::pack(isa, &depthwise.weights, &depthwise.bias, wide),
            project: PackedMatrix::pack(isa, &project.weights, &project.bias, out.c, wide),
            relu: convs.map(|conv| conv.relu),
            stride,
            strip_rows: strip_rows.clamp(1, out.h),
            shape,
            out,
        }
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.expand.bytes() + self.depthwise.bytes() + self.project.bytes()
    }

    /// Floats of working memory that [`run`](Self::run) needs.
    pub fn scratch_floats(&self) -> usize {
        self.expanded_floats() + self.strip_rows * self.out.w * self.depthwise.channels()
    }

    fn expanded_floats(&self) -> usize {
        let rows = (self.strip_rows * self.stride + 3 - self.stride).min(self.shape.h);
        rows * self.shape.w * self.depthwise.channels()
    }

    /// Runs one frame.
    pub fn run(
        &self,
        input: Source<'_>,
        residual: Option<Source<'_>>,
        target: &mut Target<'_>,
        scratch: &mut [f32],
    ) {
        let (expanded, rest) = scratch.split_at_mut(self.expanded_floats());
        let (width, wide) = (self.shape.w, self.depthwise.channels());
        let row_floats = width * wide;
        // Rows `first..end` of the expanded tensor are in `expanded`.
        let (mut first, mut end) = (0, 0);
        for start in (0..self.out.h).step_by(self.strip_rows) {
            let rows = start..(start + self.strip_rows).min(self.out.h);
            let needed = (start * self.stride).saturating_sub(1)
                ..((rows.end - 1) * self.stride + 2).min(self.shape.h);
            let kept = needed.start.min(end)..end;
            expanded.copy_within(
                (kept.start - first) * row_floats..(kept.end - first) * row_floats,
                0,
            );
            first = needed.start;
            let new = &mut expanded[kept.len() * row_floats..][..(needed.end - end) * row_floats];
            let out = MatMut {
                data: new,
                stride: wide,
            };
            let epilogue = Epilogue::new(self.relu[0]);
            gemm(&self.expand, input.rows(end..needed.end), out, epilogue);
            end = needed.end;

            let strip = Strip {
                data: &expanded[..(end - first) * row_floats],
                width,
                height: self.shape.h,
                first_row: first,
            };
            let filtered = &mut rest[..rows.len() * self.out.w * wide];
            depthwise3x3(
                &self.depthwise,
                strip,
                rows.clone(),
                self.stride,
                self.relu[1],
                filtered,
            );

            let filtered = crate::kernels::MatRef {
                data: filtered,
                rows: rows.len() * self.out.w,
                stride: wide,
            };
            let residual = residual.map(|r| r.rows(rows.clone()));
            let epilogue = Epilogue::with_residual(self.relu[2], residual);
            gemm(&self.project, filtered, target.rows(rows), epilogue);
        }
    }
}
