//! The face rectangles of a model: whether there is one for every frame, and whether it can be a face's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lipsync_core::CropRect;

use super::{FilesReport, Findings, Severity};
use crate::{
    face_rects,
    fence::Fence,
    files, landmarks,
    numbered::{self, Gathered, number_of},
    rectangles::{self, LANDMARKS, MAX_LANDMARKS_BYTES, WHAT},
};

/// Detectors that find this many points, for those who have the wrong ones.
const OTHER_DETECTORS: [(usize, &str); 5] = [
    (68, "dlib and face_alignment"),
    (98, "WFLW"),
    (106, "InsightFace"),
    (468, "MediaPipe"),
    (478, "MediaPipe"),
];

/// Pairs rectangles with the frames of `report`, and looks at each pair.
pub(super) fn check(path: &Path, fence: &Fence, report: &mut FilesReport) {
    let real = match fence.resolve(path, WHAT) {
        Ok(real) => real,
        Err(error) => return report.findings.add_error(&error),
    };
    let rects = if real.is_dir() {
        of_landmarks(&real, fence, &mut report.findings)
    } else {
        of_json(path, fence, &mut report.findings)
    };
    let Some(rects) = rects else { return };
    pair(path, rects, report);
    if let Some(size) = report.size {
        judge(size, report);
    }
}

/// Rectangles by the number of their frames, or by its index.
enum Rects {
    Numbered(BTreeMap<u64, CropRect>),
    InOrder(Vec<CropRect>),
}

fn of_json(path: &Path, fence: &Fence, findings: &mut Findings) -> Option<Rects> {
    match rectangles::read(fence, path) {
        Ok(read) => Some(match read.first {
            Some(first) => Rects::Numbered((first..).zip(read.rects).collect()),
            None => Rects::InOrder(read.rects),
        }),
        Err(error) => {
            findings.add_error(&error);
            None
        }
    }
}

fn of_landmarks(folder: &Path, fence: &Fence, findings: &mut Findings) -> Option<Rects> {
    let Gathered {
        numbered,
        unnumbered,
    } = match numbered::gather(folder, LANDMARKS, &["lms"]) {
        Ok(listed) => listed,
        Err(error) => {
            findings.add_error(&error);
            return None;
        }
    };
    for path in &unnumbered {
        findings.add_file(Severity::Error, path, "its name has no number");
    }
    let mut rects = BTreeMap::new();
    for (number, path) in &numbered {
        match files::read_text(fence, path, LANDMARKS, MAX_LANDMARKS_BYTES) {
            Ok(text) => {
                if let Some(rect) = of_file(path, &text, findings) {
                    rects.insert(*number, rect);
                }
            }
            Err(error) => findings.add_file(Severity::Error, path, error.to_string()),
        }
    }
    Some(Rects::Numbered(rects))
}

fn of_file(path: &Path, text: &str, findings: &mut Findings) -> Option<CropRect> {
    match landmarks::rectangle(text) {
        Ok(rect) => {
            if landmarks::are_disordered(text) {
                findings.add_file(
                    Severity::Warning,
                    path,
                    "its 110 landmarks are not in the order of PFLD: points 1 and 31 should be the ends of the jaw, \
                     and point 52 below the eyes",
                );
            }
            Some(rect)
        }
        Err(mut reason) => {
            let n_points = text.lines().filter(|line| !line.trim().is_empty()).count();
            let other = OTHER_DETECTORS.iter().find(|(n, _)| *n == n_points);
            if let Some((_, detector)) = other {
                reason = format!(
                    "{reason}. {detector} write {n_points}: run the project's own PFLD over the frames again"
                );
            }
            findings.add_file(Severity::Error, path, reason);
            None
        }
    }
}

/// Gives every frame its rectangle, and says what is left over.
fn pair(path: &Path, rects: Rects, report: &mut FilesReport) {
    let (n_frames, n_rects) = (report.frames.len(), rects.len());
    match rects {
        Rects::InOrder(rects) => {
            for (frame, rect) in report.frames.iter_mut().zip(rects) {
                frame.rect = Some(rect);
            }
        }
        Rects::Numbered(mut rects) => {
            for frame in &mut report.frames {
                let number = number_of(&frame.path);
                frame.rect = number.and_then(|number| rects.remove(&number));
            }
        }
    }
    let findings = &mut report.findings;
    let bare: Vec<&PathBuf> = report
        .frames
        .iter()
        .filter(|frame| frame.rect.is_none())
        .map(|frame| &frame.path)
        .collect();
    let n_paired = n_frames - bare.len();
    for path in bare {
        let text = "it has no crop rectangle: each frame needs one, and landmarks carry the number of their frame";
        findings.add_file(Severity::Error, path, text);
    }
    if n_rects > n_paired {
        let text = match n_rects - n_paired {
            1 => "one crop rectangle belongs to no frame".into(),
            n => format!("{n} crop rectangles belong to no frame"),
        };
        findings.add_file(Severity::Warning, path, text);
    }
}

impl Rects {
    fn len(&self) -> usize {
        match self {
            Self::Numbered(rects) => rects.len(),
            Self::InOrder(rects) => rects.len(),
        }
    }
}

fn judge(size: (usize, usize), report: &mut FilesReport) {
    let paired = report
        .frames
        .iter()
        .filter_map(|frame| Some((&frame.path, frame.rect?)));
    let (paths, rects): (Vec<&PathBuf>, Vec<CropRect>) = paired.unzip();
    let judged = face_rects::judge(&rects, size);
    let findings = &mut report.findings;
    for (index, text) in judged.faults {
        match index.and_then(|index| paths.get(index)) {
            Some(path) => findings.add_file(Severity::Error, path, text),
            None => findings.add(Severity::Error, text),
        }
    }
    for (index, text) in judged.doubts {
        if let Some(path) = paths.get(index) {
            findings.add_file(Severity::Warning, path, text);
        }
    }
}
