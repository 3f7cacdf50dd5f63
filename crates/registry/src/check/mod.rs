//! All that is wrong with the files of a model, at once.
//!
//! Loading stops at the first fault, and opens only the files that it needs. Whoever makes an avatar wants the whole
//! list, with the names of the files. So this reads every frame and every file of landmarks, and goes on after a
//! fault. It uses the rules of loading itself; what they refuse is an error here, what they only log is a
//! warning. It runs no network.

mod faces;
mod findings;
mod networks;
mod pictures;

use std::path::{Path, PathBuf};

use lipsync_core::CropRect;

use crate::{ModelConfig, RegistryError, config::checked_fps, fence::Fence, layout::Found};

pub use findings::{Finding, Findings, Severity};
pub use networks::NetworksFound;

/// What [`check_files`] finds.
#[derive(Debug, Default)]
pub struct FilesReport {
    /// Faults, doubts and notes, in the order of the checks.
    pub findings: Findings,
    /// Width and height of most frames, px; `None` where no frame can be read.
    pub size: Option<(usize, usize)>,
    /// All frames, in order, with their rectangles as far as there are such.
    pub frames: Vec<CheckedFrame>,
    /// What the networks are.
    pub networks: NetworksFound,
}

/// A background frame that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFrame {
    /// Its file.
    pub path: PathBuf,
    /// Its face rectangle as written.
    pub rect: Option<CropRect>,
    /// Whether it can be shown.
    pub is_good: bool,
}

/// Reads all files of a model, which may have up to `max_frames`. `seen` is told frames done and frames in all, from
/// several threads. Blocks for as long as that takes: all frames are decoded.
pub fn check_files(
    config: &ModelConfig,
    max_frames: usize,
    seen: &(dyn Fn(usize, usize) + Sync),
) -> FilesReport {
    let mut report = FilesReport::default();
    let fence = match Fence::around(config) {
        Ok(fence) => fence,
        Err(error) => {
            report.findings.add_error(&error);
            return report;
        }
    };
    let mut missing = Vec::new();
    let found = Found::search(config, &fence, &mut missing);
    for error in &missing {
        report.findings.add_error(error);
    }
    report.networks = networks::check(&found, &fence, &mut report.findings);
    check_fps(found.fps, &mut report.findings);
    pictures::check(&found, &fence, max_frames, seen, &mut report);
    if let Some(rectangles) = &found.rectangles {
        faces::check(rectangles, &fence, &mut report);
    }
    report
}

fn check_fps(fps: Option<u32>, findings: &mut Findings) {
    if let Some(fps) = fps.filter(|&fps| checked_fps(fps).is_none()) {
        findings.add_error(&RegistryError::Fps { fps });
    }
}

/// The name of a file for people: the last two parts of its path.
fn short_name(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let folder = path.parent().and_then(name);
    let parts = folder.into_iter().chain(name(path));
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
