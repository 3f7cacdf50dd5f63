//! Sheets of small pictures, for people to look at.

use lipsync_compositor::{CompositorError, Encoding, Picture, encode};
use lipsync_core::CropRect;

/// Bytes of a pixel.
const RGB: usize = 3;
/// Between pictures of a sheet, px.
const GAP_PX: usize = 4;
const PAPER: u8 = 32;
/// Of outlines: a colour that faces do not have.
const INK: [u8; RGB] = [0, 255, 0];

/// A sheet of cells of one size, filled row by row.
#[derive(Debug)]
pub struct Sheet {
    cell: (usize, usize),
    n_columns: usize,
    width: usize,
    rgb: Vec<u8>,
}

impl Sheet {
    /// An empty sheet.
    #[must_use]
    pub fn new(cell: (usize, usize), n_columns: usize, n_rows: usize) -> Self {
        let width = n_columns * (cell.0 + GAP_PX) + GAP_PX;
        let height = n_rows * (cell.1 + GAP_PX) + GAP_PX;
        Self {
            cell,
            n_columns,
            width,
            rgb: vec![PAPER; width * height * RGB],
        }
    }

    /// Puts a picture into the cell `index`, made smaller or larger to fill it.
    pub fn put(&mut self, index: usize, picture: &Picture) {
        let (column, row) = (index % self.n_columns, index / self.n_columns);
        let (left, top) = (
            GAP_PX + column * (self.cell.0 + GAP_PX),
            GAP_PX + row * (self.cell.1 + GAP_PX),
        );
        let scaled = scaled(picture, self.cell);
        for (y, line) in scaled.chunks_exact(self.cell.0 * RGB).enumerate() {
            let start = ((top + y) * self.width + left) * RGB;
            if let Some(place) = self.rgb.get_mut(start..start + line.len()) {
                place.copy_from_slice(line);
            }
        }
    }

    /// The sheet as a JPEG file.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn jpeg(self) -> Result<Vec<u8>, CompositorError> {
        let height = self.rgb.len() / (self.width * RGB);
        let picture = Picture::new(self.width, height, self.rgb)?;
        encode(&picture, Encoding::Jpeg { quality: 90 })
    }
}

/// A picture with a rectangle drawn on it, `thick` pixels wide, as far as it lies on the picture.
#[must_use]
pub fn outlined(picture: &Picture, rect: CropRect, thick: usize) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let mut rgb = picture.rgb().to_vec();
    if let Some(cut) = rect.clamp_to(width, height) {
        let is_edge = |at: usize, start: usize, length: usize| {
            at < start + thick || at + thick >= start + length
        };
        for y in cut.y..cut.y + cut.height {
            for x in cut.x..cut.x + cut.width {
                if is_edge(x, cut.x, cut.width) || is_edge(y, cut.y, cut.height) {
                    rgb[(y * width + x) * RGB..][..RGB].copy_from_slice(&INK);
                }
            }
        }
    }
    Picture::new(width, height, rgb).unwrap_or_else(|_| picture.clone())
}

/// The pixels of a picture at another size: each the mean of those that it covers.
fn scaled(picture: &Picture, (width, height): (usize, usize)) -> Vec<u8> {
    let span = |at: usize, from: usize, to: usize| {
        let start = at * from / to;
        start
            ..((at + 1) * from)
                .div_ceil(to)
                .clamp(start + 1, from.max(start + 1))
    };
    let mut scaled = Vec::with_capacity(width * height * RGB);
    for y in 0..height {
        let rows = span(y, picture.height(), height);
        for x in 0..width {
            let columns = span(x, picture.width(), width);
            let mut sums = [0_usize; RGB];
            for row in rows.clone() {
                let line = &picture.rgb()[row * picture.width() * RGB..];
                for pixel in line[columns.start * RGB..columns.end * RGB].chunks_exact(RGB) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum += usize::from(value);
                    }
                }
            }
            let n = rows.len() * columns.len();
            scaled.extend(sums.map(|sum| u8::try_from(sum / n).unwrap_or(u8::MAX)));
        }
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: usize, height: usize, value: u8) -> Picture {
        Picture::new(width, height, vec![value; width * height * RGB]).expect("a picture")
    }

    #[test]
    fn a_picture_keeps_its_colour_at_every_size() {
        for size in [(4, 4), (7, 3), (40, 90)] {
            let scaled = scaled(&plain(10, 20, 77), size);
            assert_eq!(scaled, vec![77; size.0 * size.1 * RGB]);
        }
    }

    #[test]
    fn an_outline_is_cut_at_the_edge() {
        let rect = CropRect {
            x1: 5,
            y1: -4,
            x2: 30,
            y2: 8,
        };
        let drawn = outlined(&plain(10, 10, 0), rect, 1);
        let n_ink = drawn.rgb().chunks_exact(RGB).filter(|p| *p == INK).count();
        assert_eq!(n_ink, 2 * 5 + 2 * 6);
    }

    #[test]
    fn a_sheet_has_its_cells_and_gaps() {
        let mut sheet = Sheet::new((20, 10), 2, 2);
        for index in 0..4 {
            sheet.put(index, &plain(60, 30, 200));
        }
        assert_eq!(sheet.rgb.len(), (2 * 24 + 4) * (2 * 14 + 4) * RGB);
        let n_bright = sheet.rgb.iter().filter(|&&value| value == 200).count();
        assert_eq!(n_bright, 4 * 20 * 10 * RGB);
        assert_eq!(sheet.jpeg().expect("a file")[..2], [0xFF, 0xD8]);
    }
}
