//! Tests of reading pictures.

use image::{DynamicImage, GrayImage, Luma, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;
use crate::{Encoding, encode, probe};

fn sample() -> Picture {
    let data = (0..29 * 23 * 3_u32).map(|i| (i * 7 % 251).to_le_bytes()[0]);
    Picture::new(29, 23, data.collect()).unwrap()
}

fn as_png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture: DynamicImage = picture.into();
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

#[test]
fn png_comes_back_bit_for_bit() {
    let bytes = encode(&sample(), Encoding::Png).unwrap();
    assert_eq!(decode(&bytes, DecodeLimits::default()), Ok(sample()));
}

#[test]
fn alpha_is_dropped_and_grey_expanded() {
    let clear = as_png(RgbaImage::from_pixel(2, 1, Rgba([10, 20, 30, 0])));
    let decoded = decode(&clear, DecodeLimits::default()).unwrap();
    assert_eq!(decoded.rgb(), [10, 20, 30, 10, 20, 30]);
    let grey = as_png(GrayImage::from_pixel(1, 1, Luma([77])));
    assert_eq!(
        decode(&grey, DecodeLimits::default()).unwrap().rgb(),
        [77, 77, 77]
    );
}

#[test]
fn a_jpeg_of_many_scans_is_refused_before_any_is_read() {
    let whole = encode(&sample(), Encoding::Jpeg { quality: 80 }).unwrap();
    let start = whole.windows(2).position(|pair| pair == [0xFF, 0xDA]);
    let (head, scan) = whole.split_at(start.unwrap());
    let (scan, end) = scan.split_at(scan.len() - 2);
    for (n_scans, is_refused) in [(1, false), (MAX_JPEG_SCANS + 1, true)] {
        let file = [head, &scan.repeat(n_scans), end].concat();
        match decode(&file, DecodeLimits::default()) {
            Err(error) if is_refused => {
                assert!(error.to_string().contains("33 scans, over 32"), "{error}");
            }
            decoded => assert_eq!(decoded.map(|_| ()), Ok(())),
        }
    }
}

#[test]
fn a_hostile_size_is_refused_by_its_header() {
    let mut bytes = encode(&sample(), Encoding::Png).unwrap();
    bytes[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    let refused = decode(&bytes, DecodeLimits::default());
    assert!(
        matches!(refused, Err(CompositorError::TooLarge { height: 23, .. })),
        "{refused:?}"
    );
    let small = DecodeLimits {
        max_pixels: 29 * 23 - 1,
        ..DecodeLimits::default()
    };
    let bytes = encode(&sample(), Encoding::Jpeg { quality: 80 }).unwrap();
    assert!(matches!(
        decode(&bytes, small),
        Err(CompositorError::TooLarge { .. })
    ));
    let enough = DecodeLimits {
        max_width: 29,
        max_height: 23,
        max_pixels: 29 * 23,
    };
    assert!(decode(&bytes, enough).is_ok());
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    for encoding in [Encoding::Png, Encoding::Jpeg { quality: 80 }] {
        let bytes = encode(&sample(), encoding).unwrap();
        // A PNG's last chunk, 12 bytes, carries nothing.
        let needed = if encoding == Encoding::Png {
            bytes.len() - 12
        } else {
            bytes.len()
        };
        for length in 0..needed {
            let cut = decode(&bytes[..length], DecodeLimits::default());
            assert!(cut.is_err(), "{encoding:?}: {length} of {}", bytes.len());
        }
    }
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        png in any::<bool>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let encoding = if png { Encoding::Png } else { Encoding::Jpeg { quality: 80 } };
        let mut bytes = encode(&sample(), encoding).unwrap();
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let limits = DecodeLimits { max_width: 512, max_height: 512, max_pixels: 512 * 512 };
        if let Ok(picture) = decode(&bytes, limits) {
            prop_assert_eq!(Ok((picture.width(), picture.height())), probe(&bytes));
        }
    }
}
