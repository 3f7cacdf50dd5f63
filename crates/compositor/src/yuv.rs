//! RGB pixels as planes of luma and chroma, in three ranges.

use crate::{Picture, picture::PIXEL_BYTES, spare};

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
    let weights = match yuv {
        Yuv::Bt601Full => &BT601_FULL,
        Yuv::Bt601Limited => &BT601_LIMITED,
        Yuv::Bt709Limited => &BT709_LIMITED,
    };
    // Compiled twice: for the CPU that every build knows, and for one with AVX2.
    pulp::Arch::new().dispatch(Planes { picture, weights })
}

/// The channels of a row, each of even length: an odd row repeats its last pixel.
type Channels = [Vec<u8>; PIXEL_BYTES];

struct Planes<'a> {
    picture: &'a Picture,
    weights: &'a Weights,
}

impl pulp::NullaryFnOnce for Planes<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn call(self) -> Vec<u8> {
        let Self { picture, weights } = self;
        let (width, height) = (picture.width(), picture.height());
        let n_columns = width.div_ceil(2);
        let n_chroma = n_columns * height.div_ceil(2);
        let mut planes = spare::zeros(width * height + 2 * n_chroma);
        let (luma_plane, chroma) = planes.split_at_mut(width * height);
        let (blue_plane, red_plane) = chroma.split_at_mut(n_chroma);
        let mut upper: Channels = [(); PIXEL_BYTES].map(|()| vec![0; 2 * n_columns]);
        let mut lower = upper.clone();
        let rows = picture.rgb().chunks(2 * width * PIXEL_BYTES);
        let out = luma_plane
            .chunks_mut(2 * width)
            .zip(blue_plane.chunks_exact_mut(n_columns))
            .zip(red_plane.chunks_exact_mut(n_columns));
        for (two_rows, ((luma_rows, blue_row), red_row)) in rows.zip(out) {
            let (first, second) = two_rows.split_at(width * PIXEL_BYTES);
            let (first_luma, second_luma) = luma_rows.split_at_mut(width);
            separate(first, &mut upper);
            luma_row(&upper, weights, first_luma);
            // The last row of an odd height counts twice.
            separate(if second.is_empty() { first } else { second }, &mut lower);
            luma_row(&lower, weights, second_luma);
            difference_row([&upper, &lower], weights.blue, blue_row);
            difference_row([&upper, &lower], weights.red, red_row);
        }
        planes
    }
}

/// Puts the channels of a row apart: three loops over neighbours are faster than one over pixels.
#[inline(always)]
fn separate(row: &[u8], channels: &mut Channels) {
    let pixels = row.as_chunks::<PIXEL_BYTES>().0;
    let [red, green, blue] = channels;
    let places = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
    for (pixel, ((red, green), blue)) in pixels.iter().zip(places) {
        [*red, *green, *blue] = *pixel;
    }
    let last = pixels.last().copied().unwrap_or_default();
    for (channel, value) in channels.iter_mut().zip(last) {
        channel[pixels.len()..].fill(value);
    }
}

#[inline(always)]
fn luma_row(channels: &Channels, weights: &Weights, out: &mut [u8]) {
    let [red, green, blue] = channels;
    for (out, ((&red, &green), &blue)) in out.iter_mut().zip(red.iter().zip(green).zip(blue)) {
        *out = luma([red, green, blue], weights);
    }
}

#[inline(always)]
fn luma(pixel: [u8; PIXEL_BYTES], weights: &Weights) -> u8 {
    let [red, green, blue] = [0, 1, 2].map(|i| u32::from(pixel[i]) * weights.luma[i]);
    // The third byte is the whole part: the sum is below 2^24.
    (red + green + blue + (weights.black << 16) + (1 << 15)).to_le_bytes()[2]
}

/// A row of one chroma plane, from two rows of pixels.
#[inline(always)]
fn difference_row(rows: [&Channels; 2], weights: [i32; 3], out: &mut [u8]) {
    let pairs = |row: usize, channel: usize| rows[row][channel].as_chunks::<2>().0.iter();
    let fours = |channel: usize| pairs(0, channel).zip(pairs(1, channel));
    let sum = |(above, below): (&[u8; 2], &[u8; 2])| {
        i32::from(above[0]) + i32::from(above[1]) + i32::from(below[0]) + i32::from(below[1])
    };
    let channels = fours(0).zip(fours(1)).zip(fours(2));
    for (out, ((red, green), blue)) in out.iter_mut().zip(channels) {
        *out = difference([red, green, blue].map(sum), weights);
    }
}

/// One chroma value from the sums of four pixels per channel: two more bits than [`luma`] has.
#[inline(always)]
fn difference(sums: [i32; 3], weights: [i32; 3]) -> u8 {
    let [red, green, blue] = [0, 1, 2].map(|i| sums[i] * weights[i]);
    let weighted = red + green + blue;
    let value = ((weighted + (1 << 17)) >> 18) + 128;
    u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests;
