//! Tests of the kernel against a plain restatement in 64 bits.

use proptest::prelude::*;

use super::*;

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

/// One value of the target, straight from the definition.
fn value_at(rows: &[Vec<u8>], target: (usize, usize), at: (usize, usize), channel: usize) -> f64 {
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
            sum += cubic(x - centres.0) * cubic(y - centres.1) * f64::from(value);
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
    fn follows_the_definition(rows in picture(), width in 1..40_usize, height in 1..40_usize) {
        let borrowed: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        let made = resize(&borrowed, width, height);
        prop_assert_eq!(made.len(), width * height * 3);
        for (i, byte) in made.iter().enumerate() {
            let (x, y) = (i / 3 % width, i / 3 / width);
            let exact = value_at(&rows, (width, height), (x, y), i % 3).clamp(0.0, 255.0);
            // Half a level for rounding, and a little for 32 bits.
            prop_assert!((f64::from(*byte) - exact).abs() < 0.501, "{x}, {y}: {byte}, {exact}");
        }
    }

    #[test]
    fn the_same_size_changes_nothing(rows in picture()) {
        let borrowed: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(resize(&borrowed, rows[0].len() / 3, rows.len()), rows.concat());
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
