//! The recipe against OpenCV: see `golden/README.md`.

use std::{fs, path::PathBuf};

use lipsync_compositor::{FaceCrop, Picture, composite, composite_masked, face_patch};
use lipsync_core::{CropRect, FaceGeometry, PixelRect};

const WIDTH: usize = 420;
const HEIGHT: usize = 340;
const LARGE: FaceGeometry = FaceGeometry::LARGE;
const SMALL: FaceGeometry = FaceGeometry::SMALL;

const CASES: [(&str, [i32; 4], FaceGeometry); 7] = [
    ("large_square", [97, 61, 277, 241], LARGE),
    ("large_same_size", [40, 6, 368, 334], LARGE),
    ("large_wide", [10, 2, 410, 318], LARGE),
    ("large_off_right_bottom", [300, 220, 480, 400], LARGE),
    ("small_square", [97, 61, 277, 241], SMALL),
    ("small_off_left_top", [-20, -30, 90, 80], SMALL),
    ("small_tiny", [200, 100, 203, 102], SMALL),
];

fn golden(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// BGR bytes; equal to `synthetic` of the tool that makes the goldens.
fn synthetic(width: usize, height: usize, seed: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(width * height * 3);
    for y in 0..u32::try_from(height).expect("test pictures are small") {
        for x in 0..u32::try_from(width).expect("test pictures are small") {
            for c in 0..3 {
                let value = match (x / 32 + y / 32 + seed) % 3 {
                    0 => x * 2 + y * 3 + c * 40 + seed * 17,
                    1 => noise(x, y, c + seed),
                    _ => (x / 5 + y / 7 + c) % 2 * 255,
                };
                bytes.push(value.to_le_bytes()[0]);
            }
        }
    }
    bytes
}

fn noise(x: u32, y: u32, c: u32) -> u32 {
    let sum = x
        .wrapping_mul(374_761_393)
        .wrapping_add(y.wrapping_mul(668_265_263))
        .wrapping_add(c.wrapping_mul(2_246_822_519));
    let mixed = (sum ^ (sum >> 13)).wrapping_mul(1_274_126_177);
    mixed ^ (mixed >> 16)
}

fn picture_of_bgr(width: usize, height: usize, mut bytes: Vec<u8>) -> Picture {
    for pixel in bytes.chunks_exact_mut(3) {
        pixel.swap(0, 2);
    }
    Picture::new(width, height, bytes).expect("the bytes fit the size")
}

fn background() -> Picture {
    picture_of_bgr(WIDTH, HEIGHT, synthetic(WIDTH, HEIGHT, 1))
}

fn parsing_mask() -> Picture {
    let colours = [[0, 0, 255], [255, 255, 255], [0, 0, 0], [0, 0, 254]];
    let colour = |i: usize| colours[(i % WIDTH / 8 + i / WIDTH / 8) % 4];
    picture_of_bgr(
        WIDTH,
        HEIGHT,
        (0..WIDTH * HEIGHT).flat_map(colour).collect(),
    )
}

fn rect_of([x1, y1, x2, y2]: [i32; 4]) -> PixelRect {
    CropRect { x1, y1, x2, y2 }
        .clamp_to(WIDTH, HEIGHT)
        .expect("every case lies on the frame")
}

/// The BGR bytes of a rectangle of a picture.
fn bgr_of(picture: &Picture, rect: PixelRect) -> Vec<u8> {
    let rows = picture.rgb().chunks_exact(picture.width() * 3);
    rows.skip(rect.y)
        .take(rect.height)
        .flat_map(|row| row[rect.x * 3..(rect.x + rect.width) * 3].chunks_exact(3))
        .flat_map(|rgb| [rgb[2], rgb[1], rgb[0]])
        .collect()
}

/// Compares BGR bytes with a golden, which holds a sample of them.
fn assert_within_one_level(name: &str, actual: &[u8], width: usize) {
    let rows: Vec<&[u8]> = actual.chunks_exact(width * 3).collect();
    let last = rows.len() - 1;
    let kept = (0..=last).filter(|&y| y % 5 == 0 || y == last);
    let sample: Vec<u8> = kept
        .flat_map(|y| rows[y].chunks_exact(3).step_by(3).flatten().copied())
        .collect();
    let expected = golden(name);
    assert_eq!(sample.len(), expected.len(), "{name}");
    let differences = sample.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
    assert!(
        differences.clone().max() <= Some(1),
        "{name}: {:?}",
        differences.max()
    );
}

#[test]
fn crops_are_opencvs() {
    for (name, rect, geometry) in CASES {
        let crop = FaceCrop::cut(&background(), rect_of(rect), geometry).unwrap();
        assert_within_one_level(&format!("{name}.crop.bin"), crop.pixels(), geometry.crop_px);
    }
}

#[test]
fn composites_are_opencvs_and_leave_the_rest_alone() {
    let (background, mask) = (background(), parsing_mask());
    for (name, rect, geometry) in CASES {
        let rect = rect_of(rect);
        let crop = FaceCrop::cut(&background, rect, geometry).unwrap();
        let generated = synthetic(geometry.region_px, geometry.region_px, 2);
        let frame = composite(&background, &crop, &generated).unwrap();
        let masked = composite_masked(&background, &crop, &generated, &mask).unwrap();
        let file = format!("{name}.composite.bin");
        assert_within_one_level(&file, &bgr_of(&frame, rect), rect.width);
        let file = format!("{name}.masked.bin");
        assert_within_one_level(&file, &bgr_of(&masked, rect), rect.width);
        for (i, pixel) in background.rgb().chunks_exact(3).enumerate() {
            let (x, y) = (i % WIDTH, i / WIDTH);
            let inside = (rect.x..rect.x + rect.width).contains(&x)
                && (rect.y..rect.y + rect.height).contains(&y);
            assert!(
                inside || frame.rgb()[i * 3..][..3] == *pixel,
                "{name}: {x}, {y}"
            );
        }
    }
}

#[test]
fn the_mouth_mask_is_opencvs_rectangle() {
    for (name, geometry) in [("large.mask.bits", LARGE), ("small.mask.bits", SMALL)] {
        let bits = golden(name);
        assert_eq!(bits.len() * 8, geometry.region_px * geometry.region_px);
        for i in 0..bits.len() * 8 {
            let (x, y) = (i % geometry.region_px, i / geometry.region_px);
            let black = bits[i / 8] >> (7 - i % 8) & 1 == 1;
            assert_eq!(geometry.is_masked(x, y), black, "{name}: {x}, {y}");
        }
    }
}

#[test]
fn the_ring_keeps_the_original_whatever_is_generated() {
    let background = background();
    for geometry in [LARGE, SMALL] {
        // A rectangle as large as the crop is not resized, so that the patch is the crop itself.
        let side = geometry.crop_px;
        let rect = PixelRect {
            x: 40,
            y: 6,
            width: side,
            height: side,
        };
        let crop = FaceCrop::cut(&background, rect, geometry).unwrap();
        let original = bgr_of(&background, rect);
        assert_eq!(**crop.pixels(), original);
        for level in [0, 77, 255] {
            let generated = vec![level; geometry.region_bytes()];
            let patch = face_patch(&crop, &generated).unwrap();
            let whole = PixelRect {
                x: 0,
                y: 0,
                width: side,
                height: side,
            };
            let patch = bgr_of(&patch, whole);
            for (i, pixel) in patch.chunks_exact(3).enumerate() {
                let in_region = |at: usize| (4..side - 4).contains(&at);
                let expected = if in_region(i % side) && in_region(i / side) {
                    &[level; 3]
                } else {
                    &original[i * 3..][..3]
                };
                assert_eq!(pixel, expected, "{level}: {}, {}", i % side, i / side);
            }
        }
    }
}
