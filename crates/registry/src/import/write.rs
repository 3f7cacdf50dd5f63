//! The new folder, while it is made.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use lipsync_compositor::{DecodeLimits, decode};
use lipsync_core::{AudioKind, CropRect, Foreign};

use super::{ImportError, ImportOrder, source::Source};
use crate::{Rest, fence::Fence, files, manifest, network_file, pack::Stamp};

const FRAMES: &str = "frames";
const RECTANGLES: &str = "crop_rectangles.json";
const GENERATOR: &str = "generator.onnx";
const ENCODER: &str = "audio_encoder.onnx";
/// The folder of an encoder whose weights are in files of their own, which keep their names.
const ENCODER_FOLDER: &str = "encoder";

/// A folder beside the one that is to be, removed again unless it is finished.
#[derive(Debug)]
pub(super) struct Draft {
    folder: PathBuf,
    rects: Vec<CropRect>,
    size: Option<(usize, usize)>,
    n_bytes: u64,
    /// Where the encoder was put.
    encoder: Option<String>,
    is_finished: bool,
}

impl Draft {
    /// Makes an empty folder beside `to`, which must not exist.
    pub(super) fn create(to: &Path) -> Result<Self, ImportError> {
        if to.symlink_metadata().is_ok() {
            let path = to.to_owned();
            return Err(ImportError::Exists { path });
        }
        let failed = |path: &Path, source| ImportError::Write {
            path: path.to_owned(),
            source,
        };
        let Some(name) = to.file_name() else {
            return Err(failed(to, io::ErrorKind::InvalidInput.into()));
        };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        }
        let draft = format!(
            ".{}.importing-{}",
            name.to_string_lossy(),
            std::process::id()
        );
        let folder = to.with_file_name(draft);
        fs::create_dir(&folder).map_err(|error| failed(&folder, error))?;
        let draft = Self {
            folder,
            rects: Vec::new(),
            size: None,
            n_bytes: 0,
            encoder: None,
            is_finished: false,
        };
        draft.create_folder(FRAMES)?;
        Ok(draft)
    }

    /// Copies the networks, with the files beside them that hold their weights.
    pub(super) fn networks(
        &mut self,
        networks: &super::Networks,
        fence: &Fence,
        order: &ImportOrder,
    ) -> Result<(), ImportError> {
        let everywhere = Fence::everywhere();
        // What the operator names may lie anywhere.
        let fence_of = |path: &Path, named: &Option<PathBuf>| {
            if named.as_deref() == Some(path) {
                &everywhere
            } else {
                fence
            }
        };
        let path = &networks.generator;
        let parts = network_file::parts(fence_of(path, &order.generator), path, "generator")?;
        self.write_all("", GENERATOR, parts)?;
        let Some(path) = &networks.audio_encoder else {
            return Ok(());
        };
        let parts =
            network_file::parts(fence_of(path, &order.audio_encoder), path, "audio encoder")?;
        let folder = if parts.data.is_empty() {
            String::new()
        } else {
            self.create_folder(ENCODER_FOLDER)?;
            format!("{ENCODER_FOLDER}/")
        };
        self.encoder = Some(format!("{folder}{ENCODER}"));
        self.write_all(&folder, ENCODER, parts)
    }

    fn write_all(
        &mut self,
        folder: &str,
        name: &str,
        parts: network_file::NetworkParts,
    ) -> Result<(), ImportError> {
        self.write(&format!("{folder}{name}"), &parts.onnx)?;
        for (name, bytes) in parts.data {
            self.write(&format!("{folder}{name}"), &bytes)?;
        }
        Ok(())
    }

    /// Copies a frame, as it is, after it was decoded once.
    pub(super) fn frame(
        &mut self,
        (path, rect): (&Path, CropRect),
        fence: &Fence,
    ) -> Result<(), ImportError> {
        const WHAT: &str = "background frame";
        let stamp = || fence.look(path, WHAT).map(|metadata| Stamp::of(&metadata));
        let before = stamp()?;
        let bytes = files::read(fence, path, WHAT, files::MAX_FRAME_BYTES)?;
        if stamp()? != before {
            let path = path.to_owned();
            return Err(ImportError::Changed { path });
        }
        let shown = || Foreign(&path.to_string_lossy()).to_string();
        let picture =
            decode(&bytes, DecodeLimits::default()).map_err(|error| ImportError::Frames {
                reason: format!(
                    "{}: it cannot be decoded: {}",
                    shown(),
                    Foreign(&error.to_string())
                ),
            })?;
        let (width, height) = (picture.width(), picture.height());
        let (w, h) = *self.size.get_or_insert((width, height));
        if (w, h) != (width, height) {
            let reason = format!(
                "{}: it is {width}x{height}, and the first frame is {w}x{h}",
                shown()
            );
            return Err(ImportError::Frames { reason });
        }
        let extension = path
            .extension()
            .map_or_else(String::new, |e| e.to_string_lossy().to_lowercase());
        let name = format!("{FRAMES}/frame_{:04}.{extension}", self.rects.len());
        self.write(&name, &bytes)?;
        self.rects.push(rect);
        Ok(())
    }

    /// Writes the rectangles of all frames so far.
    pub(super) fn rectangles(&mut self) -> Result<(), ImportError> {
        let rows: Vec<String> = self
            .rects
            .iter()
            .map(|CropRect { x1, y1, x2, y2 }| format!("[{x1}, {y1}, {x2}, {y2}]"))
            .collect();
        self.write(
            RECTANGLES,
            format!("[\n{}\n]\n", rows.join(",\n")).as_bytes(),
        )
    }

    /// Writes `avatar.yaml`.
    pub(super) fn manifest(&mut self, to: &Path, source: &Source) -> Result<(), ImportError> {
        let carried = &source.carried;
        let name = to
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let name = carried.name.clone().unwrap_or(name);
        let kind: AudioKind = source.networks.audio;
        let mut text = format!("name: {}\naudio_kind: {kind}\n", quoted(&name));
        // Writing to a string cannot fail.
        if let Some(fps) = carried.fps {
            let _ = writeln!(text, "fps: {fps}");
        }
        let _ = writeln!(text, "generator: {GENERATOR}");
        if let Some(encoder) = &self.encoder {
            let _ = writeln!(text, "audio_encoder: {encoder}");
        }
        let _ = writeln!(text, "frames: {FRAMES}\ncrop_rectangles: {RECTANGLES}");
        if carried.cuts_output {
            let _ = writeln!(text, "cut_output: true");
        }
        if carried.feather > 0 {
            let _ = writeln!(text, "feather: {}", carried.feather);
        }
        if carried.rest == Rest::Generated {
            let _ = writeln!(text, "rest: generated");
        }
        if let Some(license) = &carried.license {
            let _ = writeln!(text, "license: {}", quoted(license));
        }
        let _ = writeln!(
            text,
            "about:\n  imported_from: {}",
            quoted(&source.layout.to_string())
        );
        self.write(manifest::FILE_NAME, text.as_bytes())
    }

    /// Gives the folder its name; the bytes that were written.
    pub(super) fn finish(mut self, to: &Path) -> Result<u64, ImportError> {
        // A folder that came meanwhile is kept: only an empty one would be replaced.
        fs::rename(&self.folder, to).map_err(|source| ImportError::Write {
            path: to.to_owned(),
            source,
        })?;
        self.is_finished = true;
        Ok(self.n_bytes)
    }

    fn create_folder(&self, name: &str) -> Result<(), ImportError> {
        let path = self.folder.join(name);
        fs::create_dir(&path).map_err(|source| ImportError::Write { path, source })
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImportError> {
        let path = self.folder.join(name);
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(|source| ImportError::Write { path, source })?;
        self.n_bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_finished {
            // What cannot be removed has a name that says what it is.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A text as YAML writes it in quotes, which is as JSON does.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
