//! Soft edges for faces that are pasted without a seam.

use crate::{CompositorError, FaceCrop, picture::PIXEL_BYTES};

/// Mixes the edges of a generated region with what the background has there, so that no line shows where it
/// is pasted.
///
/// `generated` is as for [`face_patch`](crate::face_patch). The outermost pixels become nearly those of the
/// background; from there the share of the generated ones rises evenly, until it is all `width_px` further in.
///
/// # Errors
/// [`CompositorError::GeneratedSize`].
pub fn feather(
    crop: &FaceCrop,
    generated: &mut [u8],
    width_px: usize,
) -> Result<(), CompositorError> {
    let geometry = crop.geometry();
    if generated.len() != geometry.region_bytes() {
        return Err(CompositorError::GeneratedSize {
            expected: geometry.region_bytes(),
            actual: generated.len(),
        });
    }
    let (side, ring) = (geometry.region_px, geometry.ring_px);
    let whole = width_px.saturating_add(1);
    let rows = generated.chunks_exact_mut(side * PIXEL_BYTES).enumerate();
    let originals = crop.pixels().chunks_exact(geometry.crop_px * PIXEL_BYTES);
    for ((y, row), original) in rows.zip(originals.skip(ring)) {
        let original = &original[ring * PIXEL_BYTES..];
        let pixels = row.chunks_exact_mut(PIXEL_BYTES).enumerate();
        for ((x, pixel), original) in pixels.zip(original.chunks_exact(PIXEL_BYTES)) {
            let from_edge = x.min(side - 1 - x).min(y).min(side - 1 - y);
            let share = from_edge + 1;
            if share >= whole {
                continue;
            }
            for (byte, &other) in pixel.iter_mut().zip(original) {
                let sum = usize::from(*byte) * share + usize::from(other) * (whole - share);
                *byte = u8::try_from((sum + whole / 2) / whole).unwrap_or(u8::MAX);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lipsync_core::{CropRect, FaceGeometry};

    use super::*;
    use crate::Picture;

    #[test]
    fn the_edge_is_the_background_and_the_middle_the_face() -> Result<(), CompositorError> {
        let background = Picture::new(40, 40, vec![100; 40 * 40 * 3])?;
        let corners = CropRect {
            x1: 0,
            y1: 0,
            x2: 40,
            y2: 40,
        };
        let rect = corners.clamp_to(40, 40).expect("on the picture");
        for geometry in [FaceGeometry::wav2lip(96), FaceGeometry::SMALL] {
            let crop = FaceCrop::cut(&background, rect, geometry)?;
            let side = geometry.region_px;
            let mut face = vec![200; geometry.region_bytes()];
            feather(&crop, &mut face, 9)?;
            let at = |x: usize, y: usize| face[(y * side + x) * 3];
            let middle = side / 2;
            assert_eq!(
                (at(0, middle), at(4, middle), at(9, middle)),
                (110, 150, 200)
            );
            assert_eq!((at(side - 1, 0), at(middle, side - 2)), (110, 120));
            assert_eq!(at(middle, middle), 200);
            let mut hard = vec![200; geometry.region_bytes()];
            feather(&crop, &mut hard, 0)?;
            assert!(hard.iter().all(|&byte| byte == 200));
            assert!(feather(&crop, &mut [0; 5], 9).is_err());
        }
        Ok(())
    }
}
