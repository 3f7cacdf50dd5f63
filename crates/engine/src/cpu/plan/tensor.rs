//! Values in tensors: what kernels read and write.

use std::ops::Range;

use crate::{
    cpu::kernels::{Element, MatMut, MatRef},
    graph::Shape,
    schedule::View,
};

/// A value to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a, E> {
    /// From the first channel of the first pixel on.
    pub data: &'a [E],
    /// Elements from one pixel to the next.
    pub stride: usize,
    pub shape: Shape,
}

/// A value to write.
#[derive(Debug)]
pub(super) struct Target<'a, E> {
    pub data: &'a mut [E],
    pub stride: usize,
    pub shape: Shape,
}

impl View {
    /// The value, given all elements of its tensor.
    pub(super) fn source<'a, E>(&self, tensor: &'a [E]) -> Source<'a, E> {
        Source {
            data: &tensor[self.offset..],
            stride: self.stride,
            shape: self.shape,
        }
    }

    /// The value, given all elements of its tensor.
    pub(super) fn target<'a, E>(&self, tensor: &'a mut [E]) -> Target<'a, E> {
        Target {
            data: &mut tensor[self.offset..],
            stride: self.stride,
            shape: self.shape,
        }
    }
}

impl<'a, E: Element> Source<'a, E> {
    /// Rows of pixels as a matrix, one line a pixel.
    pub fn rows(self, rows: Range<usize>) -> MatRef<'a, E> {
        let start = rows.start * self.shape.w * self.stride;
        MatRef {
            data: &self.data[start..],
            rows: rows.len() * self.shape.w,
            stride: self.stride,
        }
    }

    /// As [`rows`](Self::rows), but only their columns `columns`: of one row or, if those are all columns, of any.
    pub fn part(self, rows: Range<usize>, columns: Range<usize>) -> MatRef<'a, E> {
        let start = (rows.start * self.shape.w + columns.start) * self.stride;
        MatRef {
            data: &self.data[start..],
            rows: rows.len() * columns.len(),
            stride: self.stride,
        }
    }

    /// The channels of pixel `p`.
    pub fn pixel(self, p: usize) -> &'a [E] {
        &self.data[p * self.stride..][..self.shape.c]
    }

    /// All elements of a value that is a whole tensor.
    pub fn dense(self) -> &'a [E] {
        debug_assert_eq!(
            self.stride, self.shape.c,
            "the value is part of a wider tensor"
        );
        &self.data[..self.shape.len()]
    }
}

impl<E: Element> Target<'_, E> {
    /// Rows of pixels as a matrix, one line a pixel.
    pub fn rows(&mut self, rows: Range<usize>) -> MatMut<'_, E> {
        let start = rows.start * self.shape.w * self.stride;
        MatMut::new(&mut self.data[start..], self.stride)
    }

    /// As [`rows`](Self::rows), from column `column` on.
    pub fn part(&mut self, rows: Range<usize>, column: usize) -> MatMut<'_, E> {
        let start = (rows.start * self.shape.w + column) * self.stride;
        MatMut::new(&mut self.data[start..], self.stride)
    }

    /// The channels of every pixel, in order.
    pub fn pixels(&mut self) -> impl Iterator<Item = &mut [E]> {
        let Shape { c, h, w } = self.shape;
        self.data
            .chunks_mut(self.stride)
            .take(h * w)
            .map(move |pixel| &mut pixel[..c])
    }

    /// All elements of a value that is a whole tensor.
    pub fn dense(&mut self) -> &mut [E] {
        debug_assert_eq!(
            self.stride, self.shape.c,
            "the value is part of a wider tensor"
        );
        &mut self.data[..self.shape.len()]
    }
}
