//! RGB pixels as planes of luma and chroma, in three ranges.

use crate::{Picture, picture::PIXEL_BYTES};

/// What the values of the planes mean: matrix and range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Yuv {
    /// BT.601, full range 0..=255: as JPEG means colours.
    Bt601Full,
    /// BT.601, limited range (luma 16..=235, chroma 16..=240): what WebRTC takes.
    Bt601Limited,
    /// BT.709, limited range: what players take for video of high definition.
    Bt709Limited,
}

/// Weights of red, green and blue in 1/65536.
struct Weights {
    /// Of luma; they add up to 1, or to 219/255 in limited range.
    luma: [u32; 3],
    /// Luma of black.
    black: u32,
    /// Of blue difference; they add up to 0, as the next do.
    blue: [i32; 3],
    /// Of red difference.
    red: [i32; 3],
}

const BT601_FULL: Weights = Weights {
    luma: [19_595, 38_470, 7_471],
    black: 0,
    blue: [-11_058, -21_710, 32_768],
    red: [32_768, -27_439, -5_329],
};
const BT601_LIMITED: Weights = Weights {
    luma: [16_829, 33_039, 6_416],
    black: 16,
    blue: [-9_714, -19_070, 28_784],
    red: [28_784, -24_103, -4_681],
};
const BT709_LIMITED: Weights = Weights {
    luma: [11_966, 40_254, 4_064],
    black: 16,
    blue: [-6_596, -22_188, 28_784],
    red: [28_784, -26_145, -2_639],
};

/// Returns the planes of a picture, one after another.
pub(crate) fn i420(picture: &Picture, yuv: Yuv) -> Vec<u8> {
    match yuv {
        Yuv::Bt601Full => planes(picture, &BT601_FULL),
        Yuv::Bt601Limited => planes(picture, &BT601_LIMITED),
        Yuv::Bt709Limited => planes(picture, &BT709_LIMITED),
    }
}

#[inline]
fn planes(picture: &Picture, weights: &Weights) -> Vec<u8> {
    let row_bytes = picture.width() * PIXEL_BYTES;
    let chroma_bytes = picture.width().div_ceil(2) * picture.height().div_ceil(2);
    let mut planes = Vec::with_capacity(picture.bytes() / PIXEL_BYTES + 2 * chroma_bytes);
    let pixels = picture.rgb().as_chunks().0;
    planes.extend(pixels.iter().map(|pixel| luma(pixel, weights)));
    let mut red_plane = Vec::with_capacity(chroma_bytes);
    for two_rows in picture.rgb().chunks(2 * row_bytes) {
        let (upper, lower) = two_rows.split_at(row_bytes);
        let lower = if lower.is_empty() { upper } else { lower };
        let pairs = upper.chunks(2 * PIXEL_BYTES);
        for (above, below) in pairs.zip(lower.chunks(2 * PIXEL_BYTES)) {
            // A pair at the right edge may be a single pixel, which then counts twice.
            let right = above.len() - PIXEL_BYTES;
            let sums = [0, 1, 2].map(|channel| {
                i32::from(above[channel])
                    + i32::from(above[right + channel])
                    + i32::from(below[channel])
                    + i32::from(below[right + channel])
            });
            planes.push(difference(sums, weights.blue));
            red_plane.push(difference(sums, weights.red));
        }
    }
    planes.extend(red_plane);
    planes
}

#[inline]
fn luma(pixel: &[u8; PIXEL_BYTES], weights: &Weights) -> u8 {
    let [red, green, blue] = [0, 1, 2].map(|i| u32::from(pixel[i]) * weights.luma[i]);
    // The third byte is the whole part: the sum is below 2^24.
    (red + green + blue + (weights.black << 16) + (1 << 15)).to_le_bytes()[2]
}

/// One chroma value from the sums of four pixels per channel: two more bits than [`luma`] has.
#[inline]
fn difference(sums: [i32; 3], weights: [i32; 3]) -> u8 {
    let [red, green, blue] = [0, 1, 2].map(|i| sums[i] * weights[i]);
    let weighted = red + green + blue;
    let value = ((weighted + (1 << 17)) >> 18) + 128;
    u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests;
