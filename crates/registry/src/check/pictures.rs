//! The background frames of a model: their numbers, their files, every pixel of them.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use lipsync_compositor::{DecodeLimits, Oddities, decode, oddities};
use lipsync_core::{Foreign, saturate::usize_of};

use super::{CheckedFrame, FilesReport, Findings, Severity};
use crate::{
    RegistryError,
    fence::Fence,
    files,
    layout::{FRAME_EXTENSIONS, FRAMES, Found},
    lock,
    numbered::{self, Gathered},
};

/// Threads that decode at once: a frame takes up to 100 MB.
const MAX_THREADS: usize = 8;
const MIN_FRAMES: usize = 25;

/// What a frame's file holds.
struct Looked {
    size: (usize, usize),
    oddities: Oddities,
}

pub(super) fn check(
    found: &Found,
    fence: &Fence,
    max_frames: usize,
    seen: &(dyn Fn(usize, usize) + Sync),
    report: &mut FilesReport,
) {
    let Some(folder) = &found.frames else { return };
    let listed = fence
        .resolve(folder, FRAMES)
        .and_then(|folder| numbered::gather(&folder, FRAMES, &FRAME_EXTENSIONS));
    let Gathered {
        numbered,
        unnumbered,
    } = match listed {
        Ok(listed) => listed,
        Err(error) => return report.findings.add_error(&error),
    };
    for path in &unnumbered {
        let text = "its name has no number: take it out of the folder, or number it";
        report.findings.add_file(Severity::Error, path, text);
    }
    check_numbers(&numbered, &mut report.findings);
    let mut paths: Vec<PathBuf> = numbered.into_iter().map(|(_, path)| path).collect();
    if let Some(n) = found.n_frames {
        if usize_of(n) > paths.len() {
            report.findings.add_error(&RegistryError::MissingFrames {
                configured: n,
                found: paths.len(),
            });
        }
        paths.truncate(usize_of(n));
    }
    check_count(folder, paths.len(), max_frames, &mut report.findings);
    let looked = look_at_all(fence, &paths, seen);
    report.size = usual_size(&looked);
    judge(&paths, &looked, report);
}

fn check_numbers(numbered: &[(u64, PathBuf)], findings: &mut Findings) {
    for pair in numbered.windows(2) {
        let ((before, _), (after, path)) = (&pair[0], &pair[1]);
        match after - before {
            0 => findings.add_file(
                Severity::Error,
                path,
                "another frame has its number: two sets of frames, or both PNG and JPEG, are in one folder",
            ),
            1 => {}
            n => {
                let missing = match n {
                    2 => "a frame is missing".into(),
                    n => format!("{} frames are missing", n - 1),
                };
                let text = format!("{missing} before it: number the frames without gaps");
                findings.add_file(Severity::Error, path, text);
            }
        }
    }
}

fn check_count(folder: &Path, n_frames: usize, max_frames: usize, findings: &mut Findings) {
    if n_frames == 0 {
        findings.add_error(&numbered::no_frames(folder));
    } else if n_frames > max_frames {
        findings.add_error(&RegistryError::TooManyFrames {
            n_frames,
            max_frames,
        });
    } else if n_frames < MIN_FRAMES {
        let text = format!(
            "there are {n_frames} frames: under a second of movement, there and back, looks like a twitch"
        );
        findings.add(Severity::Warning, text);
    }
}

/// Looks at every frame, on several threads.
fn look_at_all(
    fence: &Fence,
    paths: &[PathBuf],
    seen: &(dyn Fn(usize, usize) + Sync),
) -> Vec<Result<Looked, String>> {
    let next = AtomicUsize::new(0);
    let n_done = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..n_threads.min(MAX_THREADS) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = paths.get(index) else { break };
                    let looked = look(fence, path);
                    lock(&results).insert(index, looked);
                    seen(n_done.fetch_add(1, Ordering::Relaxed) + 1, paths.len());
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_default();
    results.into_values().collect()
}

fn look(fence: &Fence, path: &Path) -> Result<Looked, String> {
    let bytes = files::read(fence, path, "background frame", files::MAX_FRAME_BYTES);
    let bytes = bytes.map_err(|error| error.to_string())?;
    let words = |error: lipsync_compositor::CompositorError| {
        format!("it cannot be decoded: {}", Foreign(&error.to_string()))
    };
    let oddities = oddities(&bytes).map_err(words)?;
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(&bytes, DecodeLimits::default())));
    match decoded {
        Ok(Ok(picture)) => Ok(Looked {
            size: (picture.width(), picture.height()),
            oddities,
        }),
        Ok(Err(error)) => Err(words(error)),
        Err(_) => Err("it cannot be decoded: the decoder panicked".into()),
    }
}

/// The size of most frames; of two the smaller.
fn usual_size(looked: &[Result<Looked, String>]) -> Option<(usize, usize)> {
    let mut counts = BTreeMap::new();
    for looked in looked.iter().flatten() {
        *counts.entry(looked.size).or_insert(0_usize) += 1;
    }
    let most = counts.values().copied().max()?;
    counts
        .into_iter()
        .find(|(_, n)| *n == most)
        .map(|(size, _)| size)
}

fn judge(paths: &[PathBuf], looked: &[Result<Looked, String>], report: &mut FilesReport) {
    let findings = &mut report.findings;
    for (path, looked) in paths.iter().zip(looked) {
        let is_good = match looked {
            Err(reason) => {
                findings.add_file(Severity::Error, path, reason);
                false
            }
            Ok(looked) => {
                let (width, height) = looked.size;
                let is_usual = report.size == Some(looked.size);
                if let Some((w, h)) = report.size.filter(|_| !is_usual) {
                    let text = format!("it is {width}x{height}, and most frames are {w}x{h}");
                    findings.add_file(Severity::Error, path, text);
                }
                say_oddities(path, looked.oddities, findings);
                is_usual
            }
        };
        report.frames.push(CheckedFrame {
            path: path.clone(),
            rect: None,
            is_good,
        });
    }
    if let Some((width, height)) = report.size
        && (width % 2 == 1 || height % 2 == 1)
    {
        let text = format!("frames of {width}x{height}: video coders want even sides");
        findings.add(Severity::Note, text);
    }
}

fn say_oddities(path: &Path, oddities: Oddities, findings: &mut Findings) {
    let Oddities {
        is_turned,
        has_profile,
        has_alpha,
        is_deep,
    } = oddities;
    let said = [
        (
            is_turned,
            "it has an EXIF orientation and is turned upright, as OpenCV does: rectangles must be those of the \
             upright picture",
        ),
        (
            has_profile,
            "it has a colour profile other than sRGB, which is ignored: convert the frames to sRGB, or colours \
             will be off",
        ),
        (
            has_alpha,
            "it has an alpha channel, which is dropped: transparent parts show whatever colour they hide",
        ),
        (is_deep, "it has 16 bits a channel, of which 8 are kept"),
    ];
    for (_, text) in said.into_iter().filter(|(is_so, _)| *is_so) {
        findings.add_file(Severity::Warning, path, text);
    }
}
