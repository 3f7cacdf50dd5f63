//! `avatar.yaml`, the description of a model that lies in its folder.
//!
//! ```yaml
//! name: Mira                            # for people
//! audio_kind: ave                       # optional: ave, hubert, wenet or mel; checked against the generator
//! fps: 25                               # optional: the audio kind's
//! generator: generator.onnx
//! audio_encoder: audio_encoder.onnx     # optional
//! frames: frames                        # a folder of numbered JPEG or PNG files
//! crop_rectangles: crop_rectangles.json # or a folder of .lms landmarks
//! cut_output: false                     # optional: take a generator whose numbers leave 0..1, and cut them off
//! feather: 0                            # optional: how soft the edges of the face are, percent of its side
//! rest: background                      # optional: what is shown in silence; or generated
//! license: MIT OR Apache-2.0            # optional, for people
//! about: { anything: at all }           # optional
//! ```
//!
//! Unknown keys outside `about` are refused. Paths are relative to the folder and stay inside it.
//!
//! The parser takes time in the square of how deep a text is nested, so what could be deep is refused before it
//! is parsed.

use std::path::{Component, Path, PathBuf};

use lipsync_core::{AudioKind, Foreign};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::{RegistryError, Rest, fence::Fence, files, manifest_words::in_words};

/// The name of a manifest in its folder.
pub(crate) const FILE_NAME: &str = "avatar.yaml";
const MAX_BYTES: u64 = 256 * 1024;
/// What can open a level. They are counted wherever they stand, so that no quote or comment hides one from
/// this count that the parser sees.
const OPENERS: [char; 2] = ['[', '{'];
const MAX_OPENERS: usize = 1000;
/// Columns of spaces and of marks such as `- - -` before what stands in a line.
const MAX_INDENT: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub name: Option<String>,
    #[serde(default, deserialize_with = "kind")]
    pub audio_kind: Option<AudioKind>,
    pub fps: Option<u32>,
    pub generator: PathBuf,
    pub audio_encoder: Option<PathBuf>,
    pub frames: PathBuf,
    pub crop_rectangles: PathBuf,
    #[serde(default)]
    pub cut_output: bool,
    #[serde(default, deserialize_with = "feather")]
    pub feather: u8,
    #[serde(default)]
    pub rest: Rest,
    pub license: Option<String>,
    #[serde(rename = "about")]
    _about: Option<IgnoredAny>,
}

impl Manifest {
    /// Reads the manifest at `path`; its paths are absolute, or as absolute as `path`, afterwards.
    pub(crate) fn read(fence: &Fence, path: &Path) -> Result<Self, RegistryError> {
        let text = files::read_text(fence, path, FILE_NAME, MAX_BYTES)?;
        check_depth(&text, path)?;
        let mut manifest: Self = serde_yaml::from_str(&text).map_err(|e| {
            let (line, column) = e
                .location()
                .map_or((1, 1), |l| (l.line().max(1), l.column()));
            RegistryError::Manifest {
                line,
                column,
                reason: Foreign(&in_words(
                    &e.to_string(),
                    text.lines().nth(line - 1).unwrap_or_default(),
                ))
                .to_string(),
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

/// Refuses what could be nested deeply, in brackets or in indents.
fn check_depth(text: &str, path: &Path) -> Result<(), RegistryError> {
    let is_deep = |(_, line): &(usize, &str)| {
        let lead = line.trim_start_matches([' ', '\t', '-', '?', ':']);
        line.len() - lead.len() > MAX_INDENT
    };
    let n_openers = text.chars().filter(|c| OPENERS.contains(c)).count();
    let too_deep = text.lines().enumerate().find(is_deep);
    if n_openers <= MAX_OPENERS && too_deep.is_none() {
        return Ok(());
    }
    Err(RegistryError::Manifest {
        line: too_deep.map_or(1, |(index, _)| index + 1),
        column: 1,
        reason: format!(
            "at most {MAX_OPENERS} brackets and {MAX_INDENT} columns of indent are allowed"
        ),
        path: path.to_owned(),
    })
}

/// Tells serde how an [`AudioKind`] is written; core knows no serialisation.
#[derive(Deserialize)]
#[serde(remote = "AudioKind", rename_all = "lowercase")]
enum AudioKindName {
    Ave,
    Hubert,
    Wenet,
    Mel,
}

/// Most of a face's side that its soft edge takes, percent.
const MAX_FEATHER: u64 = 25;

fn feather<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let percent = u64::deserialize(from)?;
    let small = u8::try_from(percent)
        .ok()
        .filter(|_| percent <= MAX_FEATHER);
    small.ok_or_else(|| {
        serde::de::Error::custom(format!(
            "feather: expected 0 to {MAX_FEATHER} percent, found {percent}"
        ))
    })
}

fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<Option<AudioKind>, D::Error> {
    AudioKindName::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::folder;

    const GOOD: &str =
        "audio_kind: ave\ngenerator: g.onnx\nframes: frames\ncrop_rectangles: r.json\n";

    fn read(text: &str) -> Result<Manifest, RegistryError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, text).expect("written");
        let config = folder("mira", dir.path());
        Manifest::read(&Fence::around(&config).expect("a folder"), &path)
    }

    #[test]
    fn paths_become_those_of_the_folder() {
        let text = format!("{GOOD}audio_encoder: ./nets/a.onnx\nabout:\n  any: [1, {{x: y}}]\n");
        let manifest = read(&text).expect("a manifest");
        let folder = manifest.generator.parent().expect("a folder");
        assert!(folder.is_absolute());
        assert_eq!(manifest.audio_encoder, Some(folder.join("nets/a.onnx")));
        assert_eq!(
            (manifest.audio_kind, manifest.fps),
            (Some(AudioKind::Ave), None)
        );
    }

    #[test]
    fn unknown_missing_and_wrong_keys_are_refused_with_their_place() {
        for (text, at, expected) in [
            (
                format!("{GOOD}fsp: 25\n"),
                (5, 1),
                "there is no key fsp here; there are name,",
            ),
            (
                format!("{GOOD}fps: many\n"),
                (5, 6),
                "expected a whole number",
            ),
            (
                format!("{GOOD}feather: 26\n"),
                (1, 1),
                "feather: expected 0 to 25 percent, found 26",
            ),
            (
                GOOD.replace("ave", "mp3"),
                (1, 13),
                "expected ave, hubert, wenet, mel, found mp3",
            ),
            (
                GOOD.replace("frames: frames\n", ""),
                (1, 1),
                "the key frames is missing",
            ),
            (
                format!("{GOOD}fps: 25\nfps: 25\n"),
                (1, 1),
                "the key fps is there twice",
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
