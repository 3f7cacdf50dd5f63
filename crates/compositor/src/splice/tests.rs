use lipsync_core::FaceGeometry;
use proptest::prelude::*;

use super::*;
use crate::{EncodeOptions, Encoding, composite, encode_face, encode_with, face_patch};

/// Ramps with noise on them, so that segments have different lengths and stuffed bytes.
fn picture(width: usize, height: usize, seed: u32) -> Picture {
    let mut state = seed | 1;
    let data = (0..width * height * 3)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let noise = state.to_le_bytes()[0] >> (2 + i / width % 6);
            noise.wrapping_add((i / 7).to_le_bytes()[0])
        })
        .collect();
    Picture::new(width, height, data).expect("the bytes fit the size")
}

/// A family with small squares, so that tests are quick.
const TINY: FaceGeometry = FaceGeometry {
    region_px: 16,
    crop_px: 24,
    ring_px: 4,
    mask_x: (1, 7),
    mask_y: (1, 6),
    ..FaceGeometry::SMALL
};

fn generated(seed: u32) -> Vec<u8> {
    picture(TINY.region_px, TINY.region_px, seed).into_rgb()
}

fn full_encode(picture: &Picture, settings: BakeSettings, is_marked: bool) -> Vec<u8> {
    let encoding = Encoding::Jpeg {
        quality: settings.quality,
    };
    let options = EncodeOptions {
        restart_interval: settings.restart_interval,
        is_marked,
    };
    encode_with(picture, encoding, options).expect("a small picture can be encoded")
}

/// A side, and a span on it that often touches its ends.
fn span() -> impl Strategy<Value = (usize, usize, usize)> {
    let side = prop_oneof![1..200_usize, (1..12_usize).prop_map(|n| n * MCU_PX)];
    side.prop_flat_map(|side| {
        let ends = prop_oneof![
            (0..side, 0..side),
            (0..side).prop_map(|at| (0, at)),
            (0..side).prop_map(move |at| (at, side - 1)),
            Just((0, side - 1)),
        ];
        ends.prop_map(move |(a, b)| (side, a.min(b), a.max(b) + 1))
    })
}

/// Frame sides, face and an interval that fits.
fn places() -> impl Strategy<Value = (usize, usize, PixelRect, u16)> {
    (span(), span(), any::<prop::sample::Index>()).prop_map(|(across, down, pick)| {
        let divisors: Vec<usize> = (1..=n_mcus(across.0))
            .filter(|n| n_mcus(across.0).is_multiple_of(*n))
            .collect();
        let rect = PixelRect {
            x: across.1,
            y: down.1,
            width: across.2 - across.1,
            height: down.2 - down.1,
        };
        let interval = u16::try_from(*pick.get(&divisors)).expect("rows are short");
        (across.0, down.0, rect, interval)
    })
}

proptest! {
    #[test]
    fn a_splice_is_the_full_encode_byte_for_byte(
        (width, height, rect, restart_interval) in places(),
        quality in prop_oneof![1..=100_u8, Just(85)],
        (seed, face_seed) in any::<(u32, u32)>(),
        is_marked in any::<bool>(),
    ) {
        let settings = BakeSettings { quality, restart_interval };
        let background = picture(width, height, seed);
        let crop = FaceCrop::cut(&background, rect, TINY).unwrap();
        let generated = generated(face_seed);
        let baked = bake(&background, rect, &settings).unwrap();
        let spliced = baked.splice(&crop, &generated, is_marked).unwrap();
        let composited = composite(&background, &crop, &generated).unwrap();
        let expected = full_encode(&composited, settings, is_marked);
        prop_assert!(spliced == expected);
        prop_assert!(baked.jpeg(is_marked) == full_encode(&background, settings, is_marked));
        let face = BakeSettings { restart_interval: 0, ..settings };
        let expected = full_encode(&background.cut(rect).unwrap(), face, is_marked);
        prop_assert!(baked.face_jpeg(is_marked) == expected);
        let patch = face_patch(&crop, &generated).unwrap();
        let options = EncodeOptions { restart_interval: 0, is_marked };
        let region = encode_face(&crop, &generated, Encoding::Jpeg { quality }, options).unwrap();
        prop_assert!(region == full_encode(&patch, face, is_marked));
        // An independent decoder sees what it sees in a file without markers.
        let unmarked = full_encode(&composited, face, is_marked);
        let decoded = |file: &[u8]| image::load_from_memory(file).unwrap().to_rgb8();
        prop_assert!(decoded(&spliced) == decoded(&unmarked));
    }

    #[test]
    fn parts_survive_storage(
        (width, height, rect, restart_interval) in places(),
        seed in any::<u32>(),
    ) {
        let settings = BakeSettings { quality: 80, restart_interval };
        let baked = bake(&picture(width, height, seed), rect, &settings).unwrap();
        let again = BakedFrame::from_parts(baked.to_parts()).unwrap();
        prop_assert_eq!(again.to_parts(), baked.to_parts());
        prop_assert_eq!((again.rect(), again.settings()), (rect, settings));
        prop_assert_eq!((again.width(), again.height()), (width, height));
    }

    #[test]
    fn damaged_parts_are_refused_or_splice_to_something_whole(
        part in 0..4_usize,
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        cut in any::<bool>(),
    ) {
        let rect = PixelRect { x: 20, y: 13, width: 50, height: 40 };
        let settings = BakeSettings { quality: 85, restart_interval: 2 };
        let baked = bake(&picture(128, 70, 3), rect, &settings).unwrap();
        let mut parts = baked.to_parts();
        let mut bytes = parts[part].to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        parts[part] = bytes.into();
        if let Ok(damaged) = BakedFrame::from_parts(parts) {
            prop_assert!(!cut);
            let pixels = vec![7; TINY.crop_bytes()].into();
            let crop = FaceCrop::from_pixels(damaged.rect(), TINY, pixels).unwrap();
            let spliced = damaged.splice(&crop, &generated(5), true).unwrap();
            let options = damaged.table.frame_options();
            prop_assert!(read_scan(&spliced, (128, 70), options).is_some());
        }
    }
}

#[test]
fn a_table_of_other_settings_is_refused() {
    let rect = PixelRect {
        x: 20,
        y: 13,
        width: 50,
        height: 40,
    };
    let settings = BakeSettings {
        quality: 85,
        restart_interval: 2,
    };
    let baked = bake(&picture(128, 70, 3), rect, &settings).unwrap();
    let [jpeg, face, _, around] = baked.to_parts();
    let refused = |change: fn(&mut Table)| {
        let mut table = baked.table;
        change(&mut table);
        let parts = [
            jpeg.clone(),
            face.clone(),
            table.to_bytes().into(),
            around.clone(),
        ];
        let error = BakedFrame::from_parts(parts).expect_err("another table");
        matches!(error, CompositorError::Baked { .. })
    };
    assert!(refused(|table| table.settings.quality = 84));
    assert!(refused(|table| table.settings.restart_interval = 4));
    assert!(refused(|table| table.settings.restart_interval = 0));
    assert!(refused(|table| table.width = 112));
    assert!(refused(|table| table.height = 80));
    assert!(refused(|table| table.rect.width = 51));
    assert!(refused(|table| table.rect.y = usize::MAX));
}

#[test]
fn what_does_not_fit_is_refused() {
    let background = picture(128, 64, 1);
    let rect = PixelRect {
        x: 100,
        y: 0,
        width: 30,
        height: 10,
    };
    let settings = |quality, restart_interval| BakeSettings {
        quality,
        restart_interval,
    };
    let outside = bake(&background, rect, &settings(85, 4));
    assert!(matches!(outside, Err(CompositorError::RectOutside { .. })));
    let rect = PixelRect { width: 20, ..rect };
    for restart_interval in [0, 3, 16] {
        let refused = bake(&background, rect, &settings(85, restart_interval));
        assert_eq!(
            refused.err(),
            Some(CompositorError::RestartInterval {
                interval: restart_interval,
                n_mcus: 8
            })
        );
    }
    let quality = bake(&background, rect, &settings(0, 4));
    assert_eq!(quality.err(), Some(CompositorError::Quality { quality: 0 }));
    let baked = bake(&background, rect, &settings(85, 4)).unwrap();
    let elsewhere = PixelRect { x: 99, ..rect };
    let crop = FaceCrop::cut(&background, elsewhere, TINY).unwrap();
    assert_eq!(
        baked.splice(&crop, &generated(1), true),
        Err(CompositorError::OtherFace {
            crop: elsewhere,
            baked: rect
        })
    );
    let crop = FaceCrop::cut(&background, rect, TINY).unwrap();
    assert!(matches!(
        baked.splice(&crop, &[0; 5], true),
        Err(CompositorError::GeneratedSize { actual: 5, .. })
    ));
}

#[test]
fn intervals_follow_the_faces() {
    let faces = |x: usize, width: usize| {
        [PixelRect {
            x,
            y: 330,
            width,
            height: 212,
        }]
    };
    // Segments of 8 units begin and end beside the face as those of 4 do, with half the markers.
    assert_eq!(choose_restart_interval(&faces(533, 212), 1280, 720), 8);
    // Here those of 5 fit exactly.
    assert_eq!(choose_restart_interval(&faces(480, 240), 1280, 720), 5);
    // 45 units in a row.
    assert_eq!(choose_restart_interval(&faces(300, 200), 720, 1280), 5);
    // 54 and 53 units in a row: none of the preferred ones divides them. A whole row without a marker is
    // smaller than one with a marker in every unit.
    assert_eq!(choose_restart_interval(&faces(300, 200), 854, 480), 18);
    assert_eq!(choose_restart_interval(&faces(300, 200), 848, 480), 53);
    assert_eq!(choose_restart_interval(&[], 1280, 720), 10);
    assert_eq!(choose_restart_interval(&faces(0, 1), 1, 1), 1);
}
