//! Tests of writing pictures.

use image::load_from_memory;

use super::*;

/// A slow ramp, which JPEG hardly changes.
fn ramp(width: usize, height: usize) -> Picture {
    let level = |value: usize| u8::try_from(value.min(255)).unwrap();
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        [
            level(40 + 2 * x),
            level(200 - y.min(150)),
            level(90 + x / 2 + y / 2),
        ]
    };
    let data = (0..width * height).flat_map(pixel).collect();
    Picture::new(width, height, data).unwrap()
}

#[test]
fn jpeg_keeps_sizes_and_colours_at_every_alignment() {
    let mut sizes = vec![(33, 17), (1, 300), (300, 1), (100, 75)];
    sizes.extend((1..=34).flat_map(|width| (1..=18).map(move |height| (width, height))));
    for (width, height) in sizes {
        let picture = ramp(width, height);
        let bytes = encode(&picture, Encoding::Jpeg { quality: 95 }).unwrap();
        let decoded = load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(
            (decoded.width() as usize, decoded.height() as usize),
            (width, height)
        );
        let worst = decoded
            .iter()
            .zip(picture.rgb())
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(worst <= Some(12), "{width}x{height}: {worst:?}");
    }
}

#[test]
fn jpeg_is_baseline_with_halved_chroma() {
    let bytes = encode(&ramp(40, 40), Encoding::Jpeg { quality: 85 }).unwrap();
    let frame = bytes
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    // Behind marker, length, precision, sides and count: id and sampling of the three components.
    let components = &bytes[frame + 10..][..9];
    assert_eq!(
        [components[1], components[4], components[7]],
        [0x22, 0x11, 0x11]
    );
}

#[test]
fn qualities_are_1_to_100_and_matter() {
    let picture = ramp(64, 64);
    let length = |quality| encode(&picture, Encoding::Jpeg { quality }).map(|bytes| bytes.len());
    assert!(length(1).unwrap() < length(100).unwrap());
    for quality in [0, 101, 255] {
        assert_eq!(length(quality), Err(CompositorError::Quality { quality }));
    }
}

#[test]
fn a_picture_too_wide_for_jpeg_is_an_error() {
    let wide = Picture::new(65_536, 1, vec![0; 65_536 * 3]).unwrap();
    let refused = encode(&wide, Encoding::Jpeg { quality: 85 });
    assert!(matches!(
        refused,
        Err(CompositorError::Encode {
            format: ImageFormat::Jpeg,
            ..
        })
    ));
}
