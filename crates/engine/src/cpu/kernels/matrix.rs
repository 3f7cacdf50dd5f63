//! What products read and write, and what happens to a sum before it is stored.

use super::{Resized, simd::Simd};

/// A matrix to read: `rows` rows, `stride` floats apart, of as many columns as the reader wants.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a, E = f32> {
    /// Row after row; the last row may end before its stride does.
    pub data: &'a [E],
    /// Number of rows.
    pub rows: usize,
    /// Elements from one row's start to the next one's.
    pub stride: usize,
}

/// A matrix to write, of as many rows as its operand has: [rows](Self::new) or [planes](Self::planes).
#[derive(Debug)]
pub struct MatMut<'a, E = f32> {
    /// Row after row, of all columns or, in each plane, of one vector of them.
    pub(super) data: &'a mut [E],
    /// Elements from one row's start to the next one's.
    pub(super) stride: usize,
    /// Elements from one vector of columns to the next, where each is a plane of its own.
    pub(super) plane: Option<usize>,
}

impl<'a, E> MatMut<'a, E> {
    /// Rows of columns, `stride` elements from one to the next; the last row may end before its stride does.
    ///
    /// To write at a channel offset of a wider tensor, let `data` start at the offset and let `stride`
    /// be the wider tensor's channels; what lies between the columns written is left alone.
    #[must_use]
    pub fn new(data: &'a mut [E], stride: usize) -> Self {
        Self {
            data,
            stride,
            plane: None,
        }
    }

    /// Planes of one vector of columns each, `[rows][lanes]`, `plane` elements from one to the next. The last
    /// one is whole: what lies past the matrix's columns gets the results of weights that are zeros.
    #[must_use]
    pub fn planes(data: &'a mut [E], plane: usize, lanes: usize) -> Self {
        Self {
            data,
            stride: lanes,
            plane: Some(plane),
        }
    }

    /// Panics unless there is room for all rows.
    pub(super) fn check(&self, (rows, columns): (usize, usize), lanes: usize) {
        let Some(plane) = self.plane else {
            return check_rows(self.data.len(), (rows, columns), self.stride, "result");
        };
        assert_eq!(self.stride, lanes, "result: planes of another width");
        let needed = (columns.div_ceil(lanes) - 1) * plane + rows * lanes;
        assert!(
            rows * lanes <= plane && needed <= self.data.len(),
            "result: {needed} elements needed, {} given",
            self.data.len()
        );
    }

    /// Where in `data` columns from `first` on of row `row` are, `first` being that of a vector.
    #[inline(always)]
    pub(super) fn place<S: Simd>(&self, row: usize, first: usize) -> usize {
        row * self.stride + first / S::LANES * self.plane.unwrap_or(S::LANES)
    }
}

/// What happens to a sum before it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a, E = f32> {
    /// Negative results become zero, after the addition.
    pub relu: bool,
    /// What is added to the result.
    pub added: Added<'a, E>,
}

/// What is added to a product.
#[derive(Debug, Clone, Copy)]
pub enum Added<'a, E = f32> {
    /// Nothing.
    Nothing,
    /// A matrix of as many rows as the operand and as many columns as the result.
    Matrix(MatRef<'a, E>),
    /// A smaller tensor, resized; for results in planes.
    Resized(Resized<'a>),
}

impl<E> Default for Epilogue<'_, E> {
    fn default() -> Self {
        Self::new(false)
    }
}

impl<'a, E> Epilogue<'a, E> {
    /// Adds nothing.
    #[must_use]
    pub fn new(relu: bool) -> Self {
        Self {
            relu,
            added: Added::Nothing,
        }
    }

    /// Adds the matrix, if there is one.
    #[must_use]
    pub fn with_residual(relu: bool, residual: Option<MatRef<'a, E>>) -> Self {
        Self {
            relu,
            added: residual.map_or(Added::Nothing, Added::Matrix),
        }
    }
}

impl<E> Added<'_, E> {
    /// Panics unless it fits a product of `rows` rows and `columns` columns, written in planes or not.
    pub(super) fn check(
        &self,
        (rows, columns): (usize, usize),
        lanes: usize,
        plane: Option<usize>,
    ) {
        match self {
            Self::Nothing => {}
            Self::Matrix(residual) => {
                residual.check(columns, "residual");
                assert_eq!(residual.rows, rows, "residual has the operand's rows");
            }
            Self::Resized(resized) => {
                assert!(plane.is_some(), "resized: the result is not in planes");
                resized.check(rows, columns.div_ceil(lanes), lanes);
            }
        }
    }
}

impl<'a, E> MatRef<'a, E> {
    /// Panics unless every row has `columns` columns.
    pub(super) fn check(&self, columns: usize, what: &str) {
        check_rows(self.data.len(), (self.rows, columns), self.stride, what);
    }

    /// The first `columns` floats of `R` rows from `row` on.
    #[inline(always)]
    pub(super) fn rows_from<const R: usize>(&self, row: usize, columns: usize) -> [&'a [E]; R] {
        // Found from each other: see `gemm`.
        let mut rest = &self.data[row * self.stride..];
        let mut rows = [&rest[..columns]; R];
        for data in &mut rows[1..] {
            rest = &rest[self.stride..];
            *data = &rest[..columns];
        }
        rows
    }
}

/// Panics unless `len` elements hold `rows` rows, which are at least one, `stride` apart.
pub(super) fn check_rows(len: usize, (rows, columns): (usize, usize), stride: usize, what: &str) {
    assert!(stride >= columns, "{what}: rows overlap");
    let needed = (rows - 1) * stride + columns;
    assert!(
        len >= needed,
        "{what}: {needed} elements needed, {len} given"
    );
}
