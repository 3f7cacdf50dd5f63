//! The network's visual input, made of the face crop.

use lipsync_core::FaceGeometry;

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

/// Packs a face crop into the network's six channels.
///
/// # Shapes
/// `crop` is `[crop_px][crop_px][3]` u8 BGR; `out` is `[region_px][region_px][6]`: BGR / 255 of the crop
/// without its ring, and the same again with zeros inside the mouth mask.
///
/// # Panics
/// When a length does not fit.
pub fn pack_face(crop: &[u8], geometry: &FaceGeometry, out: &mut [f32]) {
    let side = geometry.region_px;
    assert_eq!(
        crop.len(),
        geometry.crop_bytes(),
        "crop is [crop_px][crop_px][3]"
    );
    assert_eq!(
        out.len(),
        side * side * 6,
        "out is [region_px][region_px][6]"
    );
    if side == 0 {
        return;
    }
    let (mask_start, mask_end) = geometry.mask_x;
    for (y, out) in out.chunks_exact_mut(side * 6).enumerate() {
        let start = ((geometry.ring_px + y) * geometry.crop_px + geometry.ring_px) * 3;
        let crop = &crop[start..start + side * 3];
        for (out, bgr) in out.chunks_exact_mut(6).zip(crop.chunks_exact(3)) {
            let bgr = [bgr[0], bgr[1], bgr[2]].map(|byte| UNIT[usize::from(byte)]);
            out[..3].copy_from_slice(&bgr);
            out[3..].copy_from_slice(&bgr);
        }
        if (geometry.mask_y.0..geometry.mask_y.1).contains(&y) {
            for out in out[mask_start * 6..mask_end * 6].chunks_exact_mut(6) {
                out[3..].fill(0.0);
            }
        }
    }
}
