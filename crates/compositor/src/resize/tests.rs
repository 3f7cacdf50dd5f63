//! Tests of the kernel against a plain restatement in 64 bits.

use proptest::prelude::*;

use super::*;

struct Rows(Vec<Vec<u8>>);

impl Source for Rows {
    fn width(&self) -> usize {
        self.0[0].len() / PIXEL_BYTES
    }

    fn height(&self) -> usize {
        self.0.len()
    }

    fn row(&self, y: usize) -> [&[u8]; 3] {
        let (left, rest) = self.0[y].split_at(PIXEL_BYTES);
        let (middle, right) = rest.split_at(rest.len() / 2);
        [left, middle, right]
    }
}

fn resized(filter: ResizeFilter, rows: Vec<Vec<u8>>, width: usize, height: usize) -> Vec<u8> {
    let mut target = vec![0; width * height * PIXEL_BYTES];
    let target_rows = target.chunks_exact_mut(width * PIXEL_BYTES);
    resize(filter, &Rows(rows), target_rows);
    target
}

fn cubic(distance: f64) -> f64 {
    let (a, d) = (-0.75, distance.abs());
    if d <= 1.0 {
        (a + 2.0) * d.powi(3) - (a + 3.0) * d.powi(2) + 1.0
    } else if d < 2.0 {
        a * d.powi(3) - 5.0 * a * d.powi(2) + 8.0 * a * d - 4.0 * a
    } else {
        0.0
    }
}

fn weight(filter: ResizeFilter, distance: f64) -> f64 {
    match filter {
        ResizeFilter::Cubic => cubic(distance),
        ResizeFilter::Linear => (1.0 - distance.abs()).max(0.0),
    }
}

fn filter() -> impl Strategy<Value = ResizeFilter> {
    prop_oneof![Just(ResizeFilter::Cubic), Just(ResizeFilter::Linear)]
}

/// One value of the target, straight from the definition.
fn value_at(
    filter: ResizeFilter,
    rows: &[Vec<u8>],
    target: (usize, usize),
    at: (usize, usize),
    channel: usize,
) -> f64 {
    let source = (rows[0].len() / 3, rows.len());
    let centre =
        |at: usize, from: usize, to: usize| (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let centres = (
        centre(at.0, source.0, target.0),
        centre(at.1, source.1, target.1),
    );
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the source's indices"
    )]
    let nearest = |at: f64, limit: usize| at.clamp(0.0, limit as f64 - 1.0) as usize;
    let mut sum = 0.0;
    for j in -1..=2 {
        let y = centres.1.floor() + f64::from(j);
        for i in -1..=2 {
            let x = centres.0.floor() + f64::from(i);
            let value = rows[nearest(y, source.1)][nearest(x, source.0) * 3 + channel];
            sum += weight(filter, x - centres.0) * weight(filter, y - centres.1) * f64::from(value);
        }
    }
    sum
}

fn picture() -> impl Strategy<Value = Vec<Vec<u8>>> {
    (1..24_usize, 1..24_usize).prop_flat_map(|(width, height)| {
        let row = proptest::collection::vec(any::<u8>(), width * 3);
        proptest::collection::vec(row, height)
    })
}

proptest! {
    #[test]
    fn follows_the_definition(filter in filter(), rows in picture(), width in 1..40_usize, height in 1..40_usize) {
        let made = resized(filter, rows.clone(), width, height);
        prop_assert_eq!(made.len(), width * height * 3);
        for (i, byte) in made.iter().enumerate() {
            let (x, y) = (i / 3 % width, i / 3 / width);
            let exact = value_at(filter, &rows, (width, height), (x, y), i % 3).clamp(0.0, 255.0);
            // Half a level for rounding, and a little for 32 bits; OpenCV's integers round three times.
            let bound = if filter == ResizeFilter::Cubic { 0.501 } else { 1.3 };
            prop_assert!((f64::from(*byte) - exact).abs() < bound, "{x}, {y}: {byte}, {exact}");
        }
    }

    #[test]
    fn the_same_size_changes_nothing(filter in filter(), rows in picture()) {
        prop_assert_eq!(resized(filter, rows.clone(), rows[0].len() / 3, rows.len()), rows.concat());
    }
}

/// FNV-1a of what `cv2.resize` makes of the same noise: OpenCV 5.0.
#[test]
fn linear_is_opencvs_bit_for_bit() {
    let noise = |i: usize| (i * i * 31 + i * 7).to_le_bytes()[0];
    let rows = |width: usize, height: usize| -> Vec<Vec<u8>> {
        (0..height)
            .map(|y| (0..width * 3).map(|x| noise(x * 61 + y)).collect())
            .collect()
    };
    for (from, to, expected) in [
        ((59, 61), (40, 30), 0x1ec4_22d9_e725_0420),
        ((59, 61), (97, 101), 0xea11_7cba_d2b9_7ffc),
        ((96, 96), (41, 53), 0xc76e_edd6_8ca7_b3a0),
        ((180, 230), (96, 96), 0xd7b4_6e0a_ac66_e0f7),
        ((192, 192), (96, 96), 0x303a_4631_634c_88a5),
        ((5, 1), (3, 7), 0x0436_c67c_44e9_8459),
        ((60, 61), (30, 40), 0x6f21_79f0_c944_cfc9),
    ] {
        let made = resized(ResizeFilter::Linear, rows(from.0, from.1), to.0, to.1);
        let hash = made.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        assert_eq!(hash, expected, "{from:?} to {to:?}");
    }
}

/// The kernel without the dispatch: what the compiler makes of it for any processor.
#[test]
fn wide_registers_change_no_bit() {
    let noise = |i: usize| (i * i * 31 + i * 7).to_le_bytes()[0];
    let rows: Vec<Vec<u8>> = (0..61)
        .map(|y| (0..59 * 3).map(|x| noise(x * 61 + y)).collect())
        .collect();
    for (width, height) in [(40, 30), (97, 101), (1, 1)] {
        let mut target = vec![0; width * height * PIXEL_BYTES];
        let source = &Rows(rows.clone());
        let target_rows = target.chunks_exact_mut(width * PIXEL_BYTES);
        pulp::NullaryFnOnce::call(Resize {
            source,
            target: target_rows,
        });
        assert!(
            target == resized(ResizeFilter::Cubic, rows.clone(), width, height),
            "{width}x{height}"
        );
    }
}

#[test]
fn bytes_round_to_nearest_and_saturate() {
    let cases = [
        (-3.0, 0),
        (0.49, 0),
        (0.5, 0),
        (1.5, 2),
        (254.6, 255),
        (300.0, 255),
    ];
    for (value, byte) in cases {
        assert_eq!(to_byte(value), byte, "{value}");
    }
}
