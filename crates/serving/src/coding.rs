//! One frame, from pixels to bytes: spliced where that is possible, coded as a whole otherwise.
//!
//! What is sent never depends on the way: a spliced frame is byte for byte what coding the whole would
//! give, because that, too, puts restart markers where the model's baked frames have them.

use std::borrow::Cow;

use bytes::Bytes;
use lipsync_compositor::{
    EncodeOptions, Encoding, FaceCrop, PictureBytes, composite, encode_face, encode_with, feather,
};
use lipsync_core::PixelRect;
use lipsync_registry::{BackgroundFrame, Model};

use crate::{error::ServeError, order::OutputSpec};

/// A picture that can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodedFrame {
    /// Its place on the avatar's timeline; 0 where it has none.
    pub frame_index: u64,
    /// The background that is shown.
    pub background_index: u32,
    /// Whether the network made its face.
    pub generated: bool,
    /// How `data` is coded.
    pub encoding: Encoding,
    /// Of the picture, pixels.
    pub width: usize,
    /// Of the picture, pixels.
    pub height: usize,
    /// Where the face is in the whole picture.
    pub region: PixelRect,
    /// The picture.
    pub data: Bytes,
}

/// A background frame with a face to be put into it.
pub(crate) struct Shot<'a> {
    /// Whose it is.
    pub model: &'a Model,
    /// Which one.
    pub background_index: u32,
    /// The baked frame.
    pub frame: &'a BackgroundFrame,
    /// Its face.
    pub crop: &'a FaceCrop,
}

/// Whether a model's backgrounds are baked in the format and quality that is wanted.
pub(crate) fn is_baked_so(model: &Model, output: OutputSpec) -> bool {
    let quality = model.bake_settings().quality;
    output.encoding == Encoding::Jpeg { quality }
}

/// The frame with a generated face. Blocks where the background has to be decoded.
pub(crate) fn generated(
    shot: &Shot<'_>,
    face: &[u8],
    output: OutputSpec,
) -> Result<CodedFrame, ServeError> {
    let Shot {
        model,
        background_index,
        frame,
        crop,
    } = *shot;
    let mut face = Cow::Borrowed(face);
    if model.feather_px() > 0 {
        feather(crop, face.to_mut(), model.feather_px())?;
    }
    let face = &*face;
    let data = if output.region_only {
        encode_face(crop, face, output.encoding, options(model, output))?
    } else if is_baked_so(model, output) {
        frame.baked.splice(crop, face, output.is_marked)?
    } else {
        let background = model.picture(background_index)?;
        let picture = composite(&background, crop, face)?;
        encode_with(&picture, output.encoding, options(model, output))?
    };
    Ok(CodedFrame {
        generated: true,
        background_index,
        ..coded(model, crop.rect(), output, sent(data, output.encoding))
    })
}

/// The background as it is, or its face. Blocks where the frame is not in memory.
pub(crate) fn idle(
    model: &Model,
    background_index: u32,
    output: OutputSpec,
) -> Result<CodedFrame, ServeError> {
    let frame = model.background(background_index)?;
    let rect = frame.baked.rect();
    let data = match (is_baked_so(model, output), output.region_only) {
        (true, false) => frame.baked.jpeg(output.is_marked),
        (true, true) => frame.baked.face_jpeg(output.is_marked),
        (false, region_only) => {
            let background = model.picture(background_index)?;
            let options = options(model, output);
            let data = if region_only {
                encode_with(&background.cut(rect)?, output.encoding, options)?
            } else {
                encode_with(&background, output.encoding, options)?
            };
            sent(data, output.encoding)
        }
    };
    Ok(CodedFrame {
        background_index,
        ..coded(model, rect, output, data)
    })
}

/// How a file is coded that is not spliced.
fn options(model: &Model, output: OutputSpec) -> EncodeOptions {
    EncodeOptions {
        // Nothing is spliced into a face alone.
        restart_interval: if output.region_only {
            0
        } else {
            model.bake_settings().restart_interval
        },
        is_marked: output.is_marked,
    }
}

/// Bytes to be sent. The next picture gets the memory of pixels, which is as large as its own.
fn sent(data: Vec<u8>, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Rgb | Encoding::I420(_) => Bytes::from_owner(PictureBytes::from(data)),
        Encoding::Jpeg { .. } | Encoding::Png => data.into(),
    }
}

fn coded(model: &Model, region: PixelRect, output: OutputSpec, data: Bytes) -> CodedFrame {
    let (width, height) = if output.region_only {
        (region.width, region.height)
    } else {
        (model.width(), model.height())
    };
    CodedFrame {
        frame_index: 0,
        background_index: 0,
        generated: false,
        encoding: output.encoding,
        width,
        height,
        region,
        data,
    }
}
