//! `output`: how frames are coded when a request does not say.

use lipsync_compositor::{Encoding, Yuv};
use serde::Deserialize;

use super::{BadValue, section::section};

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

impl RawOutput {
    pub(super) fn check(&self) -> Result<Output, BadValue> {
        let quality = u8::try_from(self.jpeg_quality()?).unwrap_or(u8::MAX);
        let encoding = match self.format() {
            RawFormat::Jpeg => Encoding::Jpeg { quality },
            RawFormat::Png => Encoding::Png,
            RawFormat::Rgb => Encoding::Rgb,
            RawFormat::I420 => Encoding::I420(Yuv::Bt601Full),
            RawFormat::I420LimitedBt601 => Encoding::I420(Yuv::Bt601Limited),
            RawFormat::I420LimitedBt709 => Encoding::I420(Yuv::Bt709Limited),
        };
        Ok(Output {
            encoding,
            jpeg_quality: quality,
            mark_generated: self.mark_generated(),
        })
    }
}
