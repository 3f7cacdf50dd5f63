//! `avatar.yaml`, the description of a model that lies in its folder.
//!
//! ```yaml
//! name: Mira                            # for people
//! audio_kind: ave                       # ave, hubert or wenet
//! fps: 25                               # optional: the audio kind's
//! generator: generator.onnx
//! audio_encoder: audio_encoder.onnx     # optional
//! frames: frames                        # a folder of numbered JPEG or PNG files
//! crop_rectangles: crop_rectangles.json # or a folder of .lms landmarks
//! license: MIT OR Apache-2.0            # optional, for people
//! about: { anything: at all }           # optional
//! ```
//!
//! Unknown keys outside `about` are refused. Paths are relative to the folder and stay inside it.

use std::path::{Component, Path, PathBuf};

use lipsync_core::AudioKind;
use serde::{Deserialize, de::IgnoredAny};

use crate::{RegistryError, files};

/// The name of a manifest in its folder.
pub(crate) const FILE_NAME: &str = "avatar.yaml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub name: Option<String>,
    #[serde(with = "AudioKindName")]
    pub audio_kind: AudioKind,
    pub fps: Option<u32>,
    pub generator: PathBuf,
    pub audio_encoder: Option<PathBuf>,
    pub frames: PathBuf,
    pub crop_rectangles: PathBuf,
    pub license: Option<String>,
    #[serde(rename = "about")]
    _about: Option<IgnoredAny>,
}

impl Manifest {
    /// Reads the manifest at `path`; its paths are absolute, or as absolute as `path`, afterwards.
    pub(crate) fn read(path: &Path) -> Result<Self, RegistryError> {
        let text = files::read_text(path, FILE_NAME)?;
        let mut manifest: Self = serde_yaml::from_str(&text).map_err(|e| {
            let (line, column) = e.location().map_or((1, 1), |l| (l.line(), l.column()));
            RegistryError::Manifest {
                line,
                column,
                reason: e.to_string(),
                path: path.to_owned(),
            }
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let inside = |key, relative: &mut PathBuf| {
            let stays = |c| matches!(c, Component::Normal(_) | Component::CurDir);
            if relative.as_os_str().is_empty() || !relative.components().all(stays) {
                return Err(RegistryError::ManifestPath {
                    key,
                    path: path.to_owned(),
                });
            }
            *relative = folder.join(&*relative);
            Ok(())
        };
        inside("generator", &mut manifest.generator)?;
        inside("frames", &mut manifest.frames)?;
        inside("crop_rectangles", &mut manifest.crop_rectangles)?;
        if let Some(encoder) = &mut manifest.audio_encoder {
            inside("audio_encoder", encoder)?;
        }
        Ok(manifest)
    }
}

/// Tells serde how an [`AudioKind`] is written; core knows no serialisation.
#[derive(Deserialize)]
#[serde(remote = "AudioKind", rename_all = "lowercase")]
enum AudioKindName {
    Ave,
    Hubert,
    Wenet,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "audio_kind: ave\ngenerator: g.onnx\nframes: frames\ncrop_rectangles: r.json\n";

    fn read(text: &str) -> Result<Manifest, RegistryError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, text).expect("written");
        Manifest::read(&path)
    }

    #[test]
    fn paths_become_those_of_the_folder() {
        let text = format!("{GOOD}audio_encoder: ./nets/a.onnx\nabout:\n  any: [1, {{x: y}}]\n");
        let manifest = read(&text).expect("a manifest");
        let folder = manifest.generator.parent().expect("a folder");
        assert!(folder.is_absolute());
        assert_eq!(manifest.audio_encoder, Some(folder.join("nets/a.onnx")));
        assert_eq!((manifest.audio_kind, manifest.fps), (AudioKind::Ave, None));
    }

    #[test]
    fn unknown_missing_and_wrong_keys_are_refused_with_their_place() {
        for (text, at, expected) in [
            (format!("{GOOD}fsp: 25\n"), (5, 1), "unknown field `fsp`"),
            (format!("{GOOD}fps: many\n"), (5, 6), "invalid type"),
            (
                GOOD.replace("ave", "mp3"),
                (1, 13),
                "expected one of `ave`, `hubert`, `wenet`",
            ),
            (
                GOOD.replace("frames: frames\n", ""),
                (1, 1),
                "missing field `frames`",
            ),
            (
                format!("{GOOD}fps: 25\nfps: 25\n"),
                (1, 1),
                "duplicate field `fps`",
            ),
            ("audio_kind: ave\ngenerator: {".into(), (2, 12), ""),
        ] {
            match read(&text) {
                Err(RegistryError::Manifest {
                    line,
                    column,
                    reason,
                    ..
                }) => {
                    assert_eq!((line, column), at, "{reason}");
                    assert!(reason.contains(expected), "{reason}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        for bad in ["/etc/passwd", "../g.onnx", "nets/../../g.onnx", "''"] {
            let error = read(&GOOD.replace("g.onnx", bad)).expect_err(bad);
            assert!(
                matches!(
                    error,
                    RegistryError::ManifestPath {
                        key: "generator",
                        ..
                    }
                ),
                "{bad}"
            );
            assert!(!error.to_string().contains("etc"));
            assert!(error.detail().contains(FILE_NAME));
        }
    }
}
