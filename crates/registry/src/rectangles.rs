//! The face rectangle of every frame, in the three forms that avatar makers write.
//!
//! - A JSON array of `[x1, y1, x2, y2]`, one per frame in order.
//! - A JSON object `{"0": {"rect": [x1, y1, x2, y2]}, ...}` with consecutive keys.
//! - A folder of landmark files `<i>.lms`, lines of `x y`, from which the rectangle is computed.
//!
//! Numbers with a fraction lose it, as the original's integer conversion does.

use std::{collections::BTreeMap, path::Path};

use lipsync_core::CropRect;
use serde::Deserialize;

use crate::{RegistryError, files, numbered};

const WHAT: &str = "crop rectangles";
/// The landmarks that the rectangle's left, right and top edge go through.
const LEFT: usize = 1;
const RIGHT: usize = 31;
const TOP: usize = 52;

/// Reads the rectangles of all frames from a JSON file or a folder of landmarks.
pub(crate) fn read(path: &Path) -> Result<Vec<CropRect>, RegistryError> {
    if path.is_dir() {
        return numbered::list(path, "landmarks", &["lms"])?
            .iter()
            .map(|file| {
                let text = files::read_text(file, "landmarks")?;
                from_landmarks(&text).map_err(|reason| invalid(file, reason))
            })
            .collect();
    }
    let text = files::read_text(path, WHAT)?;
    from_json(&text).map_err(|reason| invalid(path, reason))
}

fn invalid(path: &Path, reason: String) -> RegistryError {
    RegistryError::Rectangles {
        reason,
        path: path.to_owned(),
    }
}

/// One entry of the object form; what else it holds is of no interest.
#[derive(Deserialize)]
struct Entry {
    rect: [f64; 4],
}

fn from_json(text: &str) -> Result<Vec<CropRect>, String> {
    let rects: Vec<[f64; 4]> = if text.trim_start().starts_with('{') {
        let entries: BTreeMap<u32, Entry> =
            serde_json::from_str(text).map_err(|e| e.to_string())?;
        let first = entries.keys().next().copied().unwrap_or(0);
        for (expected, key) in (first..).zip(entries.keys()) {
            if expected != *key {
                return Err(format!("rectangle {expected} is missing"));
            }
        }
        entries.into_values().map(|entry| entry.rect).collect()
    } else {
        serde_json::from_str(text).map_err(|e| e.to_string())?
    };
    rects
        .iter()
        .enumerate()
        .map(|(index, corners)| {
            corner_rect(*corners).map_err(|reason| format!("rectangle {index}: {reason}"))
        })
        .collect()
}

fn corner_rect([x1, y1, x2, y2]: [f64; 4]) -> Result<CropRect, String> {
    Ok(CropRect {
        x1: truncate(x1)?,
        y1: truncate(y1)?,
        x2: truncate(x2)?,
        y2: truncate(y2)?,
    })
}

/// Source: SyncTalk_2D's `inference_328.py`: `x1 = lms[1].x`, `x2 = lms[31].x`, `y1 = lms[52].y`,
/// `y2 = y1 + (x2 - x1)`, on landmarks converted to integers.
fn from_landmarks(text: &str) -> Result<CropRect, String> {
    let lines: Vec<&str> = text.lines().collect();
    let point = |index: usize| -> Result<(i32, i32), String> {
        let line = lines
            .get(index)
            .ok_or_else(|| format!("only {} landmarks, {} needed", lines.len(), TOP + 1))?;
        let bad = || format!("line {} is not `x y`", index + 1);
        let (x, y) = line
            .trim()
            .split_once(char::is_whitespace)
            .ok_or_else(bad)?;
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| bad());
        Ok((truncate(number(x)?)?, truncate(number(y)?)?))
    };
    let (x1, x2, y1) = (point(LEFT)?.0, point(RIGHT)?.0, point(TOP)?.1);
    let y2 = i64::from(y1) + i64::from(x2) - i64::from(x1);
    let y2 = i32::try_from(y2).map_err(|_| format!("{y2} is out of range"))?;
    Ok(CropRect { x1, y1, x2, y2 })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "dropping the fraction is the point, and the range is checked before"
)]
fn truncate(value: f64) -> Result<i32, String> {
    if value > f64::from(i32::MIN) && value < f64::from(i32::MAX) {
        Ok(value as i32)
    } else {
        Err(format!("{value:e} is out of range"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rect(x1: i32, y1: i32, x2: i32, y2: i32) -> CropRect {
        CropRect { x1, y1, x2, y2 }
    }

    #[test]
    fn both_json_forms_give_rectangles_in_order() {
        let expected = Ok(vec![rect(1, 2, 3, 4), rect(-5, 6, 7, 8)]);
        assert_eq!(from_json("[[1,2,3,4],[-5.9,6.9,7,8]]"), expected);
        let object = r#" {"1": {"rect": [-5,6,7,8], "score": 0.5}, "0": {"rect": [1,2,3,4]}}"#;
        assert_eq!(from_json(object), expected);
        // Keys are numbers: "10" comes after "9", and the first may be any.
        let keys: Vec<String> = (2..=11)
            .map(|k| format!(r#""{k}": {{"rect": [{k},0,99,99]}}"#))
            .collect();
        let rects = from_json(&format!("{{{}}}", keys.join(","))).expect("rectangles");
        assert_eq!(
            rects.iter().map(|r| r.x1).collect::<Vec<_>>(),
            (2..=11).collect::<Vec<_>>()
        );
    }

    #[test]
    fn broken_json_is_refused_with_its_place() {
        for (text, expected) in [
            ("[[1,2,3]]", "line 1 column 8"),
            ("[[1,2,3,4],\n[1,2,\"x\",4]]", "line 2 column 8"),
            ("[[1,2,3,4e300]]", "rectangle 0: 4e300 is out of range"),
            (
                r#"{"0": {"rect": [1,2,3,4]}, "2": {"rect": [1,2,3,4]}}"#,
                "rectangle 1 is missing",
            ),
            (r#"{"0": {}}"#, "missing field `rect`"),
            ("", "EOF"),
        ] {
            let reason = from_json(text).expect_err(text);
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }

    #[test]
    fn landmarks_give_a_square_below_landmark_52() {
        let mut lines = vec!["0 0".to_owned(); 110];
        lines[LEFT] = "100.9 7".into();
        lines[RIGHT] = "280 7".into();
        lines[TOP] = "7\t200.9".into();
        assert_eq!(
            from_landmarks(&lines.join("\n")),
            Ok(rect(100, 200, 280, 380))
        );
        lines[RIGHT] = "280".into();
        assert_eq!(
            from_landmarks(&lines.join("\n")),
            Err("line 32 is not `x y`".into())
        );
        lines[RIGHT] = "nan 0".into();
        assert_eq!(
            from_landmarks(&lines.join("\n")),
            Err("NaN is out of range".into())
        );
        assert_eq!(
            from_landmarks(&lines[..20].join("\n")),
            Err("only 20 landmarks, 53 needed".into())
        );
    }
}
