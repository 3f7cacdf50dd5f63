//! Finding a model's files: by manifest, by known layout, or part by part.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use lipsync_core::{
    AudioKind, CropRect, Family, Foreign, Fps,
    family::{AudioForm, WindowSource},
    saturate::usize_of,
};

use crate::{
    ModelConfig, ModelSource, RegistryError, Rest,
    config::checked_fps,
    fence::Fence,
    files, load,
    manifest::{self, Manifest},
    network_file,
    numbered::{self, Numbered},
    rectangles::{self, Rectangles},
};

pub(crate) const FRAMES: &str = "background frames";
/// Names under which the known layouts keep background frames; the first that exists is taken.
const FRAME_FOLDERS: [&str; 2] = ["frames", "full_body_img"];
/// Endings of their files, in lower case.
pub(crate) const FRAME_EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];
/// The same for rectangles. The server package has landmarks beside its rectangles, so they are
/// last.
const RECTANGLES: [&str; 3] = ["crop_rects.json", "cache/crop_rectangles.json", "landmarks"];

/// All that the disk says about a model, before any network is made.
#[derive(Debug)]
pub(crate) struct Avatar {
    pub generator: PathBuf,
    pub audio_encoder: Option<PathBuf>,
    pub audio: &'static AudioForm,
    pub fps: Fps,
    /// Whether the generator's numbers may leave 0..1 and are cut off there.
    pub cuts_output: bool,
    /// How soft the edges of the face are, percent of its side.
    pub feather: u8,
    /// What is shown in silence.
    pub rest: Rest,
    /// In order, at least one.
    pub frames: Vec<PathBuf>,
    /// As many as frames.
    pub rectangles: Vec<CropRect>,
    /// Around all of its files.
    pub fence: Arc<Fence>,
}

/// What is found of a model's parts, however many are missing.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub generator: Option<PathBuf>,
    pub audio_encoder: Option<PathBuf>,
    /// As configured, or in the manifest.
    pub audio_kind: Option<AudioKind>,
    /// Likewise.
    pub fps: Option<u32>,
    pub frames: Option<PathBuf>,
    pub rectangles: Option<PathBuf>,
    /// How many of the frames are used; all where `None`.
    pub n_frames: Option<u32>,
}

impl Found {
    /// Looks for all parts of a configured model; what is missing goes into `missing`.
    pub(crate) fn search(
        config: &ModelConfig,
        fence: &Fence,
        missing: &mut Vec<RegistryError>,
    ) -> Self {
        let encoder = config.audio_encoder.clone();
        let has_manifest = |folder: &Path| folder.join(manifest::FILE_NAME).exists();
        if let ModelSource::Folder(folder) = &config.source
            && folder.is_dir()
            && !has_manifest(folder)
        {
            let mut keep = |found: Result<PathBuf, RegistryError>| {
                found.map_err(|error| missing.push(error)).ok()
            };
            return Self {
                generator: keep(generator(folder, fence, encoder.as_deref())),
                frames: keep(frames_of(folder)),
                rectangles: keep(rectangles_of(folder)),
                audio_encoder: encoder,
                audio_kind: config.audio_kind,
                fps: config.fps,
                n_frames: None,
            };
        }
        match Parts::find(config, fence) {
            Ok(parts) => Self {
                audio_kind: parts.audio_kind(config),
                fps: config.fps.or(parts.fps),
                generator: Some(parts.generator),
                audio_encoder: encoder.or(parts.audio_encoder),
                frames: Some(parts.frames),
                rectangles: Some(parts.rectangles),
                n_frames: parts.n_frames,
            },
            Err(error) => {
                missing.push(error);
                Self::default()
            }
        }
    }
}

/// Where the parts of a model are.
struct Parts {
    generator: PathBuf,
    audio_encoder: Option<PathBuf>,
    audio_kind: Option<AudioKind>,
    fps: Option<u32>,
    cuts_output: bool,
    feather: u8,
    rest: Rest,
    frames: PathBuf,
    rectangles: PathBuf,
    n_frames: Option<u32>,
}

impl Avatar {
    /// Finds and reads the description of a configured model, which may have so many frames.
    pub(crate) fn find(config: &ModelConfig, max_frames: usize) -> Result<Self, RegistryError> {
        let fence = Fence::around(config)?;
        let parts = Parts::find(config, &fence)?;
        let kind = match parts.audio_kind(config) {
            Some(kind) => kind,
            None => {
                let kind = infer_audio_kind(&parts, &fence)?;
                let model = &config.id;
                tracing::info!(%model, audio_kind = %kind, "audio kind taken from the generator's audio window");
                kind
            }
        };
        let audio = audio_form(kind);
        let fps = parts.fps(config, audio)?;
        let frames = frames(&parts, &fence, max_frames)?;
        let rectangles = pair(&frames, rectangles::read(&fence, &parts.rectangles)?)?;
        if rectangles.len() > frames.paths.len() && parts.n_frames.is_none() {
            let (n_rectangles, n_frames) = (rectangles.len(), frames.paths.len());
            let model = &config.id;
            tracing::warn!(%model, n_rectangles, n_frames, "more crop rectangles than background frames");
        }
        Ok(Self {
            generator: parts.generator,
            audio_encoder: config.audio_encoder.clone().or(parts.audio_encoder),
            audio,
            fps,
            cuts_output: parts.cuts_output,
            feather: parts.feather,
            rest: parts.rest,
            rectangles: rectangles.into_iter().take(frames.paths.len()).collect(),
            frames: frames.paths,
            fence: Arc::new(fence),
        })
    }
}

/// Whether the parts of a model are where they should be. Reads nothing but its manifest, and loads nothing.
///
/// # Errors
/// What is missing, or wrong with the manifest.
pub fn looks_whole(config: &ModelConfig) -> Result<(), RegistryError> {
    Avatar::glance(config)
}

impl Avatar {
    /// Whether the parts of a configured model are where they should be. Reads nothing but its manifest.
    pub(crate) fn glance(config: &ModelConfig) -> Result<(), RegistryError> {
        let fence = Fence::around(config)?;
        let parts = Parts::find(config, &fence)?;
        // Where nobody names the kind, only the generator shows it, which is not read here.
        if let Some(kind) = parts.audio_kind(config) {
            parts.fps(config, audio_form(kind))?;
        }
        let encoder = config.audio_encoder.as_ref();
        let encoder = encoder.or(parts.audio_encoder.as_ref());
        let named = [
            (Some(&parts.generator), "generator"),
            (encoder, "audio encoder"),
            (Some(&parts.frames), FRAMES),
            (Some(&parts.rectangles), "crop rectangles"),
        ];
        for (path, what) in named {
            path.map(|path| fence.resolve(path, what)).transpose()?;
        }
        Ok(())
    }
}

/// The rectangles from that of the first frame on, at least one a frame.
fn pair(frames: &Numbered, rectangles: Rectangles) -> Result<Vec<CropRect>, RegistryError> {
    let Rectangles { first, mut rects } = rectangles;
    let n_frames = frames.paths.len();
    let Some(first) = first else {
        if rects.len() < n_frames {
            let n_rectangles = rects.len();
            return Err(RegistryError::RectangleCount {
                n_rectangles,
                n_frames,
            });
        }
        return Ok(rects);
    };
    let n_before = frames.first.checked_sub(first);
    let n_before = n_before.and_then(|n| usize::try_from(n).ok());
    match n_before.filter(|&n| rects.len().saturating_sub(n) >= n_frames) {
        Some(n_before) => {
            rects.drain(..n_before);
            Ok(rects)
        }
        None => Err(RegistryError::RectangleNumbers {
            first_frame: frames.first,
            last_frame: frames.first.saturating_add(n_frames as u64 - 1),
            first,
            n_rectangles: rects.len(),
        }),
    }
}

/// The kind of audio whose windows have the shape that the generator reads: no two kinds share one.
fn infer_audio_kind(parts: &Parts, fence: &Fence) -> Result<AudioKind, RegistryError> {
    const WHAT: &str = "generator";
    let onnx = network_file::read(fence, &parts.generator, WHAT)?;
    let found = lipsync_engine::audio_shape(&onnx).map_err(|error| load::network(WHAT, error))?;
    let kind = Family::kind_of_window(found);
    kind.ok_or(RegistryError::AudioKindMissing { found })
}

/// How a kind of audio comes to the networks that are served.
pub(crate) fn audio_form(kind: AudioKind) -> &'static AudioForm {
    Family::form_of(kind)
}

fn frames(parts: &Parts, fence: &Fence, max_frames: usize) -> Result<Numbered, RegistryError> {
    let folder = fence.resolve(&parts.frames, FRAMES)?;
    let mut frames = numbered::list(&folder, FRAMES, &FRAME_EXTENSIONS)?;
    if let Some(configured) = parts.n_frames {
        let wanted = usize_of(configured);
        if wanted > frames.paths.len() {
            return Err(RegistryError::MissingFrames {
                configured,
                found: frames.paths.len(),
            });
        }
        frames.paths.truncate(wanted);
    }
    if frames.paths.is_empty() {
        return Err(numbered::no_frames(&folder));
    }
    if frames.paths.len() > max_frames {
        return Err(RegistryError::TooManyFrames {
            n_frames: frames.paths.len(),
            max_frames,
        });
    }
    Ok(frames)
}

impl Parts {
    fn find(config: &ModelConfig, fence: &Fence) -> Result<Self, RegistryError> {
        match &config.source {
            ModelSource::Folder(folder) => {
                let manifest = folder.join(manifest::FILE_NAME);
                if manifest.exists() {
                    Manifest::read(fence, &manifest).map(|m| Self::from_manifest(m, config))
                } else {
                    Self::recognise(folder, fence, config.audio_encoder.as_deref())
                }
            }
            ModelSource::Parts {
                model_path,
                background_dir,
                crop_rects_path,
                n_frames,
            } => Ok(Self {
                generator: model_path.clone(),
                audio_encoder: None,
                audio_kind: None,
                fps: None,
                cuts_output: false,
                feather: 0,
                rest: Rest::default(),
                frames: background_dir.clone(),
                rectangles: crop_rects_path.clone(),
                n_frames: *n_frames,
            }),
        }
    }

    fn audio_kind(&self, config: &ModelConfig) -> Option<AudioKind> {
        config.audio_kind.or(self.audio_kind)
    }

    /// Frames per second, which must be the rate of the feature steps where the server makes them.
    fn fps(&self, config: &ModelConfig, audio: &AudioForm) -> Result<Fps, RegistryError> {
        let step_fps = audio.fps.get();
        let fps = config.fps.or(self.fps).unwrap_or(step_fps);
        let checked = checked_fps(fps).ok_or(RegistryError::Fps { fps })?;
        if fps == step_fps || audio.source == WindowSource::Client {
            return Ok(checked);
        }
        let encoder = config.audio_encoder.as_ref();
        if encoder.or(self.audio_encoder.as_ref()).is_some() {
            return Err(RegistryError::EncoderFps { fps, step_fps });
        }
        let model = &config.id;
        tracing::warn!(%model, fps, step_fps, "feature steps have another fps: the model takes whole windows only");
        Ok(checked)
    }

    fn from_manifest(manifest: Manifest, config: &ModelConfig) -> Self {
        tracing::debug!(
            model = %config.id,
            name = manifest.name.as_deref().map(shown),
            license = manifest.license.as_deref().map(shown),
            "manifest read"
        );
        Self {
            generator: manifest.generator,
            audio_encoder: manifest.audio_encoder,
            audio_kind: manifest.audio_kind,
            fps: manifest.fps,
            cuts_output: manifest.cut_output,
            feather: manifest.feather,
            rest: manifest.rest,
            frames: manifest.frames,
            rectangles: manifest.crop_rectangles,
            n_frames: None,
        }
    }

    fn recognise(
        folder: &Path,
        fence: &Fence,
        encoder: Option<&Path>,
    ) -> Result<Self, RegistryError> {
        if !folder.is_dir() {
            return Err(RegistryError::File {
                what: "model's folder",
                kind: std::io::ErrorKind::NotFound,
                path: folder.to_owned(),
            });
        }
        Ok(Self {
            frames: frames_of(folder)?,
            rectangles: rectangles_of(folder)?,
            generator: generator(folder, fence, encoder)?,
            audio_encoder: None,
            audio_kind: None,
            fps: None,
            cuts_output: false,
            feather: 0,
            rest: Rest::default(),
            n_frames: None,
        })
    }
}

fn frames_of(folder: &Path) -> Result<PathBuf, RegistryError> {
    first_existing(folder, &FRAME_FOLDERS, "frames or full_body_img folder")
}

fn rectangles_of(folder: &Path) -> Result<PathBuf, RegistryError> {
    first_existing(folder, &RECTANGLES, "crop_rects.json or landmarks folder")
}

fn first_existing(
    folder: &Path,
    names: &[&str],
    expected: &'static str,
) -> Result<PathBuf, RegistryError> {
    let mut candidates = names.iter().map(|name| folder.join(name));
    candidates
        .find(|path| path.exists())
        .ok_or_else(|| missing(folder, expected))
}

/// `checkpoint/model_best.onnx`, or else the only ONNX file in `checkpoint/`, or else the only one
/// in the folder itself. The configured audio encoder may lie beside it.
fn generator(
    folder: &Path,
    fence: &Fence,
    encoder: Option<&Path>,
) -> Result<PathBuf, RegistryError> {
    let checkpoints = folder.join("checkpoint");
    let best = checkpoints.join("model_best.onnx");
    if best.exists() {
        return Ok(best);
    }
    for place in [checkpoints.as_path(), folder] {
        let mut found = onnx_files(place, fence)?;
        found.retain(|path| Some(path.as_path()) != encoder);
        if found.len() > 1 {
            return Err(missing(
                folder,
                "model_best.onnx, and several other ONNX files",
            ));
        }
        if let Some(path) = found.pop() {
            return Ok(path);
        }
    }
    Err(missing(folder, "ONNX file"))
}

fn onnx_files(folder: &Path, fence: &Fence) -> Result<Vec<PathBuf>, RegistryError> {
    let mut found = Vec::new();
    if folder.is_dir() {
        fence.resolve(folder, "model's folder")?;
        for path in files::entries(folder, "model's folder")? {
            let path = path?;
            if path.extension().is_some_and(|e| e == "onnx") && path.is_file() {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn shown(text: &str) -> String {
    Foreign(text).to_string()
}

fn missing(folder: &Path, expected: &'static str) -> RegistryError {
    RegistryError::Layout {
        expected,
        path: folder.to_owned(),
    }
}

#[cfg(test)]
mod tests;
