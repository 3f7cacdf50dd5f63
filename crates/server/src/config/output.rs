//! `output`: how frames are coded when a request does not say.

use lipsync_compositor::{Encoding, Yuv};
use serde::Deserialize;

use super::{BadValue, section::section};
use crate::tenants::ModelDefaults;

section! {
    /// `output`, as it is written.
    RawOutput in "output";
    hot format: RawFormat = RawFormat::Jpeg;
    hot jpeg_quality: u32 = 85, 1..=100;
    hot mark_generated: bool = true;
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFormat {
    Jpeg,
    Png,
    Rgb,
    I420,
    #[serde(rename = "i420_limited_bt601")]
    I420LimitedBt601,
    #[serde(rename = "i420_limited_bt709")]
    I420LimitedBt709,
}

impl RawFormat {
    /// The format, of JPEG with some quality.
    pub(super) fn encoding(self, jpeg_quality: u8) -> Encoding {
        match self {
            Self::Jpeg => Encoding::Jpeg {
                quality: jpeg_quality,
            },
            Self::Png => Encoding::Png,
            Self::Rgb => Encoding::Rgb,
            Self::I420 => Encoding::I420(Yuv::Bt601Full),
            Self::I420LimitedBt601 => Encoding::I420(Yuv::Bt601Limited),
            Self::I420LimitedBt709 => Encoding::I420(Yuv::Bt709Limited),
        }
    }
}

/// `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Format, with the quality for JPEG.
    pub encoding: Encoding,
    /// Quality when a request asks for JPEG without one.
    pub jpeg_quality: u8,
    /// Whether JPEG and PNG files say that they were made by a trained network.
    pub mark_generated: bool,
}

impl Output {
    /// The same for a tenant's model, of which the tenant may have other defaults.
    #[must_use]
    pub fn with(self, defaults: &ModelDefaults) -> Self {
        let jpeg_quality = defaults.jpeg_quality.unwrap_or(self.jpeg_quality);
        let encoding = match defaults.encoding.unwrap_or(self.encoding) {
            Encoding::Jpeg { .. } => Encoding::Jpeg {
                quality: jpeg_quality,
            },
            other => other,
        };
        Self {
            encoding,
            jpeg_quality,
            ..self
        }
    }
}

impl RawOutput {
    pub(super) fn check(&self) -> Result<Output, BadValue> {
        let quality = u8::try_from(self.jpeg_quality()?).unwrap_or(u8::MAX);
        Ok(Output {
            encoding: self.format().encoding(quality),
            jpeg_quality: quality,
            mark_generated: self.mark_generated(),
        })
    }
}
