//! The rectangles of LiveTalking's avatars, which are a pickle.

use std::{cmp::Ordering, collections::BTreeMap, path::Path, path::PathBuf};

use lipsync_compositor::probe;
use lipsync_core::{AudioKind, CropRect, FaceGeometry};

use super::{
    ImportError,
    pickle::{self, Value},
};
use crate::{
    fence::Fence,
    files,
    layout::{FRAME_EXTENSIONS, FRAMES},
    numbered,
    rectangles::{self, WHAT},
};

const MAX_PICKLE_BYTES: u64 = 64 << 20;

/// The rectangles in LiveTalking's `coords.pkl`. Avatars of Ultralight have corners there, those of Wav2Lip ranges of y
/// and x. A generator that hears mel rows is one of Wav2Lip. Otherwise squares are squares either way, so the frame
/// decides, and else what only Ultralight has beside it.
pub(super) fn of_pickle(
    path: &Path,
    (frames, fence, audio): (&BTreeMap<u64, PathBuf>, &Fence, AudioKind),
    lines: &mut Vec<String>,
) -> Result<Vec<CropRect>, ImportError> {
    let bytes = files::read(fence, path, WHAT, MAX_PICKLE_BYTES)?;
    let refused = |reason: String| ImportError::Pickle {
        path: path.to_owned(),
        reason,
    };
    let Value::List(list) = pickle::read(&bytes).map_err(refused)? else {
        return Err(refused(
            "it holds one number, and rectangles are a list".into(),
        ));
    };
    let numbers: Option<Vec<[i32; 4]>> = list.iter().map(four).collect();
    let numbers =
        numbers.ok_or_else(|| refused("expected a list of four numbers for each frame".into()))?;
    let size = frames.values().find_map(|frame| size_of(frame, fence));
    let corners = |&[x1, y1, x2, y2]: &[i32; 4]| CropRect { x1, y1, x2, y2 };
    let ranges = |&[y1, y2, x1, x2]: &[i32; 4]| CropRect { x1, y1, x2, y2 };
    let (as_corners, as_ranges) = (
        n_faces(&numbers, corners, size),
        n_faces(&numbers, ranges, size),
    );
    if as_corners.max(as_ranges) == 0 {
        return Err(refused(
            "its numbers are no rectangles, neither as x1, y1, x2, y2 nor as y1, y2, x1, x2".into(),
        ));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_ultralight = match as_corners.cmp(&as_ranges) {
        _ if audio == AudioKind::Mel && as_ranges > 0 => false,
        Ordering::Greater => true,
        Ordering::Less => false,
        Ordering::Equal => is_of_ultralight(folder, fence),
    };
    if is_ultralight {
        lines.push("coords.pkl: x1, y1, x2, y2, as avatars of Ultralight have it".into());
        return Ok(numbers.iter().map(corners).collect());
    }
    lines.push("coords.pkl: y1, y2, x1, x2, as avatars of Wav2Lip have it".into());
    Ok(numbers.iter().map(ranges).collect())
}

/// Whether a folder of LiveTalking has the checkpoint of Ultralight, or faces of the size that only it cuts.
fn is_of_ultralight(folder: &Path, fence: &Fence) -> bool {
    if folder.join("ultralight.pth").exists() {
        return true;
    }
    let faces = fence.resolve(&folder.join("face_imgs"), FRAMES);
    let faces = faces.and_then(|faces| numbered::gather(&faces, FRAMES, &FRAME_EXTENSIONS));
    let mut faces = faces.into_iter().flat_map(|faces| faces.numbered);
    let face = faces.find_map(|(_, face)| size_of(&face, fence));
    face == Some((FaceGeometry::SMALL.crop_px, FaceGeometry::SMALL.crop_px))
}

/// The size of a picture, where it can be read.
fn size_of(path: &Path, fence: &Fence) -> Option<(usize, usize)> {
    let bytes = files::read(fence, path, FRAMES, files::MAX_FRAME_BYTES).ok()?;
    probe(&bytes).ok()
}

fn four(value: &Value) -> Option<[i32; 4]> {
    let Value::List(list) = value else {
        return None;
    };
    let numbers: Option<Vec<i32>> = list.iter().map(number).collect();
    numbers?.try_into().ok()
}

fn number(value: &Value) -> Option<i32> {
    match value {
        Value::Int(n) => i32::try_from(*n).ok(),
        Value::Float(x) => rectangles::truncate(*x).ok(),
        Value::List(_) => None,
    }
}

/// How many of some numbers are a rectangle that is about square, and on the frame if its size is known.
fn n_faces(
    numbers: &[[i32; 4]],
    order: impl Fn(&[i32; 4]) -> CropRect,
    size: Option<(usize, usize)>,
) -> usize {
    let is_face = |numbers: &&[i32; 4]| {
        let rect = order(numbers);
        let CropRect { x1, y1, x2, y2 } = rect;
        let (wide, high) = (i64::from(x2) - i64::from(x1), i64::from(y2) - i64::from(y1));
        let is_square = wide > 1 && high > 1 && wide.max(high) <= 2 * wide.min(high);
        let is_inside = size.is_none_or(|(width, height)| {
            let cut = rect.clamp_to(width, height);
            cut.is_some_and(|cut| {
                i64::try_from(cut.width * cut.height).is_ok_and(|n| n == wide * high)
            })
        });
        is_square && is_inside
    };
    numbers.iter().filter(is_face).count()
}
