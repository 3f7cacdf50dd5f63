//! Tests of luma and chroma against the formulas of the contract, and against libswscale.

use proptest::prelude::*;

use super::*;
use crate::{Encoding, encode};

const ALL: [Yuv; 3] = [Yuv::Bt601Full, Yuv::Bt601Limited, Yuv::Bt709Limited];

/// The planes of a picture of one colour.
fn plain(rgb: [u8; 3], yuv: Yuv) -> [u8; 3] {
    let picture = Picture::new(3, 1, rgb.repeat(3)).unwrap();
    let planes = encode(&picture, Encoding::I420(yuv)).unwrap();
    let [y, _, _, u, _, v, _] = planes[..] else {
        panic!("{} bytes", planes.len())
    };
    assert_eq!(planes, [y, y, y, u, u, v, v]);
    [y, u, v]
}

#[test]
fn plain_colours() {
    // Values of JFIF's formulas, rounded; then as the contract has them.
    let cases = [
        ([255, 0, 0], [76, 85, 255], [81, 90, 240], [63, 102, 240]),
        ([0, 255, 0], [150, 44, 21], [145, 54, 34], [173, 42, 26]),
        ([0, 0, 255], [29, 255, 107], [41, 240, 110], [32, 240, 118]),
        (
            [255, 255, 255],
            [255, 128, 128],
            [235, 128, 128],
            [235, 128, 128],
        ),
        ([0, 0, 0], [0, 128, 128], [16, 128, 128], [16, 128, 128]),
    ];
    for (rgb, full, bt601, bt709) in cases {
        for (yuv, expected) in ALL.into_iter().zip([full, bt601, bt709]) {
            assert_eq!(plain(rgb, yuv), expected, "{rgb:?} {yuv:?}");
        }
    }
}

#[test]
fn grey_has_no_colour_and_covers_the_range() {
    for level in 0..=255 {
        for yuv in ALL {
            let [y, u, v] = plain([level; 3], yuv);
            assert_eq!([u, v], [128, 128], "{level} {yuv:?}");
            let expected = match yuv {
                Yuv::Bt601Full => f64::from(level),
                _ => 16.0 + f64::from(level) * 219.0 / 255.0,
            };
            assert!((f64::from(y) - expected).abs() < 0.51, "{level} {yuv:?}");
        }
    }
}

#[test]
fn libswscale_agrees() {
    let golden = include_str!("../../tests/golden/yuv.txt");
    let mut n_colours = 0;
    for line in golden.lines() {
        let values: Vec<u8> = line
            .split_whitespace()
            .map(|value| value.parse().unwrap())
            .collect();
        let (rgb, planes) = values.split_at(3);
        let rgb: [u8; 3] = rgb.try_into().unwrap();
        for (yuv, theirs) in ALL.into_iter().zip(planes.chunks(3)) {
            let ours = plain(rgb, yuv);
            let is_near = ours.iter().zip(theirs).all(|(a, b)| a.abs_diff(*b) <= 1);
            assert!(
                is_near,
                "{rgb:?} {yuv:?}: ours {ours:?}, libswscale's {theirs:?}"
            );
        }
        n_colours += 1;
    }
    assert_eq!(n_colours, 343);
}

/// Weights of red and blue in luma, and the spans of luma and chroma.
fn standard(yuv: Yuv) -> (f64, f64, f64, f64) {
    match yuv {
        Yuv::Bt601Full => (0.299, 0.114, 255.0, 255.0),
        Yuv::Bt601Limited => (0.299, 0.114, 219.0, 224.0),
        Yuv::Bt709Limited => (0.2126, 0.0722, 219.0, 224.0),
    }
}

/// Luma, blue and red difference of a colour, by the definitions of BT.601 and BT.709.
fn by_definition([r, g, b]: [f64; 3], yuv: Yuv) -> [f64; 3] {
    let (red_weight, blue_weight, luma_span, chroma_span) = standard(yuv);
    let [r, g, b] = [r / 255.0, g / 255.0, b / 255.0];
    let y = red_weight * r + (1.0 - red_weight - blue_weight) * g + blue_weight * b;
    let black = if yuv == Yuv::Bt601Full { 0.0 } else { 16.0 };
    [
        black + y * luma_span,
        128.0 + (b - y) / (2.0 * (1.0 - blue_weight)) * chroma_span,
        128.0 + (r - y) / (2.0 * (1.0 - red_weight)) * chroma_span,
    ]
    .map(|value| value.clamp(0.0, 255.0))
}

proptest! {
    #[test]
    fn every_value_follows_the_definitions(
        width in 1..40_usize,
        height in 1..6_usize,
        noise in proptest::collection::vec(any::<u8>(), 39 * 5 * 3),
    ) {
        let picture = Picture::new(width, height, noise[..width * height * 3].to_vec()).unwrap();
        let at = |x: usize, y: usize| {
            let i = (y.min(height - 1) * width + x.min(width - 1)) * 3;
            [0, 1, 2].map(|channel| f64::from(noise[i + channel]))
        };
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        for yuv in ALL {
            let mut expected = Vec::new();
            for i in 0..width * height {
                expected.push(by_definition(at(i % width, i / width), yuv)[0]);
            }
            for channel in [1, 2] {
                for i in 0..half_width * half_height {
                    let (x, y) = (2 * (i % half_width), 2 * (i / half_width));
                    let block = [at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)];
                    let mean = [0, 1, 2].map(|c| block.iter().map(|pixel| pixel[c]).sum::<f64>() / 4.0);
                    expected.push(by_definition(mean, yuv)[channel]);
                }
            }
            let planes = encode(&picture, Encoding::I420(yuv)).unwrap();
            prop_assert_eq!(planes.len(), expected.len());
            for (plane, expected) in planes.iter().zip(expected) {
                prop_assert!((f64::from(*plane) - expected).abs() < 0.52, "{yuv:?}: {plane}, {expected}");
            }
        }
    }

    /// Wide enough for whole vectors and what is left of a row.
    #[test]
    fn every_cpu_gives_the_same_planes(
        width in 1..150_usize,
        height in 1..4_usize,
        noise in proptest::collection::vec(any::<u8>(), 149 * 3 * 3),
    ) {
        let picture = Picture::new(width, height, noise[..width * height * 3].to_vec()).unwrap();
        for (yuv, weights) in ALL.into_iter().zip([&BT601_FULL, &BT601_LIMITED, &BT709_LIMITED]) {
            let plain = pulp::NullaryFnOnce::call(Planes { picture: &picture, weights });
            prop_assert_eq!(i420(&picture, yuv), plain);
        }
    }
}
