//! Tests of what decoders are shown.

use super::*;
use crate::{Encoding, Picture, encode};

fn encoded(encoding: Encoding) -> Vec<u8> {
    let picture = Picture::new(9, 7, (0..9 * 7 * 3).collect()).unwrap();
    encode(&picture, encoding).unwrap()
}

fn chunk(name: [u8; 4], data: &[u8]) -> Vec<u8> {
    let named = [&name, data].concat();
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    let checksum = crc32fast::hash(&named).to_be_bytes();
    [&length, &*named, &checksum].concat()
}

#[test]
fn ancillary_chunks_are_left_out_wherever_they_stand() {
    let plain = encoded(Encoding::Png);
    let mut dressed = PNG_SIGNATURE.to_vec();
    for own in png_chunks(&plain) {
        for name in [*b"iCCP", *b"zTXt", *b"iTXt", *b"tEXt", *b"eXIf", *b"fdAT"] {
            dressed.extend(chunk(name, &[7; 300]));
        }
        dressed.extend(own.whole);
    }
    assert_eq!(pixels_only(&dressed, ImageFormat::Png), plain);
    assert_eq!(pixels_only(&plain, ImageFormat::Png), plain);
    let broken = &dressed[..dressed.len() - 13];
    assert_ne!(pixels_only(broken, ImageFormat::Png), plain);
}

#[test]
fn transparency_stays_for_it_decides_about_channels() {
    let transparent = [PNG_SIGNATURE, &*chunk(*b"tRNS", &[0; 6])].concat();
    assert_eq!(pixels_only(&transparent, ImageFormat::Png), transparent);
}

#[test]
fn application_segments_are_left_out_but_those_that_tell_colours() {
    let plain = encoded(Encoding::Jpeg { quality: 80 });
    let segment = |marker: u8| {
        let length = 2 + 5000_u16;
        [&[0xFF, marker][..], &length.to_be_bytes(), &[0xAB; 5000]].concat()
    };
    let mut dressed = plain[..2].to_vec();
    for marker in [0xE1, 0xE2, 0xED, 0xEF, 0xFE] {
        dressed.extend(segment(marker));
    }
    dressed.extend(&plain[2..]);
    assert_eq!(pixels_only(&dressed, ImageFormat::Jpeg), plain);
    let colours = [&plain[..2], &segment(0xEE), &plain[2..]].concat();
    assert_eq!(pixels_only(&colours, ImageFormat::Jpeg), colours);
    for length in 0..plain.len() {
        let cut = &plain[..length];
        assert_eq!(pixels_only(cut, ImageFormat::Jpeg), cut);
    }
}
