//! The face rectangle of every frame, in the three forms that avatar makers write.
//!
//! - A JSON array of `[x1, y1, x2, y2]`, one per frame in order.
//! - A JSON object `{"0": {"rect": [x1, y1, x2, y2]}, ...}` with consecutive keys.
//! - A folder of landmark files `<i>.lms`, lines of `x y`, from which the rectangle is computed.
//!
//! Numbers with a fraction lose it, as the original's integer conversion does.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lipsync_core::{CropRect, Foreign};
use serde::Deserialize;
use serde_json::error::Category;

use crate::{RegistryError, fence::Fence, files, numbered};

const WHAT: &str = "crop rectangles";
const LANDMARKS: &str = "landmarks";
const MAX_BYTES: u64 = 16 << 20;
/// Of one frame.
const MAX_LANDMARKS_BYTES: u64 = 256 * 1024;
/// The landmarks that the rectangle's left, right and top edge go through.
const LEFT: usize = 1;
const RIGHT: usize = 31;
const TOP: usize = 52;

/// Reads the rectangles of the first `n_frames` frames from a JSON file or a folder of landmarks.
pub(crate) fn read(
    fence: &Fence,
    path: &Path,
    n_frames: usize,
) -> Result<Vec<CropRect>, RegistryError> {
    let real = fence.resolve(path, WHAT)?;
    if real.is_dir() {
        let files = numbered::list(&real, LANDMARKS, &["lms"])?;
        let files = first(files, n_frames)?;
        let read = |file: &PathBuf| {
            let text = files::read_text(fence, file, LANDMARKS, MAX_LANDMARKS_BYTES)?;
            from_landmarks(&text).map_err(|problem| invalid(file, problem))
        };
        return files.iter().map(read).collect();
    }
    let text = files::read_text(fence, path, WHAT, MAX_BYTES)?;
    let rectangles = from_json(&text).map_err(|problem| invalid(path, problem))?;
    first(rectangles, n_frames)
}

fn first<T>(mut found: Vec<T>, n_frames: usize) -> Result<Vec<T>, RegistryError> {
    if found.len() < n_frames {
        return Err(RegistryError::RectangleCount {
            n_rectangles: found.len(),
            n_frames,
        });
    }
    found.truncate(n_frames);
    Ok(found)
}

/// What is wrong with a file of rectangles.
#[derive(Debug, PartialEq)]
struct Problem {
    /// In words of ours.
    reason: String,
    /// In those of the parser, which may quote the file.
    quoted: Option<String>,
}

impl From<String> for Problem {
    fn from(reason: String) -> Self {
        Self {
            reason,
            quoted: None,
        }
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        let what = match error.classify() {
            Category::Data => {
                "expected [[x1, y1, x2, y2], ...] or {\"0\": {\"rect\": [x1, y1, x2, y2]}, ...}"
            }
            Category::Eof => "it ends early",
            Category::Syntax | Category::Io => "it is not JSON",
        };
        let (line, column) = (error.line(), error.column());
        Self {
            reason: format!("{what}, at line {line} column {column}"),
            quoted: Some(Foreign(&error.to_string()).to_string()),
        }
    }
}

fn invalid(path: &Path, problem: Problem) -> RegistryError {
    RegistryError::Rectangles {
        reason: problem.reason,
        quoted: problem.quoted,
        path: path.to_owned(),
    }
}

/// One entry of the object form; what else it holds is of no interest.
#[derive(Deserialize)]
struct Entry {
    rect: [f64; 4],
}

fn from_json(text: &str) -> Result<Vec<CropRect>, Problem> {
    let rects: Vec<[f64; 4]> = if text.trim_start().starts_with('{') {
        let entries: BTreeMap<u32, Entry> = serde_json::from_str(text)?;
        let first = entries.keys().next().copied().unwrap_or(0);
        for (expected, key) in (first..).zip(entries.keys()) {
            if expected != *key {
                return Err(format!("rectangle {expected} is missing").into());
            }
        }
        entries.into_values().map(|entry| entry.rect).collect()
    } else {
        serde_json::from_str(text)?
    };
    let corners = |(index, corners): (usize, &[f64; 4])| {
        corner_rect(*corners).map_err(|reason| format!("rectangle {index}: {reason}").into())
    };
    rects.iter().enumerate().map(corners).collect()
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
fn from_landmarks(text: &str) -> Result<CropRect, Problem> {
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
    let point = |index| point(index).map_err(Problem::from);
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
            ("[[1,2,3,4]", "it ends early"),
            ("root:x:0:0", "it is not JSON"),
            ("[[1,2,3,4e300]]", "rectangle 0: 4e300 is out of range"),
            (
                r#"{"0": {"rect": [1,2,3,4]}, "2": {"rect": [1,2,3,4]}}"#,
                "rectangle 1 is missing",
            ),
            (r#"{"0": {}}"#, "expected [[x1, y1, x2, y2], ...] or"),
            ("", "it ends early"),
        ] {
            let Problem { reason, .. } = from_json(text).expect_err(text);
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }

    #[test]
    fn what_stands_in_a_file_is_for_the_log_only() {
        let secrets = [
            r#"["secret"]"#.to_owned(),
            r#"{"secret": 1}"#.to_owned(),
            r#"{"0": "secret"}"#.to_owned(),
            format!(r#"["secret{}"]"#, "x".repeat(1 << 20)),
        ];
        for text in secrets {
            let Problem { reason, quoted } = from_json(&text).expect_err("no rectangles");
            assert!(!reason.contains("secret"), "{reason}");
            assert!(quoted.expect("the parser's words").len() < 300);
        }
        let Problem { reason, quoted } = from_landmarks(&"secret\n".repeat(60)).expect_err("none");
        assert!(!reason.contains("secret") && quoted.is_none(), "{reason}");
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
            Err("line 32 is not `x y`".to_owned().into())
        );
        lines[RIGHT] = "nan 0".into();
        assert_eq!(
            from_landmarks(&lines.join("\n")),
            Err("NaN is out of range".to_owned().into())
        );
        assert_eq!(
            from_landmarks(&lines[..20].join("\n")),
            Err("only 20 landmarks, 53 needed".to_owned().into())
        );
    }
}
