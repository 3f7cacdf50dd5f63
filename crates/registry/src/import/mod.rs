//! From a folder that a project of others left behind to an avatar of ours.
//!
//! [`import`] finds frames, rectangles and networks in a [source](Layout), and writes a new folder with an
//! `avatar.yaml`. Frames and networks are copied byte for byte, since nothing would get better by coding them
//! again. Every frame is decoded once, so that what was imported can be served.
//!
//! The source is input and may come from anybody: no link out of it is followed, no pickle is run, and a file that
//! changes while it is copied ends the import. The folder appears whole or not at all, and nothing that exists is
//! written to.

mod coords;
mod error;
mod pickle;
mod source;
mod write;

use std::path::{Path, PathBuf};

use lipsync_core::{AudioKind, ModelId};

use crate::{ModelConfig, ModelSource, fence::Fence};

pub use error::ImportError;
pub use source::Layout;

/// What to import.
#[derive(Debug, Clone)]
pub struct ImportOrder {
    /// The folder to read.
    pub source: PathBuf,
    /// The folder to make. Its name is the avatar's.
    pub to: PathBuf,
    /// The generator's ONNX file, where the source has none or several.
    pub generator: Option<PathBuf>,
    /// The audio encoder's ONNX file, where the source has none.
    pub audio_encoder: Option<PathBuf>,
    /// The most frames of an avatar.
    pub max_frames: usize,
}

/// What was imported.
#[derive(Debug, Clone)]
pub struct ImportReport {
    /// What the source was recognised as.
    pub layout: Layout,
    /// How each part was found, and what was left out, one sentence each.
    pub lines: Vec<String>,
    /// Frames of the avatar.
    pub n_frames: usize,
    /// Bytes written.
    pub n_bytes: u64,
}

/// The networks of a source, by what they serve as.
#[derive(Debug)]
struct Networks {
    generator: PathBuf,
    audio: AudioKind,
    audio_encoder: Option<PathBuf>,
}

/// Imports a folder. `seen` is told frames copied and frames in all. Blocks for as long as that takes.
///
/// # Errors
/// See [`ImportError`]. Nothing is left of the new folder then.
pub fn import(
    order: &ImportOrder,
    seen: &mut dyn FnMut(usize, usize),
) -> Result<ImportReport, ImportError> {
    let fence = fence_around(&order.source)?;
    let mut lines = Vec::new();
    let found = source::find(order, &fence, &mut lines)?;
    let mut draft = write::Draft::create(&order.to)?;
    draft.networks(&found.networks, &fence, order)?;
    let n_frames = found.frames.len();
    for (n, (frame, rect)) in found.frames.iter().enumerate() {
        draft.frame((frame, *rect), &fence)?;
        seen(n + 1, n_frames);
    }
    draft.rectangles()?;
    draft.manifest(&order.to, &found)?;
    let n_bytes = draft.finish(&order.to)?;
    Ok(ImportReport {
        layout: found.layout,
        lines,
        n_frames,
        n_bytes,
    })
}

/// The fence around a folder that the operator names.
fn fence_around(source: &Path) -> Result<Fence, ImportError> {
    let config = ModelConfig {
        // Of no meaning: a fence asks for the folder alone.
        id: ModelId::new("source").map_err(|_| ImportError::NoFolder {
            path: source.to_owned(),
        })?,
        source: ModelSource::Folder(source.to_owned()),
        audio_kind: None,
        fps: None,
        audio_encoder: None,
        precision: None,
        preload: false,
        follow_links: false,
    };
    if !source.is_dir() {
        let path = source.to_owned();
        return Err(ImportError::NoFolder { path });
    }
    Ok(Fence::around(&config)?)
}

#[cfg(test)]
mod tests;
