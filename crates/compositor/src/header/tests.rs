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
    assert_eq!(probe(b""), Err(CompositorError::UnknownFormat));
    assert_eq!(probe(b"GIF89a"), Err(CompositorError::UnknownFormat));
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

proptest! {
    #[test]
    fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        for start in [PNG_SIGNATURE, b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR", JPEG_START, b"\xFF\xD8\xFF\xC0"] {
            let bytes = [start, &tail].concat();
            let _ = (probe(&bytes), jpeg_is_complete(&bytes));
        }
    }
}
