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
    yuv::{Yuv, i420},
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
    /// Three planes one after another: luma `height x width`, then blue and red difference, each
    /// `ceil(height / 2) x ceil(width / 2)` and the mean of 2x2 pixels. Odd sides repeat their last
    /// row or column.
    I420(Yuv),
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
        Encoding::Rgb => Ok(picture.clone().into_rgb()),
        Encoding::I420(yuv) => Ok(i420(picture, yuv)),
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

#[cfg(test)]
mod tests;
