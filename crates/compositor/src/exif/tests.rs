//! Against OpenCV: `tests/golden/exif.txt`, see the README beside it.

use proptest::prelude::*;

use super::*;
use crate::{DecodeLimits, Encoding, Picture, decode, encode, probe};

const GOLDEN: &str = include_str!("../../tests/golden/exif.txt");

/// A picture in which no two turns look alike.
fn sample() -> Picture {
    let data = (0..24 * 16 * 3_u32).map(|i| (i * i / 97).to_le_bytes()[0]);
    Picture::new(24, 16, data.collect()).unwrap()
}

fn from_hex(text: &str) -> Vec<u8> {
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| std::str::from_utf8(pair).map(|p| u8::from_str_radix(p, 16));
    pairs
        .iter()
        .map(|pair| byte(pair).unwrap().unwrap())
        .collect()
}

/// The fields of the lines about `kind`: where, orientation, bytes, name.
fn golden(kind: &str) -> impl Iterator<Item = [&'static str; 4]> {
    GOLDEN.lines().filter_map(move |line| {
        let mut fields = line.split('\t');
        (fields.next() == Some(kind)).then(|| [(); 4].map(|()| fields.next().unwrap()))
    })
}

fn numbered(number: &str) -> Orientation {
    let all = [
        Orientation::Upright,
        Orientation::Mirrored,
        Orientation::UpsideDown,
        Orientation::Flipped,
        Orientation::Transposed,
        Orientation::Clockwise,
        Orientation::Transversed,
        Orientation::Anticlockwise,
    ];
    all[number.parse::<usize>().unwrap() - 1]
}

fn check(kind: &str, encoding: Encoding, place: impl Fn(&[u8], &str) -> usize) {
    let file = encode(&sample(), encoding).unwrap();
    let limits = DecodeLimits::default();
    let stored = decode(&file, limits).unwrap();
    let size = (stored.width(), stored.height());
    let mut n_cases = 0;
    for [at, number, data, name] in golden(kind) {
        let mut bytes = file.to_vec();
        let at = place(&file, at);
        bytes.splice(at..at, from_hex(data));
        let expected = numbered(number);
        let decoded = decode(&bytes, limits).unwrap();
        let turned = expected.turn(stored.rgb().to_vec(), size);
        assert_eq!(decoded.rgb(), turned, "{kind}: {name}");
        let upright = expected.upright_size(size);
        assert_eq!(
            (decoded.width(), decoded.height()),
            upright,
            "{kind}: {name}"
        );
        assert_eq!(probe(&bytes), Ok(upright), "{kind}: {name}");
        n_cases += 1;
    }
    assert!(n_cases > 40, "{n_cases}");
}

#[test]
fn jpeg_files_are_turned_as_opencv_turns_them() {
    check("jpeg", Encoding::Jpeg { quality: 90 }, |file, at| {
        let scan = file.windows(2).position(|pair| pair == [0xFF, 0xDA]);
        match at {
            "start" => 2,
            "scan" => scan.unwrap(),
            _ => file.len() - 2,
        }
    });
}

#[test]
fn png_files_are_turned_as_opencv_turns_them() {
    check("png", Encoding::Png, |file, at| match at {
        "start" => 33,
        _ => file.len() - 12,
    });
}

#[test]
fn pixels_go_where_opencv_puts_them() {
    let mut n_cases = 0;
    for [width, number, pixels, name] in golden("pixels") {
        let orientation = numbered(number);
        assert_eq!(orientation.upright_size((3, 2)).0.to_string(), width);
        let turned = orientation.turn((1..=18).collect(), (3, 2));
        assert_eq!(turned, from_hex(pixels), "{number} of {name}");
        n_cases += 1;
    }
    assert_eq!(n_cases, 8);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut data in proptest::collection::vec(any::<u8>(), 0..80), order in 0..3_usize) {
        let start: &[u8] = [&b"MM\0*\0\0\0\x08"[..], b"II*\0\x08\0\0\0", b"XX"][order];
        data.splice(0..0, start.iter().copied());
        let _ = tag_in(&data);
        let [n1, n0] = u16::try_from(data.len() + 8).unwrap().to_be_bytes();
        let segment = [&[0xFF, 0xD8, 0xFF, 0xE1, n1, n0], EXIF_NAME, &data].concat();
        let _ = Orientation::of(&segment, ImageFormat::Jpeg);
    }
}
