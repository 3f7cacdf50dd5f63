//! The part of a frame whose segments touch the face.

use std::ops::Range;

use lipsync_core::PixelRect;

use super::{CompositorError, MCU_PX, PIXEL_BYTES, Picture, n_mcus, table::Table};

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

    /// The region's pixels but for the face, row by row: RGB as the picture has them.
    pub(super) fn surroundings(&self, picture: &Picture) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(self.surrounding_bytes());
        for (y, row) in self.place_rows().zip(picture.rows_of(self.rect)) {
            match y {
                None => pixels.extend_from_slice(row),
                Some((left, right)) => {
                    pixels.extend_from_slice(&row[..left]);
                    pixels.extend_from_slice(&row[right..]);
                }
            }
        }
        pixels
    }

    /// The region with a face of the right size between its surroundings.
    pub(super) fn pixels(&self, surroundings: &[u8], face: &Picture) -> Vec<u8> {
        let row_bytes = self.rect.width * PIXEL_BYTES;
        let mut pixels = Vec::with_capacity(row_bytes * self.rect.height);
        let mut face_rows = face.rgb().chunks_exact(face.width() * PIXEL_BYTES);
        let mut rest = surroundings;
        let mut take = |n_bytes: usize| {
            let (taken, later) = rest.split_at(n_bytes);
            rest = later;
            taken
        };
        for y in self.place_rows() {
            match y {
                None => pixels.extend_from_slice(take(row_bytes)),
                Some((left, right)) => {
                    pixels.extend_from_slice(take(left));
                    pixels.extend_from_slice(face_rows.next().unwrap_or_default());
                    pixels.extend_from_slice(take(row_bytes - right));
                }
            }
        }
        pixels
    }

    /// For each of the region's rows of pixels, which bytes of it are the face's.
    fn place_rows(&self) -> impl Iterator<Item = Option<(usize, usize)>> + use<> {
        let (rect, face) = (self.rect, self.face);
        let left = (face.x - rect.x) * PIXEL_BYTES;
        let right = left + face.width * PIXEL_BYTES;
        (rect.y..rect.y + rect.height).map(move |y| {
            let is_inside = (face.y..face.y + face.height).contains(&y);
            is_inside.then_some((left, right))
        })
    }
}
