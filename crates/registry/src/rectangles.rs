//! The face rectangle of every frame, in the three forms that avatar makers write.
//!
//! - A JSON array of `[x1, y1, x2, y2]`, one per frame in order.
//! - A JSON object `{"0": {"rect": [x1, y1, x2, y2]}, ...}` with the frames' numbers as keys.
//! - A folder of landmark files `<i>.lms`, `i` being the frame's number; see [`landmarks`].
//!
//! Numbers with a fraction lose it, as the original's integer conversion does. What of them can be the
//! rectangle of a face is decided elsewhere, once the frames' size is known.

use std::{collections::BTreeMap, path::Path};

use lipsync_core::CropRect;
use serde::Deserialize;
use serde_json::error::Category;

use crate::{RegistryError, files, landmarks, numbered};

const WHAT: &str = "crop rectangles";

/// Rectangles in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rectangles {
    /// The number of the frame that the first one is of; `None`: of the first frame, whatever its number.
    pub first: Option<u64>,
    pub rects: Vec<CropRect>,
}

/// Reads the rectangles of all frames from a JSON file or a folder of landmarks.
pub(crate) fn read(path: &Path) -> Result<Rectangles, RegistryError> {
    if path.is_dir() {
        let files = numbered::list(path, "landmarks", &["lms"])?;
        let rectangle = |file: &std::path::PathBuf| {
            let text = files::read_text(file, "landmarks")?;
            landmarks::rectangle(&text).map_err(|reason| invalid(file, reason))
        };
        return Ok(Rectangles {
            first: Some(files.first),
            rects: files
                .paths
                .iter()
                .map(rectangle)
                .collect::<Result<_, _>>()?,
        });
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

fn from_json(text: &str) -> Result<Rectangles, String> {
    let mut first = None;
    let rects: Vec<[f64; 4]> = if text.trim_start().starts_with('{') {
        let entries: BTreeMap<u32, Entry> = serde_json::from_str(text).map_err(|e| describe(&e))?;
        first = entries.keys().next().map(|&key| u64::from(key));
        for (expected, &key) in (first.unwrap_or(0)..).zip(entries.keys()) {
            if expected != u64::from(key) {
                return Err(format!("rectangle {expected} is missing"));
            }
        }
        entries.into_values().map(|entry| entry.rect).collect()
    } else {
        serde_json::from_str(text).map_err(|e| describe(&e))?
    };
    let rects = rects.iter().enumerate().map(|(index, corners)| {
        corner_rect(*corners).map_err(|reason| format!("rectangle {index}: {reason}"))
    });
    let rects = rects.collect::<Result<_, _>>()?;
    Ok(Rectangles { first, rects })
}

/// What is wrong, and where; nothing of what stands there, which may be anybody's file behind a link.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Eof => "the file ends early",
        Category::Data => "expected [x1, y1, x2, y2] for each frame",
        Category::Syntax | Category::Io => "the file is not JSON",
    };
    let (line, column) = (error.line(), error.column());
    format!("{what}, at line {line}, column {column}")
}

fn corner_rect([x1, y1, x2, y2]: [f64; 4]) -> Result<CropRect, String> {
    Ok(CropRect {
        x1: truncate(x1)?,
        y1: truncate(y1)?,
        x2: truncate(x2)?,
        y2: truncate(y2)?,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "dropping the fraction is the point, and the range is checked before"
)]
pub(crate) fn truncate(value: f64) -> Result<i32, String> {
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
        let expected = |first| {
            let rects = vec![rect(1, 2, 3, 4), rect(-5, 6, 7, 8)];
            Ok(Rectangles { first, rects })
        };
        assert_eq!(from_json("[[1,2,3,4],[-5.9,6.9,7,8]]"), expected(None));
        let object = r#" {"1": {"rect": [-5,6,7,8], "score": 0.5}, "0": {"rect": [1,2,3,4]}}"#;
        assert_eq!(from_json(object), expected(Some(0)));
        // Keys are numbers: "10" comes after "9", and the first may be any.
        let keys: Vec<String> = (2..=11)
            .map(|k| format!(r#""{k}": {{"rect": [{k},0,99,99]}}"#))
            .collect();
        let rects = from_json(&format!("{{{}}}", keys.join(","))).expect("rectangles");
        assert_eq!(rects.first, Some(2));
        assert_eq!(
            rects.rects.iter().map(|r| r.x1).collect::<Vec<_>>(),
            (2..=11).collect::<Vec<_>>()
        );
    }

    #[test]
    fn broken_json_is_refused_with_its_place() {
        for (text, expected) in [
            (
                "[[1,2,3]]",
                "[x1, y1, x2, y2] for each frame, at line 1, column 8",
            ),
            (
                "[[1,2,3,4],\n[1,2,\"x\",4]]",
                "for each frame, at line 2, column 8",
            ),
            ("[[1,2,3,4e300]]", "rectangle 0: 4e300 is out of range"),
            (
                r#"{"0": {"rect": [1,2,3,4]}, "2": {"rect": [1,2,3,4]}}"#,
                "rectangle 1 is missing",
            ),
            (r#"{"0": {}}"#, "for each frame, at line 1, column 8"),
            ("", "the file ends early"),
            ("{\"0\": s3cr3t}", "the file is not JSON, at line 1, column"),
        ] {
            let reason = from_json(text).expect_err(text);
            assert!(reason.contains(expected), "{text}: {reason}");
            assert!(!reason.contains("s3"), "no content of files: {reason}");
        }
    }
}
