//! The network's visual input, made of the face crop.

use std::ops::Range;

use lipsync_core::{FaceGeometry, Family, face::FacePart, family::ColourOrder};

use super::Element;

/// [`pack_face`], its CUDA twin and the conversions of the output are written for this form; what is
/// packed has crops in the same order.
const _: () = {
    let mut i = 0;
    while i < Family::ALL.len() {
        let form = Family::ALL[i].pixels;
        assert!(matches!(form.order, ColourOrder::Bgr));
        assert!(matches!(form.input_range, [0, 1]) && matches!(form.output_range, [0, 1]));
        i += 1;
    }
};

/// `byte / 255` for every byte.
static UNIT: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut i = 0;
    while i < table.len() {
        table[i] = i as f32 / 255.0;
        i += 1;
    }
    table
};

/// Packs rows `rows` of a face crop's region into the network's six channels.
///
/// # Shapes
/// `crop` is `[crop_px][crop_px][3]` u8 BGR; `out` is `[rows][region_px][6]`: BGR / 255 of the crop
/// without its ring, twice, one of them with zeros inside the mouth mask, in the order of the geometry.
///
/// # Panics
/// When a length does not fit, or a row lies outside the region.
pub fn pack_face<E: Element>(
    crop: &[u8],
    geometry: &FaceGeometry,
    rows: Range<usize>,
    out: &mut [E],
) {
    let side = geometry.region_px;
    assert_eq!(
        crop.len(),
        geometry.crop_bytes(),
        "crop is [crop_px][crop_px][3]"
    );
    assert!(rows.end <= side, "rows past the end");
    assert_eq!(
        out.len(),
        rows.len() * side * 6,
        "out is [rows][region_px][6]"
    );
    if side == 0 {
        return;
    }
    // Rounded once for all pixels of the call.
    let unit = UNIT.map(E::from_f32);
    let (mask_start, mask_end) = geometry.mask_x;
    for (y, out) in rows.zip(out.chunks_exact_mut(side * 6)) {
        let start = ((geometry.ring_px + y) * geometry.crop_px + geometry.ring_px) * 3;
        let crop = &crop[start..start + side * 3];
        for (out, bgr) in out.chunks_exact_mut(6).zip(crop.chunks_exact(3)) {
            let bgr = [bgr[0], bgr[1], bgr[2]].map(|byte| unit[usize::from(byte)]);
            out[..3].copy_from_slice(&bgr);
            out[3..].copy_from_slice(&bgr);
        }
        if (geometry.mask_y.0..geometry.mask_y.1).contains(&y) {
            let inside = &mut out[mask_start * 6..mask_end * 6];
            for (i, part) in geometry.inputs.iter().enumerate() {
                if matches!(part, FacePart::Masked) {
                    for pixel in inside.chunks_exact_mut(6) {
                        pixel[3 * i..][..3].fill(E::ZERO);
                    }
                }
            }
        }
    }
}
