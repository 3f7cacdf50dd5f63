//! Reading pictures.

use std::io::{BufRead, Cursor, Seek};

use image::{
    ColorType, DynamicImage, ImageDecoder as _, ImageError, ImageReader, Limits,
    error::{LimitError, LimitErrorKind},
};

use lipsync_core::saturate::u32_of;

use crate::{
    CompositorError, ImageFormat, Picture,
    essence::pixels_only,
    exif::Orientation,
    header::{foreign_coding, format_of, jpeg_is_complete, malformed, n_jpeg_scans, stored_size},
    picture::PIXEL_BYTES,
    spare,
};

/// Which pixels files give: to be changed with them, for what is made of pixels and kept.
pub const DECODER: &str = "pixels as of imread 5.0";

/// Encoders write ten at most, those that try them all about fifteen.
const MAX_JPEG_SCANS: usize = 32;

/// The largest picture that [`decode`] accepts.
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
    /// Accepts or refuses a picture of this size.
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

/// Decodes a PNG or JPEG picture, told apart by their first bytes, as OpenCV's `imread` does.
///
/// Grey and palettes become RGB, of 16 bits the upper 8 are kept. An alpha channel is dropped without
/// blending: pixels keep their colour, however transparent. Colour profiles and gamma
/// are ignored, and no metadata is unpacked. A picture with an EXIF orientation is turned upright. A JPEG file that ends early is refused,
/// also where `imread` would fill in grey.
///
/// # Errors
/// [`CompositorError::UnknownFormat`], [`CompositorError::OtherFormat`] and [`CompositorError::Empty`];
/// [`CompositorError::TooLarge`], before anything is allocated
/// for the pixels; [`CompositorError::Malformed`] for broken, truncated or exotic files, and JPEG files of
/// more than 32 scans.
pub fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<Picture, CompositorError> {
    let format = format_of(bytes)?;
    let (width, height) = stored_size(bytes, format)?;
    limits.check(width, height)?;
    if format == ImageFormat::Jpeg {
        check_jpeg(bytes)?;
    }
    let pixels = Cursor::new(pixels_only(bytes, format));
    let rgb = read(pixels, format, (width, height))
        .map_err(|error| malformed(format, error.to_string()))?;
    // The decoder may have believed another header than was read here.
    let contradiction = || malformed(format, "its headers contradict each other");
    if rgb.len() != width * height * PIXEL_BYTES {
        return Err(contradiction());
    }
    let orientation = Orientation::of(bytes, format);
    let (upright_width, upright_height) = orientation.upright_size((width, height));
    let upright = orientation.turn(rgb, (width, height));
    Picture::new(upright_width, upright_height, upright).map_err(|_| contradiction())
}

/// Refuses a file that ends early, and one that takes far more work than its size tells.
fn check_jpeg(bytes: &[u8]) -> Result<(), CompositorError> {
    let refusal = |reason: String| Err(malformed(ImageFormat::Jpeg, reason));
    if !jpeg_is_complete(bytes) {
        return refusal("the file ends early".into());
    }
    if let Some(reason) = foreign_coding(bytes) {
        return refusal(reason.into());
    }
    let n_scans = n_jpeg_scans(bytes);
    if n_scans > MAX_JPEG_SCANS {
        return refusal(format!("it has {n_scans} scans, over {MAX_JPEG_SCANS}"));
    }
    Ok(())
}

/// The pixels of a file, as they are stored.
fn read(
    file: impl BufRead + Seek,
    format: ImageFormat,
    size: (usize, usize),
) -> Result<Vec<u8>, ImageError> {
    let mut limits = reader_limits(size);
    let mut reader = ImageReader::with_format(file, reader_format(format));
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    if decoder.color_type() != ColorType::Rgb8 {
        return DynamicImage::from_decoder(decoder).map(rgb8);
    }
    // What most files hold needs no second copy.
    let n_bytes = usize::try_from(decoder.total_bytes()).map_err(|_| too_large())?;
    let mut rgb = spare::zeros(n_bytes);
    decoder.read_image(&mut rgb)?;
    Ok(rgb)
}

fn too_large() -> ImageError {
    ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
}

/// RGB of 8 bits. The `image` crate would round 16 bits, where OpenCV drops the lower 8.
fn rgb8(decoded: DynamicImage) -> Vec<u8> {
    let high = |&value: &u16| value.to_be_bytes()[0];
    match decoded {
        DynamicImage::ImageRgb16(pixels) => pixels.iter().map(high).collect(),
        DynamicImage::ImageRgba16(pixels) => {
            let colours = pixels.pixels().flat_map(|pixel| &pixel.0[..PIXEL_BYTES]);
            colours.map(high).collect()
        }
        DynamicImage::ImageLuma16(pixels) => {
            let greys = pixels.iter().map(high);
            greys.flat_map(|grey| [grey; PIXEL_BYTES]).collect()
        }
        DynamicImage::ImageLumaA16(pixels) => {
            let greys = pixels.pixels().map(|pixel| high(&pixel.0[0]));
            greys.flat_map(|grey| [grey; PIXEL_BYTES]).collect()
        }
        narrow => narrow.into_rgb8().into_raw(),
    }
}

fn reader_format(format: ImageFormat) -> image::ImageFormat {
    match format {
        ImageFormat::Jpeg => image::ImageFormat::Jpeg,
        ImageFormat::Png => image::ImageFormat::Png,
    }
}

/// The decoder's own limits for a picture of this size: a second fence, should it read another size than
/// [`stored_size`].
fn reader_limits((width, height): (usize, usize)) -> Limits {
    // A pixel takes up to 8 bytes while it is decoded (16-bit RGBA); rows and tables get 1 MiB.
    let n_pixels = width.saturating_mul(height);
    let max_alloc = n_pixels.saturating_mul(8).saturating_add(1 << 20);
    let side = |side: usize| Some(u32_of(side));
    let mut limits = Limits::no_limits();
    limits.max_image_width = side(width);
    limits.max_image_height = side(height);
    limits.max_alloc = u64::try_from(max_alloc).ok();
    limits
}

#[cfg(test)]
mod tests;
