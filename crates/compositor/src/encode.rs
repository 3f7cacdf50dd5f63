//! Writing pictures for the wire.

use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use libjpeg_turbo_rs::PixelFormat;

use crate::{
    CompositorError, ImageFormat, Picture,
    jpeg::{self, JpegOptions},
    marking::{PNG_HEADER_END, PNG_MARKING},
    picture::PIXEL_BYTES,
};

/// How a picture becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A baseline JPEG file, chroma halved both ways (4:2:0).
    Jpeg {
        /// 1 to 100, as libjpeg counts it.
        quality: u8,
    },
    /// A PNG file, compressed fast rather than well.
    Png,
    /// The pixels alone: `height x width x 3`, u8 RGB.
    Rgb,
    /// Three planes one after another, as JPEG means colours (BT.601, **full** range 0..=255): luma
    /// `height x width`, then blue and red difference, each `ceil(height / 2) x ceil(width / 2)`
    /// and the mean of 2x2 pixels. Odd sides repeat their last row or column.
    I420,
}

/// Extras of a file beside its picture. Raw formats have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct EncodeOptions {
    /// JPEG: minimum coded units (16x16 pixels) between two restart markers; 0 = no markers.
    pub restart_interval: u16,
    /// JPEG and PNG: whether the file says that its picture was made by a trained network, as IPTC's
    /// digital source type in XMP.
    pub is_marked: bool,
}

/// Encodes a picture.
///
/// # Errors
/// [`CompositorError::Quality`], and [`CompositorError::Encode`] for a picture too large for its
/// format (a JPEG has sides of up to 65,535 pixels).
pub fn encode(picture: &Picture, encoding: Encoding) -> Result<Vec<u8>, CompositorError> {
    encode_with(picture, encoding, EncodeOptions::default())
}

/// As [`encode`], with options.
///
/// # Errors
/// As [`encode`].
pub fn encode_with(
    picture: &Picture,
    encoding: Encoding,
    options: EncodeOptions,
) -> Result<Vec<u8>, CompositorError> {
    match encoding {
        Encoding::Jpeg { quality } => {
            let sides = (picture.width(), picture.height());
            let options = JpegOptions::new(quality, options);
            jpeg::encode(picture.rgb(), sides, PixelFormat::Rgb, options)
        }
        Encoding::Png => {
            let mut file = png(picture)?;
            if options.is_marked {
                file.splice(PNG_HEADER_END..PNG_HEADER_END, PNG_MARKING);
            }
            Ok(file)
        }
        Encoding::Rgb => Ok(picture.rgb().to_vec()),
        Encoding::I420 => Ok(i420(picture)),
    }
}

fn png(picture: &Picture) -> Result<Vec<u8>, CompositorError> {
    let side = |side: usize| {
        u32::try_from(side).map_err(|error| failed(ImageFormat::Png, error.to_string()))
    };
    let (width, height) = (side(picture.width())?, side(picture.height())?);
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Up)
        .write_image(picture.rgb(), width, height, ExtendedColorType::Rgb8)
        .map_err(|error| failed(ImageFormat::Png, error.to_string()))?;
    Ok(bytes)
}

fn failed(format: ImageFormat, reason: String) -> CompositorError {
    CompositorError::Encode { format, reason }
}

/// BT.601 luma weights of red, green and blue in 1/65536; they add up to 1.
const LUMA: [u32; 3] = [19_595, 38_470, 7_471];
/// Blue-difference weights in 1/65536; they add up to 0.
const BLUE_DIFFERENCE: [i32; 3] = [-11_058, -21_710, 32_768];
/// Red-difference weights in 1/65536; they add up to 0.
const RED_DIFFERENCE: [i32; 3] = [32_768, -27_439, -5_329];

fn i420(picture: &Picture) -> Vec<u8> {
    let row_bytes = picture.width() * PIXEL_BYTES;
    let chroma_bytes = picture.width().div_ceil(2) * picture.height().div_ceil(2);
    let mut planes = Vec::with_capacity(picture.bytes() / PIXEL_BYTES + 2 * chroma_bytes);
    planes.extend(picture.rgb().as_chunks().0.iter().map(luma));
    let mut red_plane = Vec::with_capacity(chroma_bytes);
    for two_rows in picture.rgb().chunks(2 * row_bytes) {
        let (upper, lower) = two_rows.split_at(row_bytes);
        let lower = if lower.is_empty() { upper } else { lower };
        let pairs = upper.chunks(2 * PIXEL_BYTES);
        for (above, below) in pairs.zip(lower.chunks(2 * PIXEL_BYTES)) {
            // A pair at the right edge may be a single pixel, which then counts twice.
            let right = above.len() - PIXEL_BYTES;
            let sums = [0, 1, 2].map(|channel| {
                i32::from(above[channel])
                    + i32::from(above[right + channel])
                    + i32::from(below[channel])
                    + i32::from(below[right + channel])
            });
            planes.push(difference(sums, BLUE_DIFFERENCE));
            red_plane.push(difference(sums, RED_DIFFERENCE));
        }
    }
    planes.extend(red_plane);
    planes
}

fn luma(pixel: &[u8; PIXEL_BYTES]) -> u8 {
    let [red, green, blue] = [0, 1, 2].map(|i| u32::from(pixel[i]) * LUMA[i]);
    // The third byte is the whole part: the sum is below 2^24.
    (red + green + blue + (1 << 15)).to_le_bytes()[2]
}

/// One chroma value from the sums of four pixels per channel: two more bits than [`luma`] has.
fn difference(sums: [i32; 3], weights: [i32; 3]) -> u8 {
    let [red, green, blue] = [0, 1, 2].map(|i| sums[i] * weights[i]);
    let weighted = red + green + blue;
    let value = ((weighted + (1 << 17)) >> 18) + 128;
    u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests;
