//! `models.<id>`: where a model's files are, and how it is loaded.

use std::path::Path;

use lipsync_core::{AudioKind, Foreign, ModelId};
use lipsync_registry::{MAX_FPS, ModelConfig, ModelSource};
use serde::Deserialize;

use super::{
    BadValue,
    engine::RawPrecision,
    section::{in_range, section},
    text::Text,
    written_path::resolve,
};

section! {
    /// `models.<id>`, as it is written.
    RawModel in "models.<id>";
    hot path: Text;
    hot model_path: Text;
    hot background_dir: Text;
    hot crop_rects_path: Text;
    hot num_frames: u32;
    hot audio_encoder_path: Text;
    hot audio_kind: RawAudioKind;
    hot fps: u32;
    hot precision: RawPrecision;
    hot preload: bool = false;
    hot follow_links: bool = false;
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawAudioKind {
    Ave,
    Hubert,
    Wenet,
    Mel,
}

impl RawModel {
    /// Checks the model called `id`. What is not there below `root` goes into `missing`.
    pub(super) fn check(
        &self,
        id: &str,
        (root, missing): (&Path, &mut Vec<BadValue>),
    ) -> Result<ModelConfig, BadValue> {
        let key = format!("models.{id}");
        let bad = |key: String, message: String| BadValue { key, message };
        let model_id = ModelId::new(id).map_err(|e| bad(key.clone(), e.to_string()))?;
        let mut find = |name: &str, path: &str| {
            let key = format!("{key}.{name}");
            let path = resolve(&key, path, root)?;
            if !path.exists() {
                let message = format!("{} does not exist", shown(&path));
                missing.push(bad(key, message));
            }
            Ok(path)
        };
        let source = match (
            &self.path,
            &self.model_path,
            &self.background_dir,
            &self.crop_rects_path,
        ) {
            (Some(path), None, None, None) => ModelSource::Folder(find("path", path)?),
            (None, Some(model), Some(backgrounds), Some(rects)) => ModelSource::Parts {
                model_path: find("model_path", model)?,
                background_dir: find("background_dir", backgrounds)?,
                crop_rects_path: find("crop_rects_path", rects)?,
                n_frames: self.num_frames,
            },
            _ => {
                return Err(bad(
                key,
                "expected either path (an avatar's folder), or all of model_path, background_dir and crop_rects_path".into(),
            ));
            }
        };
        if self.num_frames.is_some() && matches!(source, ModelSource::Folder(_)) {
            return Err(bad(
                format!("{key}.num_frames"),
                "goes with model_path, not with path".into(),
            ));
        }
        if let Some(fps) = self.fps {
            in_range(&format!("{key}.fps"), fps.into(), 1..=MAX_FPS.into())?;
        }
        let audio_encoder = self.audio_encoder_path.as_deref();
        let audio_encoder = audio_encoder
            .map(|path| find("audio_encoder_path", path))
            .transpose()?;
        Ok(ModelConfig {
            id: model_id,
            source,
            audio_kind: self.audio_kind.map(|kind| match kind {
                RawAudioKind::Ave => AudioKind::Ave,
                RawAudioKind::Hubert => AudioKind::Hubert,
                RawAudioKind::Wenet => AudioKind::Wenet,
                RawAudioKind::Mel => AudioKind::Mel,
            }),
            fps: self.fps,
            audio_encoder,
            precision: self.precision.map(Into::into),
            preload: self.preload(),
            follow_links: self.follow_links(),
        })
    }
}

/// A path, as it goes into a message.
pub(super) fn shown(path: &Path) -> String {
    Foreign(&path.to_string_lossy()).to_string()
}
