//! Files of every kind give the pixels that OpenCV gives; `golden/README.md` says how these were made.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{fs, path::Path};

use lipsync_compositor::{DecodeLimits, decode};

/// The largest difference from `tests/golden/pictures/<name>.rgb`.
fn difference(name: &str) -> u8 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
    let file = fs::read(folder.join(name)).unwrap();
    let expected = fs::read(folder.join(format!("{name}.rgb"))).unwrap();
    let picture = decode(&file, DecodeLimits::default()).unwrap();
    assert_eq!((picture.width(), picture.height()), (24, 16), "{name}");
    assert_eq!(picture.rgb().len(), expected.len(), "{name}");
    let differences = picture
        .rgb()
        .iter()
        .zip(&expected)
        .map(|(a, b)| a.abs_diff(*b));
    differences.max().unwrap()
}

#[test]
fn png_files_are_read_to_the_bit() {
    for name in [
        "rgb16",
        "grey16",
        "grey_alpha8",
        "grey_alpha16",
        "rgba8",
        "rgba16",
        "grey1",
        "grey2",
        "grey4",
        "palette4",
        "palette_trns",
        "rgb_trns",
        "grey_trns",
        "gamma",
        "profile",
    ] {
        assert_eq!(difference(&format!("{name}.png")), 0, "{name}");
    }
}

/// Decoders round differently.
#[test]
fn jpeg_files_are_read_within_rounding() {
    for (name, most) in [
        ("baseline", 2),
        ("progressive", 2),
        ("profile", 2),
        ("grey", 1),
        ("half", 4),
        ("adobe_rgb", 1),
        ("cmyk", 4),
    ] {
        let found = difference(&format!("{name}.jpg"));
        assert!(found <= most, "{name}: {found}");
    }
}
