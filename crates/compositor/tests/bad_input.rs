//! Sizes, rectangles and lengths that do not fit are errors, never panics.

use lipsync_compositor::{
    CompositorError, FaceCrop, Picture, composite, composite_masked, face_patch,
};
use lipsync_core::{FaceGeometry, PixelRect};
use proptest::prelude::*;

/// A family with small squares, so that tests are quick.
const TINY: FaceGeometry = FaceGeometry {
    region_px: 8,
    crop_px: 16,
    ring_px: 4,
    mask_x: (1, 7),
    mask_y: (1, 6),
    ..FaceGeometry::SMALL
};

fn grey(width: usize, height: usize) -> Picture {
    Picture::new(width, height, vec![128; width * height * 3]).expect("the bytes fit the size")
}

fn rect(x: usize, y: usize, width: usize, height: usize) -> PixelRect {
    PixelRect {
        x,
        y,
        width,
        height,
    }
}

#[test]
fn pictures_have_the_bytes_of_their_size() {
    assert!(Picture::new(2, 2, vec![0; 12]).is_ok());
    for (width, height, n_bytes) in [(2, 2, 11), (0, 0, 0), (0, 5, 0), (usize::MAX, 2, 6)] {
        let refused = Picture::new(width, height, vec![0; n_bytes]);
        let expected = CompositorError::PictureSize {
            width,
            height,
            n_bytes,
        };
        assert_eq!(refused, Err(expected));
    }
}

#[test]
fn contradictory_geometries_are_refused() {
    let geometries = [
        FaceGeometry { ring_px: 3, ..TINY },
        FaceGeometry {
            ring_px: usize::MAX,
            ..TINY
        },
        FaceGeometry {
            region_px: 0,
            crop_px: 8,
            ..TINY
        },
        FaceGeometry {
            region_px: 1 << 40,
            crop_px: (1 << 40) + 8,
            ..TINY
        },
    ];
    for geometry in geometries {
        let refused = FaceCrop::cut(&grey(20, 20), rect(0, 0, 4, 4), geometry);
        assert_eq!(refused.unwrap_err(), CompositorError::Geometry { geometry });
    }
}

#[test]
fn generated_bytes_must_fill_the_region() {
    let crop = FaceCrop::cut(&grey(20, 20), rect(0, 0, 9, 9), TINY).unwrap();
    for actual in [0, 191, 193] {
        let refused = face_patch(&crop, &vec![0; actual]);
        assert_eq!(
            refused,
            Err(CompositorError::GeneratedSize {
                expected: 192,
                actual
            })
        );
    }
}

#[test]
fn a_crop_of_a_larger_frame_and_a_foreign_mask_are_refused() {
    let crop = FaceCrop::cut(&grey(30, 30), rect(15, 15, 15, 15), TINY).unwrap();
    let generated = [0; 192];
    let refused = composite(&grey(20, 30), &crop, &generated);
    assert!(matches!(
        refused,
        Err(CompositorError::RectOutside { width: 20, .. })
    ));
    let refused = composite_masked(&grey(30, 30), &crop, &generated, &grey(30, 29));
    assert!(matches!(
        refused,
        Err(CompositorError::MaskSize {
            mask_height: 29,
            ..
        })
    ));
}

fn side() -> impl Strategy<Value = usize> {
    prop_oneof![0..40_usize, Just(usize::MAX), Just(usize::MAX / 3)]
}

proptest! {
    #[test]
    fn any_rectangle_is_pasted_or_refused(
        (width, height) in (1..30_usize, 1..30_usize),
        (x, y, rect_width, rect_height) in (side(), side(), side(), side()),
        level in any::<u8>(),
    ) {
        let background = grey(width, height);
        let rect = rect(x, y, rect_width, rect_height);
        let ends = (x.checked_add(rect_width), y.checked_add(rect_height));
        let fits = rect_width > 0 && rect_height > 0
            && ends.0.is_some_and(|end| end <= width)
            && ends.1.is_some_and(|end| end <= height);
        match FaceCrop::cut(&background, rect, TINY) {
            Ok(crop) => {
                prop_assert!(fits);
                // Grey stays grey, wherever it is cut.
                prop_assert!(crop.pixels().iter().all(|&value| value == 128));
                let frame = composite(&background, &crop, &[level; 192]).unwrap();
                prop_assert_eq!((frame.width(), frame.height()), (width, height));
            }
            Err(error) => {
                prop_assert!(!fits);
                prop_assert_eq!(error, CompositorError::RectOutside { rect, width, height });
            }
        }
    }
}
