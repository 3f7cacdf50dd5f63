//! What is added to the expansion of a block that reads an upsampled tensor.

use std::ops::Range;

use super::tensor::Source;
use crate::{
    graph::{Conv, Shape},
    kernels::{Element, Epilogue, Isa, MatMut, Resize, Weights, resize_row},
};

/// Pixels that are multiplied at once, since each product reads all weights again.
const CHUNK_PIXELS: usize = 96;

/// A 1x1 convolution of a small tensor whose result is resized, by rows.
#[derive(Debug)]
pub(super) struct Lift<E: Element> {
    isa: Isa,
    matrix: E::Matrix,
    resize: Resize,
    low: Shape,
    /// Rows of the small tensor that are multiplied at once.
    chunk_rows: usize,
}

/// How far a run has come.
#[derive(Debug)]
pub(super) struct Lifted<'a, E: Element> {
    source: Source<'a, E>,
    /// A row blended of two, then products of rows `first..end`.
    memory: &'a mut [E::Wide],
    first: usize,
    end: usize,
}

impl<'a, E: Element> Lifted<'a, E> {
    /// Nothing is computed yet.
    pub fn new(source: Source<'a, E>, memory: &'a mut [E::Wide]) -> Self {
        Self {
            source,
            memory,
            first: 0,
            end: 0,
        }
    }
}

impl<E: Element> Lift<E> {
    /// Packs a convolution of a tensor of shape `low` whose result is resized to the size of `high`.
    pub fn pack(isa: Isa, conv: &Conv, low: Shape, high: Shape) -> Self {
        Self {
            isa,
            matrix: E::pack(isa, &conv.weights, &conv.bias, conv.bias.len(), low.c),
            resize: Resize::new((low.h, low.w), (high.h, high.w)),
            low,
            chunk_rows: CHUNK_PIXELS.div_ceil(low.w).min(low.h),
        }
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.matrix.bytes()
    }

    /// The packed weights.
    pub fn matrix(&self) -> &E::Matrix {
        &self.matrix
    }

    /// Multiplications and additions of a frame, counted in pairs.
    pub fn macs(&self) -> usize {
        self.matrix.n_in() * self.matrix.n_out() * self.low.h * self.low.w
    }

    /// Elements of working memory.
    pub fn scratch_len(&self) -> usize {
        (self.chunk_rows + 2) * self.row_len()
    }

    /// Columns of the small tensor times channels of the result.
    fn row_len(&self) -> usize {
        self.low.w * self.matrix.n_out()
    }

    /// Writes rows `rows` of the result, which must follow those asked for before.
    pub fn rows(&self, lifted: &mut Lifted<'_, E>, rows: Range<usize>, out: &mut [E::Wide]) {
        let out_row = self.resize.out_width() * self.matrix.n_out();
        for (y, out) in rows.zip(out.chunks_exact_mut(out_row)) {
            let pair = self.resize.source_rows(y);
            while lifted.end <= pair[1] {
                self.multiply(lifted);
            }
            let (blended, products) = lifted.memory.split_at_mut(self.row_len());
            let row = |y: usize| &products[(y - lifted.first) * self.row_len()..][..self.row_len()];
            resize_row(self.isa, &self.resize, y, pair.map(row), (blended, out));
        }
    }

    /// Multiplies the next rows; the last ones of before stay.
    fn multiply(&self, lifted: &mut Lifted<'_, E>) {
        let row_len = self.row_len();
        let products = &mut lifted.memory[row_len..];
        let kept = usize::from(lifted.end > lifted.first);
        let last = lifted.end - kept - lifted.first;
        products.copy_within(last * row_len..(last + kept) * row_len, 0);
        lifted.first = lifted.end - kept;
        let rows = lifted.end..(lifted.end + self.chunk_rows).min(self.low.h);
        let out = MatMut {
            data: &mut products[kept * row_len..],
            stride: self.matrix.n_out(),
        };
        lifted.end = rows.end;
        E::gemm(
            &self.matrix,
            lifted.source.rows(rows),
            out,
            Epilogue::new(false),
        );
    }
}
