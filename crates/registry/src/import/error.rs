//! Why a folder cannot be imported.

use std::{io, path::PathBuf};

use lipsync_core::Foreign;

use crate::RegistryError;

/// Why a folder cannot be imported. For the operator, so it names paths.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source is no folder.
    #[error("{}: not a folder", shown(path))]
    NoFolder {
        /// What was named.
        path: PathBuf,
    },
    /// The source has no layout that is known.
    #[error(
        "{}: no known layout. Looked for avatar.yaml (ours), full_imgs and coords.pkl (LiveTalking), full_body_img and \
         landmarks (SyncTalk_2D, Ultralight), frames and crop_rects.json or cache/crop_rectangles.json (server package)",
        shown(path)
    )]
    Layout {
        /// The source.
        path: PathBuf,
    },
    /// A file of the source is broken.
    #[error(transparent)]
    File(#[from] RegistryError),
    /// There is no ONNX file of a generator.
    #[error(
        "{}: no ONNX file that serves as a generator{}. Name one with --generator",
        shown(path),
        of_found(found)
    )]
    NoGenerator {
        /// The source.
        path: PathBuf,
        /// What was found instead, one sentence each.
        found: Vec<String>,
    },
    /// There are several.
    #[error("{}: several generators ({}). Name one with --generator", shown(path), names.join(", "))]
    Generators {
        /// The source.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
    /// A pickle of rectangles is refused.
    #[error("{}: {reason}", shown(path))]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What it holds instead of rectangles.
        reason: String,
    },
    /// Frames and rectangles do not fit each other.
    #[error("{reason}")]
    Frames {
        /// What does not fit, with the names of files.
        reason: String,
    },
    /// A file was changed while it was copied.
    #[error(
        "{}: it changed while it was copied: import again when nothing writes there",
        shown(path)
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The folder to be made is there already.
    #[error(
        "{}: it exists already and is left as it is: an avatar's id is the name of its folder, so name another",
        shown(path)
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Something cannot be written.
    #[error(
        "{}: cannot be written: {source}. Nothing of the avatar was kept",
        shown(path)
    )]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn shown(path: &std::path::Path) -> String {
    Foreign(&path.to_string_lossy()).to_string()
}

fn of_found(found: &[String]) -> String {
    if found.is_empty() {
        return String::new();
    }
    format!(" ({})", found.join("; "))
}
