//! What is added to the expansion of a block that reads an upsampled tensor.

use std::ops::Range;

use super::{ring, tensor::Source};
use crate::{
    cpu::kernels::{
        Element, Epilogue, Isa, MatMut, Resize, Resized, ResizedColumns, Weights, blend_rows,
    },
    graph::Shape,
};

/// A 1x1 convolution of a small tensor whose result is resized, by rows.
#[derive(Debug)]
pub(super) struct Lift<E: Element> {
    isa: Isa,
    matrix: E::Matrix,
    resize: Resize,
    low: Shape,
    /// Rows of the small tensor that are multiplied at once.
    chunk_rows: usize,
    /// Rows of products that are kept.
    places: usize,
    /// Rows of the result that can be asked for at once.
    pub most_rows: usize,
}

/// How far a run has come.
#[derive(Debug)]
pub(super) struct Lifted<'a, E: Element> {
    source: Source<'a, E>,
    /// Which columns of the result are asked for.
    columns: ResizedColumns<'a>,
    /// The last rows of products up to `end`, each at its number modulo the places, in planes.
    products: &'a mut [f32],
    end: usize,
    /// The rows asked for, still as wide as the small tensor, in planes.
    blended: &'a mut [f32],
}

impl<E: Element> Lift<E> {
    /// Of the packed convolution of a tensor of shape `low` whose result is resized to the size of `high`, to
    /// be asked for `most_rows` rows at once at most, and to multiply `chunk_pixels` at once.
    pub fn pack(
        isa: Isa,
        matrix: E::Matrix,
        [low, high]: [Shape; 2],
        (most_rows, chunk_pixels): (usize, usize),
    ) -> Self {
        let resize = Resize::new((low.h, low.w), (high.h, high.w));
        let read = |first: usize| {
            let last = (first + most_rows).min(high.h) - 1;
            resize.source_rows(last)[1] + 1 - resize.source_rows(first)[0]
        };
        let most_read = (0..high.h).map(read).max().unwrap_or(0);
        let chunk_rows = chunk_pixels.div_ceil(low.w);
        Self {
            isa,
            matrix,
            low,
            chunk_rows,
            places: (most_read + chunk_rows - 1).min(low.h),
            most_rows,
            resize,
        }
    }

    /// Nothing of `source` is computed yet, of which columns `columns` of the result will be asked for; `memory` are
    /// [`scratch_len`](Self::scratch_len) numbers.
    pub fn start<'a>(
        &'a self,
        source: Source<'a, E>,
        columns: Range<usize>,
        memory: &'a mut [f32],
    ) -> Lifted<'a, E> {
        let columns = self.resize.part(columns);
        let row_len = columns.source().len() * self.wide_channels();
        let (products, blended) = memory.split_at_mut(self.places * row_len);
        Lifted {
            source,
            columns,
            products,
            end: 0,
            blended,
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

    /// Numbers of working memory.
    pub fn scratch_len(&self) -> usize {
        (self.places + self.most_rows) * self.low.w * self.wide_channels()
    }

    /// Channels of the result, in whole vectors.
    fn wide_channels(&self) -> usize {
        self.matrix.n_out().next_multiple_of(self.isa.lanes())
    }

    /// What is added to rows `rows`, which must follow those asked for before.
    pub fn rows<'a>(&'a self, lifted: &'a mut Lifted<'_, E>, rows: Range<usize>) -> Resized<'a> {
        let first_needed = self.resize.source_rows(rows.start)[0];
        let last_needed = self.resize.source_rows(rows.end - 1)[1];
        while lifted.end <= last_needed {
            let end = (lifted.end + self.chunk_rows).min(first_needed + self.places);
            self.multiply(lifted, end.min(self.low.h));
        }
        let plane_row = lifted.columns.source().len() * self.isa.lanes();
        let n_planes = self.wide_channels() / self.isa.lanes();
        let blended = &mut lifted.blended[..rows.len() * n_planes * plane_row];
        let products = lifted.products.chunks_exact(self.places * plane_row);
        for (blended, products) in blended
            .chunks_exact_mut(rows.len() * plane_row)
            .zip(products)
        {
            for (y, out) in rows.clone().zip(blended.chunks_exact_mut(plane_row)) {
                let row = |y: usize| &products[y % self.places * plane_row..][..plane_row];
                let pair = self.resize.source_rows(y).map(row);
                blend_rows(self.isa, &self.resize, y, pair, out);
            }
        }
        Resized {
            columns: lifted.columns,
            data: blended,
            plane: rows.len() * plane_row,
        }
    }

    /// Multiplies the rows before `end` that are not there yet, in the places of the oldest.
    fn multiply(&self, lifted: &mut Lifted<'_, E>, end: usize) {
        let columns = lifted.columns.source();
        let (plane_row, is_whole) = (
            columns.len() * self.isa.lanes(),
            columns.len() == self.low.w,
        );
        for (rows, place) in ring::parts(lifted.end..end, self.places, self.places) {
            let first = rows.start;
            for rows in ring::runs(rows, is_whole) {
                let place = place + rows.start - first;
                let data = &mut lifted.products[place * plane_row..];
                let out = MatMut::planes(data, self.places * plane_row, self.isa.lanes());
                let operand = lifted.source.part(rows, columns.clone());
                E::gemm(&self.matrix, operand, out, Epilogue::new(false));
            }
        }
        lifted.end = end;
    }
}
