//! Putting a generated face back onto its background frame.

use libjpeg_turbo_rs::PixelFormat;

use crate::{
    CompositorError, EncodeOptions, Encoding, FaceCrop, Picture, encode_with,
    jpeg::{self, JpegOptions},
    picture::{PIXEL_BYTES, swap_red_and_blue},
    resize,
};

/// The generated face alone, of the size of the crop's rectangle.
///
/// `generated` is the network's output as bytes: `region_px x region_px x 3`, u8 BGR, row-major,
/// interleaved. It is put inside the crop's ring, whose pixels stay: they are the seam. Both
/// together are then resized to the rectangle, with the geometry's filter.
///
/// # Errors
/// [`CompositorError::GeneratedSize`].
pub fn face_patch(crop: &FaceCrop, generated: &[u8]) -> Result<Picture, CompositorError> {
    let mut patch = bgr_patch(crop, generated)?;
    swap_red_and_blue(&mut patch);
    Picture::new(crop.rect().width, crop.rect().height, patch)
}

/// A coded [`face_patch`], for clients that have the background.
///
/// # Errors
/// As [`face_patch`] and [`encode`](crate::encode).
pub fn encode_face(
    crop: &FaceCrop,
    generated: &[u8],
    encoding: Encoding,
    options: EncodeOptions,
) -> Result<Vec<u8>, CompositorError> {
    let Encoding::Jpeg { quality } = encoding else {
        return encode_with(&face_patch(crop, generated)?, encoding, options);
    };
    let patch = bgr_patch(crop, generated)?;
    let sides = (crop.rect().width, crop.rect().height);
    let options = JpegOptions::new(quality, options);
    jpeg::encode(&patch, sides, PixelFormat::Bgr, options)
}

/// A face patch as the network's colours are.
fn bgr_patch(crop: &FaceCrop, generated: &[u8]) -> Result<Vec<u8>, CompositorError> {
    let rect = crop.rect();
    let mut patch = vec![0; rect.width * rect.height * PIXEL_BYTES];
    let rows = patch.chunks_exact_mut(rect.width * PIXEL_BYTES);
    resize::resize(crop.geometry().filter, &crop.with_region(generated)?, rows);
    Ok(patch)
}

/// The background frame with the generated face over the crop's rectangle.
///
/// `background` is the frame that `crop` was cut from; `generated` is as for [`face_patch`].
///
/// # Errors
/// [`CompositorError::GeneratedSize`], and [`CompositorError::RectOutside`] where the crop is of
/// some larger frame.
pub fn composite(
    background: &Picture,
    crop: &FaceCrop,
    generated: &[u8],
) -> Result<Picture, CompositorError> {
    background.check_rect(crop.rect())?;
    let patch = face_patch(crop, generated)?;
    let mut frame = background.clone();
    let patch_rows = patch.rgb().chunks_exact(patch.width() * PIXEL_BYTES);
    for (row, patch_row) in frame.rows_of_mut(crop.rect()).zip(patch_rows) {
        row.copy_from_slice(patch_row);
    }
    Ok(frame)
}

/// Like [`composite`], but masked pixels of the background stay.
///
/// `mask` is the face-parsing picture of the whole frame: where it is pure red or white (BGR
/// `(0, 0, 255)` and `(255, 255, 255)`, for instance a hand or a microphone before the mouth), the
/// original is kept.
///
/// # Errors
/// As [`composite`], and [`CompositorError::MaskSize`] where mask and background differ in size.
pub fn composite_masked(
    background: &Picture,
    crop: &FaceCrop,
    generated: &[u8],
    mask: &Picture,
) -> Result<Picture, CompositorError> {
    if (mask.width(), mask.height()) != (background.width(), background.height()) {
        return Err(CompositorError::MaskSize {
            mask_width: mask.width(),
            mask_height: mask.height(),
            width: background.width(),
            height: background.height(),
        });
    }
    let mut frame = composite(background, crop, generated)?;
    let rect = crop.rect();
    let originals = background.rows_of(rect).zip(mask.rows_of(rect));
    for (row, (original_row, mask_row)) in frame.rows_of_mut(rect).zip(originals) {
        let pixels = row.chunks_exact_mut(PIXEL_BYTES);
        let originals = original_row.chunks_exact(PIXEL_BYTES);
        for ((pixel, original), mask) in pixels
            .zip(originals)
            .zip(mask_row.chunks_exact(PIXEL_BYTES))
        {
            if mask == [255, 0, 0] || mask == [255, 255, 255] {
                pixel.copy_from_slice(original);
            }
        }
    }
    Ok(frame)
}
