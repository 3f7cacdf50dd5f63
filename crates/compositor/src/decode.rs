//! Reading pictures.

use std::io::Cursor;

use image::{ImageReader, Limits};

use crate::{
    CompositorError, ImageFormat, Picture,
    header::{format_of, jpeg_is_complete, malformed, probe},
};

/// The largest picture that [`decode`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest width, px.
    pub max_width: usize,
    /// Largest height, px.
    pub max_height: usize,
    /// Largest area, px.
    pub max_pixels: usize,
}

impl Default for DecodeLimits {
    /// 8192 x 8192 and 33 megapixels, which an 8K frame just keeps: 100 MB as RGB.
    fn default() -> Self {
        Self {
            max_width: 8192,
            max_height: 8192,
            max_pixels: 7680 * 4320,
        }
    }
}

impl DecodeLimits {
    /// Whether a picture of this size is taken.
    ///
    /// # Errors
    /// [`CompositorError::TooLarge`].
    pub fn check(&self, width: usize, height: usize) -> Result<(), CompositorError> {
        let area_fits = width
            .checked_mul(height)
            .is_some_and(|n_pixels| n_pixels <= self.max_pixels);
        if width <= self.max_width && height <= self.max_height && area_fits {
            return Ok(());
        }
        Err(CompositorError::TooLarge {
            width,
            height,
            max_width: self.max_width,
            max_height: self.max_height,
            max_pixels: self.max_pixels,
        })
    }
}

/// Decodes a PNG or JPEG picture, told apart by their first bytes.
///
/// Grey and palettes become RGB, 16 bits become 8. An alpha channel is dropped without blending,
/// as OpenCV's `imread` does: pixels keep the colour that the file gives them, however transparent.
/// An EXIF orientation is ignored.
///
/// # Errors
/// [`CompositorError::UnknownFormat`]; [`CompositorError::TooLarge`], before anything is allocated
/// for the pixels; [`CompositorError::Malformed`] for what is broken, truncated or exotic.
pub fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<Picture, CompositorError> {
    let format = format_of(bytes)?;
    let (width, height) = probe(bytes)?;
    limits.check(width, height)?;
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        return Err(malformed(format, "the file ends early"));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), reader_format(format));
    reader.limits(reader_limits(limits));
    let decoded = reader
        .decode()
        .map_err(|error| malformed(format, error.to_string()))?
        .into_rgb8();
    // The decoder may have believed another header than `probe` did.
    Picture::new(width, height, decoded.into_raw())
        .map_err(|_| malformed(format, "its headers contradict each other"))
}

fn reader_format(format: ImageFormat) -> image::ImageFormat {
    match format {
        ImageFormat::Jpeg => image::ImageFormat::Jpeg,
        ImageFormat::Png => image::ImageFormat::Png,
    }
}

/// The decoder's own limits: a second fence, should it read other sizes than [`probe`].
fn reader_limits(limits: DecodeLimits) -> Limits {
    // A pixel takes up to 8 bytes while it is decoded (16-bit RGBA); metadata and rows get 1 MiB.
    let max_alloc = limits.max_pixels.saturating_mul(8).saturating_add(1 << 20);
    let side = |side: usize| Some(u32::try_from(side).unwrap_or(u32::MAX));
    let mut reader_limits = Limits::no_limits();
    reader_limits.max_image_width = side(limits.max_width);
    reader_limits.max_image_height = side(limits.max_height);
    reader_limits.max_alloc = u64::try_from(max_alloc).ok();
    reader_limits
}

#[cfg(test)]
mod tests;
