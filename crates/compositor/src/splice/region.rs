//! The part of a frame whose segments touch the face.

use std::ops::Range;

use lipsync_core::PixelRect;

use super::{CompositorError, MCU_PX, PIXEL_BYTES, Picture, n_mcus, table::Table};
use crate::picture::swap_red_and_blue;

/// A rectangle of whole segments, cut off at the frame's right and bottom edge as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    /// In the frame.
    rect: PixelRect,
    /// In the frame.
    face: PixelRect,
    /// Segments of the frame's rows, and the region's first one.
    n_per_row: usize,
    first: usize,
    /// Segments of each of the region's rows, and their number.
    n_wide: usize,
    n_rows: usize,
}

impl Region {
    /// Checks that the table's face lies on its frame and that its interval fits.
    pub(super) fn of(table: &Table) -> Result<Self, CompositorError> {
        let Table {
            width,
            height,
            rect: face,
            settings,
        } = *table;
        let interval = usize::from(settings.restart_interval);
        if interval == 0 || !n_mcus(width).is_multiple_of(interval) {
            return Err(CompositorError::RestartInterval {
                interval: settings.restart_interval,
                n_mcus: n_mcus(width),
            });
        }
        let fits = |start: usize, length: usize, limit: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= limit)
        };
        if !fits(face.x, face.width, width) || !fits(face.y, face.height, height) {
            return Err(CompositorError::RectOutside {
                rect: face,
                width,
                height,
            });
        }
        let segment_px = interval * MCU_PX;
        let columns = face.x / segment_px..(face.x + face.width).div_ceil(segment_px);
        let rows = face.y / MCU_PX..(face.y + face.height).div_ceil(MCU_PX);
        let (x, y) = (columns.start * segment_px, rows.start * MCU_PX);
        let n_per_row = n_mcus(width) / interval;
        Ok(Self {
            rect: PixelRect {
                x,
                y,
                width: (columns.end * segment_px).min(width) - x,
                height: (rows.end * MCU_PX).min(height) - y,
            },
            face,
            n_per_row,
            first: rows.start * n_per_row + columns.start,
            n_wide: columns.len(),
            n_rows: rows.len(),
        })
    }

    /// Width and height, px.
    pub(super) fn sides(&self) -> (usize, usize) {
        (self.rect.width, self.rect.height)
    }

    pub(super) fn n_segments(&self) -> usize {
        self.n_wide * self.n_rows
    }

    /// The frame's segments that the region replaces, row by row.
    pub(super) fn segments(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Self {
            first,
            n_per_row,
            n_wide,
            n_rows,
            ..
        } = *self;
        (0..n_rows).map(move |row| {
            let start = first + row * n_per_row;
            start..start + n_wide
        })
    }

    /// How many bytes [`Self::surroundings`] are.
    pub(super) fn surrounding_bytes(&self) -> usize {
        let area = |rect: PixelRect| rect.width * rect.height;
        (area(self.rect) - area(self.face)) * PIXEL_BYTES
    }

    /// The region's pixels but for the face, row by row: BGR, because generated faces are.
    pub(super) fn surroundings(&self, picture: &Picture) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(self.surrounding_bytes());
        for (face, row) in self.face_columns().zip(picture.rows_of(self.rect)) {
            pixels.extend_from_slice(&row[..face.start]);
            pixels.extend_from_slice(&row[face.end..]);
        }
        swap_red_and_blue(&mut pixels);
        pixels
    }

    /// The region with its surroundings in place and a black face: BGR.
    pub(super) fn around(&self, surroundings: &[u8]) -> Vec<u8> {
        let row_bytes = self.rect.width * PIXEL_BYTES;
        let mut pixels = vec![0; row_bytes * self.rect.height];
        let mut rest = surroundings;
        for (face, row) in self.face_columns().zip(pixels.chunks_exact_mut(row_bytes)) {
            let (left, later) = rest.split_at(face.start);
            let (right, later) = later.split_at(row_bytes - face.end);
            row[..face.start].copy_from_slice(left);
            row[face.end..].copy_from_slice(right);
            rest = later;
        }
        pixels
    }

    /// The rows of the face in the region's pixels.
    pub(super) fn face_rows<'a>(
        &self,
        pixels: &'a mut [u8],
    ) -> impl ExactSizeIterator<Item = &'a mut [u8]> + use<'a> {
        let columns = self.columns();
        pixels
            .chunks_exact_mut(self.rect.width * PIXEL_BYTES)
            .skip(self.face.y - self.rect.y)
            .take(self.face.height)
            .map(move |row| &mut row[columns.clone()])
    }

    /// For each of the region's rows of pixels, which bytes of it are the face's.
    fn face_columns(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (columns, end) = (self.columns(), self.rect.width * PIXEL_BYTES);
        let face = self.face.y..self.face.y + self.face.height;
        (self.rect.y..self.rect.y + self.rect.height).map(move |y| {
            if face.contains(&y) {
                columns.clone()
            } else {
                end..end
            }
        })
    }

    /// The bytes of a row that are the face's, where it has any.
    fn columns(&self) -> Range<usize> {
        let left = (self.face.x - self.rect.x) * PIXEL_BYTES;
        left..left + self.face.width * PIXEL_BYTES
    }
}
