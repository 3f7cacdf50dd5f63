//! Tests of the header reader.

use proptest::prelude::*;

use super::*;
use crate::{Encoding, Picture, encode};

fn encoded(width: usize, height: usize, encoding: Encoding) -> Vec<u8> {
    let picture = Picture::new(width, height, vec![100; width * height * 3]).unwrap();
    encode(&picture, encoding).unwrap()
}

#[test]
fn sizes_are_read_from_the_header_alone() {
    for encoding in [Encoding::Png, Encoding::Jpeg { quality: 90 }] {
        let bytes = encoded(301, 17, encoding);
        assert_eq!(probe(&bytes), Ok((301, 17)));
    }
    assert_eq!(probe(&encoded(301, 17, Encoding::Png)[..24]), Ok((301, 17)));
}

#[test]
fn a_jpegs_size_lies_behind_metadata_and_fill_bytes() {
    let plain = encoded(33, 17, Encoding::Jpeg { quality: 90 });
    let mut bytes = vec![0xFF, 0xD8];
    // A thumbnail's frame header and end marker within metadata are not the picture's.
    bytes.extend([
        0xFF, 0xE1, 0, 11, 0xFF, 0xC0, 0, 17, 8, 0, 1, 0xFF, 0xD9, 0xFF, 0xFF,
    ]);
    bytes.extend(&plain[2..]);
    assert_eq!(probe(&bytes), Ok((33, 17)));
    assert!(jpeg_is_complete(&bytes));
    assert!(!jpeg_is_complete(&bytes[..bytes.len() - 1]));
}

#[test]
fn broken_headers_are_refused() {
    assert_eq!(probe(b""), Err(CompositorError::Empty));
    assert_eq!(probe(b"hello"), Err(CompositorError::UnknownFormat));
    let mut empty = encoded(8, 8, Encoding::Png);
    empty[16..20].fill(0);
    assert!(matches!(
        probe(&empty),
        Err(CompositorError::Malformed { .. })
    ));
    // A segment whose length cannot even hold itself.
    let short = [0xFF, 0xD8, 0xFF, 0xE0, 0, 0];
    assert!(matches!(
        probe(&short),
        Err(CompositorError::Malformed { .. })
    ));
}

#[test]
fn other_files_are_named() {
    for (bytes, found) in [
        (&b"RIFF\x10\0\0\0WEBPVP8 "[..], "a WebP picture"),
        (b"GIF89a", "a GIF picture"),
        (b"BM\x36\x84\x03\0\0\0\0\0", "a BMP picture"),
        (b"II*\0\x08\0\0\0", "a TIFF picture"),
        (b"\0\0\0\x20ftypisom", "an MP4 film"),
        (b"\0\0\0\x1cftypavif", "an AVIF picture"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a Git LFS pointer",
        ),
    ] {
        let text = probe(bytes).expect_err(found).to_string();
        assert!(text.contains(found), "{text}");
    }
    // A text that begins with BM is no picture.
    assert_eq!(probe(b"BMW is a car"), Err(CompositorError::UnknownFormat));
}

/// A JPEG file with this frame header's marker, bits a sample, and sampling factors.
fn with_frame(marker: u8, precision: u8, factors: [u8; 3]) -> Vec<u8> {
    let mut bytes = encoded(33, 17, Encoding::Jpeg { quality: 90 });
    let is_frame = |pair: &[u8]| pair[0] == 0xFF && matches!(pair[1], 0xC0..=0xC2);
    let at = bytes.windows(2).position(is_frame).expect("a frame header");
    bytes[at + 1] = marker;
    bytes[at + 4] = precision;
    for (n, factors) in factors.into_iter().enumerate() {
        bytes[at + 11 + 3 * n] = factors;
    }
    bytes
}

#[test]
fn codings_that_are_not_read_right_are_named() {
    for (marker, precision, factors, expected) in [
        (0xC0, 8, [0x22, 0x11, 0x11], None),
        (0xC2, 8, [0x11, 0x11, 0x11], None),
        (0xC0, 8, [0x41, 0x11, 0x11], None),
        (0xC0, 8, [0x11, 0x12, 0x12], None),
        (
            0xC0,
            8,
            [0x11, 0x22, 0x22],
            Some("finer than its brightness"),
        ),
        (
            0xC0,
            8,
            [0x21, 0x11, 0x41],
            Some("finer than its brightness"),
        ),
        (0xC9, 8, [0x22, 0x11, 0x11], Some("arithmetically")),
        (0xC3, 8, [0x11, 0x11, 0x11], Some("lossless")),
        (0xC1, 12, [0x22, 0x11, 0x11], Some("more than 8 bits")),
    ] {
        let found = foreign_coding(&with_frame(marker, precision, factors));
        match (found, expected) {
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => assert_eq!(found, expected, "{marker:x} {factors:x?}"),
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        for start in [PNG_SIGNATURE, b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR", JPEG_START, b"\xFF\xD8\xFF\xC0"] {
            let bytes = [start, &tail].concat();
            let _ = (probe(&bytes), jpeg_is_complete(&bytes));
        }
    }
}
