//! Errors with pixels.

use std::fmt;

use lipsync_core::{FaceGeometry, PixelRect};

/// An error of the compositor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompositorError {
    /// The bytes of a picture do not fit its size, or the size is empty.
    #[error("a picture of {width}x{height} pixels cannot have {n_bytes} bytes")]
    PictureSize {
        /// Width given, px.
        width: usize,
        /// Height given, px.
        height: usize,
        /// Bytes given; `width x height x 3` were expected.
        n_bytes: usize,
    },
    /// The bytes start neither as a PNG nor as a JPEG file does.
    #[error("neither a PNG nor a JPEG picture")]
    UnknownFormat,
    /// The bytes are a file of another kind.
    #[error("it is {found}, and neither a PNG nor a JPEG picture: convert it")]
    OtherFormat {
        /// What it is, for people.
        found: &'static str,
    },
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The bytes start as the format does, but are broken or end early.
    #[error("not a usable {format} picture: {reason}")]
    Malformed {
        /// The format that the bytes begin with.
        format: ImageFormat,
        /// The reason.
        reason: String,
    },
    /// The picture is larger than the limits allow.
    #[error(
        "a picture of {width}x{height} pixels is too large: at most {max_width}x{max_height} and \
         {max_pixels} pixels are allowed"
    )]
    TooLarge {
        /// Width, px.
        width: usize,
        /// Height, px.
        height: usize,
        /// Largest width allowed, px.
        max_width: usize,
        /// Largest height allowed, px.
        max_height: usize,
        /// Largest area allowed, px.
        max_pixels: usize,
    },
    /// The rectangle is not on the picture, or is empty.
    #[error(
        "the rectangle of {}x{} pixels at ({}, {}) does not lie on a picture of {width}x{height} pixels",
        rect.width, rect.height, rect.x, rect.y
    )]
    RectOutside {
        /// The rectangle.
        rect: PixelRect,
        /// Width of the picture, px.
        width: usize,
        /// Height of the picture, px.
        height: usize,
    },
    /// The geometry contradicts itself: the region and two rings are not the crop, or it is empty
    /// or absurdly large.
    #[error(
        "a region of {} pixels with a ring of {} does not make a crop of {}",
        geometry.region_px, geometry.ring_px, geometry.crop_px
    )]
    Geometry {
        /// The geometry.
        geometry: FaceGeometry,
    },
    /// A generated region has the wrong length.
    #[error("a generated region has {expected} bytes, this one has {actual}")]
    GeneratedSize {
        /// `region_px x region_px x 3`.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// A parsing mask is not of its background's size.
    #[error(
        "a mask of {mask_width}x{mask_height} pixels does not fit a picture of {width}x{height} pixels"
    )]
    MaskSize {
        /// Width of the mask, px.
        mask_width: usize,
        /// Height of the mask, px.
        mask_height: usize,
        /// Width of the background, px.
        width: usize,
        /// Height of the background, px.
        height: usize,
    },
    /// A JPEG quality outside 1..=100.
    #[error("a JPEG quality is 1 to 100, not {quality}")]
    Quality {
        /// The requested value.
        quality: u8,
    },
    /// A restart interval that does not divide a row of minimum coded units.
    #[error("a restart interval divides a row of {n_mcus} coded units, {interval} does not")]
    RestartInterval {
        /// The requested value.
        interval: u16,
        /// Units in a row.
        n_mcus: usize,
    },
    /// A face crop is of another place than the baked frame's face.
    #[error(
        "a face of {}x{} pixels at ({}, {}) is not that of the baked frame, {}x{} at ({}, {})",
        crop.width, crop.height, crop.x, crop.y, baked.width, baked.height, baked.x, baked.y
    )]
    OtherFace {
        /// Where the crop is from.
        crop: PixelRect,
        /// Where the baked frame's face is.
        baked: PixelRect,
    },
    /// A baked frame is damaged or was never one.
    #[error("not a usable baked frame: {reason}")]
    Baked {
        /// The reason.
        reason: &'static str,
    },
    /// A face crop has the wrong length.
    #[error("a face crop has {expected} bytes, this one has {actual}")]
    CropSize {
        /// `crop_px x crop_px x 3`.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The encoder refused the picture, for instance one too wide for its format.
    #[error("cannot encode as {format}: {reason}")]
    Encode {
        /// The requested format.
        format: ImageFormat,
        /// The encoder's message.
        reason: String,
    },
}

/// A picture format that is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
        })
    }
}
