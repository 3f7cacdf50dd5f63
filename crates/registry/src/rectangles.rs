//! The face rectangle of every frame, in the three forms that avatar makers write.
//!
//! - A JSON array of `[x1, y1, x2, y2]`, one per frame in order.
//! - A JSON object `{"0": {"rect": [x1, y1, x2, y2]}, ...}` with the frames' numbers as keys.
//! - A folder of landmark files `<i>.lms`, `i` being the frame's number; see [`landmarks`].
//!
//! Numbers with a fraction lose it, as the original's integer conversion does. What of them can be the
//! rectangle of a face is decided elsewhere, once the frames' size is known.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use lipsync_core::{CropRect, Foreign};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::error::Category;

use crate::{RegistryError, fence::Fence, files, landmarks, numbered};

pub(crate) const WHAT: &str = "crop rectangles";
const SHAPES: &str =
    "expected [[x1, y1, x2, y2], ...] or {\"0\": {\"rect\": [x1, y1, x2, y2]}, ...}";
const SHARES: &str = "all numbers are 0 to 1, as shares of the frame are: pixels are expected, so multiply them by its width and height";
const TWICE: &str = "a frame has two rectangles";
pub(crate) const LANDMARKS: &str = "landmarks";
const MAX_BYTES: u64 = 16 << 20;
/// Of one frame.
pub(crate) const MAX_LANDMARKS_BYTES: u64 = 256 * 1024;

/// Rectangles in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rectangles {
    /// The number of the frame that the first one is of; `None`: of the first frame, whatever its number.
    pub first: Option<u64>,
    pub rects: Vec<CropRect>,
}

/// Reads the rectangles of all frames from a JSON file or a folder of landmarks.
pub(crate) fn read(fence: &Fence, path: &Path) -> Result<Rectangles, RegistryError> {
    let real = fence.resolve(path, WHAT)?;
    if real.is_dir() {
        let files = numbered::list(&real, LANDMARKS, &["lms"])?;
        if files.paths.is_empty() {
            let reason = "their folder has no landmarks, files named <number of the frame>.lms";
            return Err(invalid(&real, reason.to_owned().into()));
        }
        let mut disordered = None;
        let mut rectangle = |file: &PathBuf| {
            let text = files::read_text(fence, file, LANDMARKS, MAX_LANDMARKS_BYTES)?;
            if disordered.is_none() && landmarks::are_disordered(&text) {
                disordered = Some(file.clone());
            }
            landmarks::rectangle(&text).map_err(|reason| invalid(file, reason.into()))
        };
        let rects = files.paths.iter().map(&mut rectangle);
        let rects = rects.collect::<Result<_, _>>()?;
        if let Some(file) = disordered {
            let file = file.to_string_lossy();
            let file = Foreign(&file);
            tracing::warn!(%file, "landmarks are not in the order of PFLD: the crop rectangles may miss the face");
        }
        return Ok(Rectangles {
            first: Some(files.first),
            rects,
        });
    }
    let text = files::read_text(fence, path, WHAT, MAX_BYTES)?;
    from_json(&text).map_err(|problem| invalid(path, problem))
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

impl Problem {
    /// What the parser found in a text.
    fn of_parser(error: &serde_json::Error, text: &str) -> Self {
        // Of arrays that are too long, and keys that are no numbers, it says that they are no JSON.
        let is_json = || serde_json::from_str::<IgnoredAny>(text).is_ok();
        let what = match error.classify() {
            Category::Data if error.to_string().starts_with(TWICE) => TWICE,
            Category::Data => SHAPES,
            Category::Syntax if is_json() => SHAPES,
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

/// The object form. Of a number that is there twice, a map would keep the last one and say nothing.
struct Entries(BTreeMap<u32, Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
                let mut entries = BTreeMap::new();
                while let Some((number, entry)) = map.next_entry::<u32, Entry>()? {
                    if entries.insert(number, entry).is_some() {
                        return Err(M::Error::custom(format!("{TWICE}: {number}")));
                    }
                }
                Ok(Entries(entries))
            }
        }

        from.deserialize_map(Unique)
    }
}

fn from_json(text: &str) -> Result<Rectangles, Problem> {
    let mut first = None;
    let rects: Vec<[f64; 4]> = if text.trim_start().starts_with('{') {
        let Entries(entries) = parse(text)?;
        first = entries.keys().next().map(|&key| u64::from(key));
        for (expected, &key) in (first.unwrap_or(0)..).zip(entries.keys()) {
            if expected != u64::from(key) {
                return Err(format!("rectangle {expected} is missing").into());
            }
        }
        entries.into_values().map(|entry| entry.rect).collect()
    } else {
        parse(text)?
    };
    if !rects.is_empty()
        && rects
            .iter()
            .flatten()
            .all(|number| (0.0..=1.0).contains(number))
    {
        return Err(String::from(SHARES).into());
    }
    let corners = |(index, corners): (usize, &[f64; 4])| {
        corner_rect(*corners).map_err(|reason| format!("rectangle {index}: {reason}"))
    };
    let rects = rects.iter().enumerate().map(corners);
    let rects = rects.collect::<Result<_, _>>()?;
    Ok(Rectangles { first, rects })
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| Problem::of_parser(&error, text))
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
            ("[[1,2,3]]", "line 1 column 8"),
            ("[[1,2,3,4],\n[1,2,\"x\",4]]", "line 2 column 8"),
            ("[[1,2,3,4]", "it ends early"),
            ("root:x:0:0", "it is not JSON"),
            ("[[1,2,3,4,0.9]]", "expected [[x1, y1, x2, y2], ...]"),
            (
                r#"{"a.jpg": [1,2,3,4]}"#,
                "expected [[x1, y1, x2, y2], ...]",
            ),
            ("[[1,2,3,4]] and more", "it is not JSON"),
            ("[[1,2,3,4e300]]", "rectangle 0: 4e300 is out of range"),
            (
                r#"{"0": {"rect": [1,2,3,4]}, "2": {"rect": [1,2,3,4]}}"#,
                "rectangle 1 is missing",
            ),
            (
                r#"{"0": {"rect": [1,2,3,4]}, "0": {"rect": [1,2,9,9]}}"#,
                "a frame has two rectangles",
            ),
            ("[[0.2, 0.1, 0.6, 0.5]]", "pixels are expected"),
            (r#"{"0": {}}"#, "expected [[x1, y1, x2, y2], ...] or"),
            ("", "it ends early"),
            ("{\"0\": s3cr3t}", "it is not JSON, at line 1 column"),
        ] {
            let Problem { reason, .. } = from_json(text).expect_err(text);
            assert!(reason.contains(expected), "{text}: {reason}");
            assert!(!reason.contains("s3"), "no content of files: {reason}");
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
    }
}
