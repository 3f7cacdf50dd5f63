//! Putting a generated face back onto its background frame.

use crate::{
    CompositorError, FaceCrop, Picture, bicubic,
    picture::{PIXEL_BYTES, swap_red_and_blue},
};

/// The generated face alone, of the size of the crop's rectangle.
///
/// `generated` is the network's output as bytes: `region_px x region_px x 3`, u8 BGR, row-major,
/// interleaved. It is put inside the crop's ring, whose pixels stay: they are the seam. Both
/// together are then resized to the rectangle, bicubically.
///
/// # Errors
/// [`CompositorError::GeneratedSize`].
pub fn face_patch(crop: &FaceCrop, generated: &[u8]) -> Result<Picture, CompositorError> {
    let square = crop.with_region(generated)?;
    let row_bytes = crop.geometry().crop_px * PIXEL_BYTES;
    let rows: Vec<&[u8]> = square.chunks_exact(row_bytes).collect();
    let rect = crop.rect();
    let mut patch = bicubic::resize(&rows, rect.width, rect.height);
    swap_red_and_blue(&mut patch);
    Picture::new(rect.width, rect.height, patch)
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

/// As [`composite`], but the background's pixels stay wherever the mask says so.
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
