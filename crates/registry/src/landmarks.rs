//! The face rectangle in a file of landmarks: 110 lines of `x y`, as SyncTalk_2D and Ultralight-Digital-Human
//! write them.
//!
//! Both take the rectangle from three of the 110 points that their detector, PFLD, finds. Points of the same
//! numbers of another detector, of the 68 of dlib for instance, lie elsewhere in the face.

use lipsync_core::CropRect;

use crate::rectangles::truncate;

/// Points of a file.
const N_POINTS: usize = 110;
/// The points that the rectangle's left, right and top edge go through.
const LEFT: usize = 1;
const RIGHT: usize = 31;
const TOP: usize = 52;
/// The jaw's share of the width of all points, at least; it is nearly all of it where the order is PFLD's.
const MIN_JAW: f64 = 0.6;
/// Where the third point lies at most, as a share of the height of all points.
const MAX_DEPTH: f64 = 0.7;
/// Newer versions of Ultralight-Digital-Human name the detector in the first line.
const DETECTOR: &str = "# backend=";
const DETECTORS: [&str; 2] = ["pfld", "pfld110"];

/// Empty lines, and those that begin with `#`, are no points.
///
/// Source: SyncTalk_2D's `inference_328.py`: `x1 = lms[1].x`, `x2 = lms[31].x`, `y1 = lms[52].y`,
/// `y2 = y1 + (x2 - x1)`, on landmarks converted to integers; and Ultralight-Digital-Human's
/// `data_utils/landmark_io.py`.
pub(crate) fn rectangle(text: &str) -> Result<CropRect, String> {
    let points = points(text)?;
    if points
        .iter()
        .all(|(x, y)| [x, y].iter().all(|n| (0.0..=1.0).contains(*n)))
    {
        return Err(
            "all landmarks are 0 to 1, as shares of the frame are: pixels are expected".into(),
        );
    }
    let (x1, x2, y1) = (points[LEFT].0, points[RIGHT].0, points[TOP].1);
    let (x1, x2, y1) = (truncate(x1)?, truncate(x2)?, truncate(y1)?);
    let y2 = i64::from(y1) + i64::from(x2) - i64::from(x1);
    let y2 = i32::try_from(y2).map_err(|_| format!("{y2} is out of range"))?;
    Ok(CropRect { x1, y1, x2, y2 })
}

/// Whether landmarks that give a rectangle are in another order than PFLD's: the two points of the jaw then do not
/// span the face, or the third is not between its eyes and its mouth.
pub(crate) fn are_disordered(text: &str) -> bool {
    let Ok(points) = points(text) else {
        return false;
    };
    let span = |of: fn(&(f64, f64)) -> f64| {
        let values = points.iter().map(of);
        values.fold((f64::MAX, f64::MIN), |(low, high), v| {
            (low.min(v), high.max(v))
        })
    };
    let ((left, right), (top, bottom)) = (span(|p| p.0), span(|p| p.1));
    let jaw = points[RIGHT].0 - points[LEFT].0;
    let depth = (points[TOP].1 - top) / (bottom - top);
    jaw < MIN_JAW * (right - left) || !(0.0..=MAX_DEPTH).contains(&depth)
}

/// The points of a file, as many as PFLD finds.
fn points(text: &str) -> Result<Vec<(f64, f64)>, String> {
    let mut points = Vec::with_capacity(N_POINTS);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(detector) = line.strip_prefix(DETECTOR)
            && !DETECTORS.contains(&detector.trim())
        {
            return Err(format!(
                "the landmarks were not found by PFLD, whose {N_POINTS} points are needed"
            ));
        }
        if !line.is_empty() && !line.starts_with('#') {
            points.push(point(line).ok_or_else(|| format!("line {number} is not `x y`"))?);
        }
    }
    if points.len() != N_POINTS {
        let found = points.len();
        return Err(format!(
            "{found} landmarks, but the {N_POINTS} of PFLD are needed: points of other detectors lie \
             elsewhere in the face"
        ));
    }
    Ok(points)
}

fn point(line: &str) -> Option<(f64, f64)> {
    let mut numbers = line.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(x)), Some(Ok(y)), None) => Some((x, y)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many points, of which the three that count are as given.
    fn lines(n_points: usize, special: [&str; 3]) -> Vec<String> {
        let mut lines = vec!["0 0".to_owned(); n_points];
        for (place, text) in [LEFT, RIGHT, TOP].into_iter().zip(special) {
            lines[place] = text.to_owned();
        }
        lines
    }

    const GOOD: [&str; 3] = ["100.9 7", "280 7", "7\t200.9"];

    #[test]
    fn landmarks_give_a_square_below_landmark_52() {
        let expected = Ok(CropRect {
            x1: 100,
            y1: 200,
            x2: 280,
            y2: 380,
        });
        let mut lines = lines(N_POINTS, GOOD);
        assert_eq!(rectangle(&lines.join("\n")), expected);
        lines.insert(0, "# backend=pfld110".into());
        lines.insert(40, String::new());
        assert_eq!(rectangle(&lines.join("\r\n")), expected);
    }

    #[test]
    fn another_order_of_the_points_shows() {
        let mut face = vec!["150 150".to_owned(); N_POINTS];
        for (place, text) in [
            (0, "100 100"),
            (LEFT, "101 120"),
            (RIGHT, "199 120"),
            (16, "150 200"),
            (30, "199 130"),
        ] {
            face[place] = text.into();
        }
        assert!(!are_disordered(&face.join("\n")));
        for (place, text) in [(LEFT, "190 120"), (RIGHT, "140 120"), (TOP, "150 195")] {
            let mut other = face.clone();
            other[place] = text.into();
            assert!(are_disordered(&other.join("\n")), "{place}");
        }
        assert!(
            !are_disordered("1 2"),
            "too few points are refused elsewhere"
        );
    }

    #[test]
    fn lines_that_are_no_points_are_named() {
        for (special, expected) in [
            (["1 7", "280", "7 200"], "line 32 is not `x y`"),
            (["1 7", "280 7 7", "7 200"], "line 32 is not `x y`"),
            (["1 7", "nan 0", "7 200"], "NaN is out of range"),
            (["-2e9 7", "2e9 0", "7 200"], "4000000200 is out of range"),
        ] {
            let text = lines(N_POINTS, special).join("\n");
            assert_eq!(rectangle(&text), Err(expected.into()));
        }
    }

    #[test]
    fn shares_of_the_frame_are_no_pixels() {
        let text = lines(N_POINTS, ["0.41 0.5", "0.58 0.5", "0.5 0.4"]).join("\n");
        let reason = rectangle(&text).expect_err("shares");
        assert!(reason.contains("pixels are expected"), "{reason}");
    }

    #[test]
    fn only_the_points_of_pfld_are_taken() {
        for n_points in [68, 98, 106, 109, 111, 478] {
            let reason = rectangle(&lines(n_points, GOOD).join("\n")).unwrap_err();
            let expected = format!("{n_points} landmarks, but the 110 of PFLD are needed");
            assert!(reason.starts_with(&expected), "{reason}");
        }
        assert!(rectangle("").unwrap_err().starts_with("0 landmarks"));
        let mut other = lines(N_POINTS, GOOD);
        other.insert(0, "# backend=mediapipe_478".into());
        let reason = rectangle(&other.join("\n")).unwrap_err();
        assert!(reason.contains("not found by PFLD"), "{reason}");
        assert!(
            !reason.contains("mediapipe"),
            "no content of files: {reason}"
        );
    }
}
