//! The cross-fade between the network's face and the face at rest, in pixels.

use lipsync_compositor::FaceCrop;
use lipsync_session::FULL;

/// Mixes a generated region with what the background frame has there, `weight` parts of [`FULL`].
///
/// `face` is `region_px x region_px x 3`, u8 BGR, as the crop's pixels are.
pub(super) fn blend(face: &mut [u8], crop: &FaceCrop, weight: u8) {
    let geometry = crop.geometry();
    let (region_bytes, crop_bytes) = (geometry.region_px * 3, geometry.crop_px * 3);
    let original_rows = crop
        .pixels()
        .chunks_exact(crop_bytes)
        .skip(geometry.ring_px);
    for (row, original_row) in face.chunks_exact_mut(region_bytes).zip(original_rows) {
        let original_row = &original_row[geometry.ring_px * 3..][..region_bytes];
        for (byte, &original) in row.iter_mut().zip(original_row) {
            *byte = mixed(*byte, original, weight);
        }
    }
}

/// As [`blend`], with a face at rest that was generated, too.
pub(super) fn blend_faces(face: &mut [u8], rest: &[u8], weight: u8) {
    for (byte, &rest) in face.iter_mut().zip(rest) {
        *byte = mixed(*byte, rest, weight);
    }
}

/// A weighted mean of bytes, `weight` parts of [`FULL`] of the first.
fn mixed(own: u8, other: u8, weight: u8) -> u8 {
    let (weight, full) = (u16::from(weight.min(FULL)), u16::from(FULL));
    let sum = u16::from(own) * weight + u16::from(other) * (full - weight) + full / 2;
    u8::try_from(sum / full).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use lipsync_compositor::Picture;
    use lipsync_core::{CropRect, FaceGeometry};

    use super::*;

    #[test]
    fn a_blend_lies_between_the_network_and_the_original() {
        let pixels: Vec<u8> = (0..168 * 168 * 3)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect();
        let background = Picture::new(168, 168, pixels).unwrap();
        let rect = CropRect {
            x1: 0,
            y1: 0,
            x2: 168,
            y2: 168,
        };
        let rect = rect.clamp_to(168, 168).unwrap();
        let crop = FaceCrop::cut(&background, rect, FaceGeometry::SMALL).unwrap();
        let network = vec![200; FaceGeometry::SMALL.region_bytes()];
        let at = |weight| {
            let mut face = network.clone();
            blend(&mut face, &crop, weight);
            face
        };
        assert_eq!(at(FULL), network, "the network's own bytes");
        let (none, half) = (at(0), at(FULL / 2));
        // Row 7, column 11 of the region, one ring further in the crop.
        let (region_at, crop_at) = ((7 * 160 + 11) * 3, (11 * 168 + 15) * 3);
        assert_eq!(none[region_at..][..3], crop.pixels()[crop_at..][..3]);
        for (half, none) in half.iter().zip(none) {
            assert_eq!(u16::from(*half), (200 + u16::from(none)).div_ceil(2));
        }
    }
}
