//! A picture in memory.

use std::{fmt, mem};

use lipsync_core::PixelRect;

use crate::{CompositorError, spare};

/// Bytes of one pixel, RGB and BGR alike.
pub(crate) const PIXEL_BYTES: usize = 3;

/// A picture of at least one pixel: u8 RGB, interleaved, row-major, rows without gaps.
///
/// The memory of one of 1 MiB and more is used again when it is dropped.
#[derive(PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Picture {
    /// Wraps `width x height x 3` bytes of RGB.
    ///
    /// # Errors
    /// [`CompositorError::PictureSize`] where the length does not fit or a side is 0.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self, CompositorError> {
        let expected = width
            .checked_mul(height)
            .and_then(|n_pixels| n_pixels.checked_mul(PIXEL_BYTES));
        if data.is_empty() || expected != Some(data.len()) {
            return Err(CompositorError::PictureSize {
                width,
                height,
                n_bytes: data.len(),
            });
        }
        Ok(Self {
            width,
            height,
            data,
        })
    }

    /// Width, px.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height, px.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels: `height x width x 3`, u8 RGB.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.data
    }

    /// Memory that the pixels take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The pixels, without a copy.
    #[must_use]
    pub fn into_rgb(mut self) -> Vec<u8> {
        mem::take(&mut self.data)
    }

    /// A rectangle of the picture as a picture of its own.
    ///
    /// # Errors
    /// [`CompositorError::RectOutside`].
    pub fn cut(&self, rect: PixelRect) -> Result<Self, CompositorError> {
        self.check_rect(rect)?;
        let rows: Vec<&[u8]> = self.rows_of(rect).collect();
        Self::new(rect.width, rect.height, rows.concat())
    }

    /// Refuses a rectangle that is empty or reaches past an edge.
    pub(crate) fn check_rect(&self, rect: PixelRect) -> Result<(), CompositorError> {
        let fits = |start: usize, length: usize, limit: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= limit)
        };
        if fits(rect.x, rect.width, self.width) && fits(rect.y, rect.height, self.height) {
            return Ok(());
        }
        Err(CompositorError::RectOutside {
            rect,
            width: self.width,
            height: self.height,
        })
    }

    /// The bytes of each row of a rectangle that [`Self::check_rect`] accepted, top to bottom.
    pub(crate) fn rows_of(&self, rect: PixelRect) -> impl Iterator<Item = &[u8]> {
        let (start, end) = (rect.x * PIXEL_BYTES, (rect.x + rect.width) * PIXEL_BYTES);
        self.data
            .chunks_exact(self.width * PIXEL_BYTES)
            .skip(rect.y)
            .take(rect.height)
            .map(move |row| &row[start..end])
    }

    /// As [`Self::rows_of`], to be written to.
    pub(crate) fn rows_of_mut(
        &mut self,
        rect: PixelRect,
    ) -> impl ExactSizeIterator<Item = &mut [u8]> {
        let (start, end) = (rect.x * PIXEL_BYTES, (rect.x + rect.width) * PIXEL_BYTES);
        self.data
            .chunks_exact_mut(self.width * PIXEL_BYTES)
            .skip(rect.y)
            .take(rect.height)
            .map(move |row| &mut row[start..end])
    }
}

impl Clone for Picture {
    fn clone(&self) -> Self {
        let mut data = spare::take(self.data.len());
        data.extend_from_slice(&self.data);
        Self { data, ..*self }
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        spare::give(mem::take(&mut self.data));
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

/// Turns RGB into BGR and back.
pub(crate) fn swap_red_and_blue(pixels: &mut [u8]) {
    for pixel in pixels.chunks_exact_mut(PIXEL_BYTES) {
        pixel.swap(0, 2);
    }
}
