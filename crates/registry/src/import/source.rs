//! What a source folder is, and where its parts are.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use lipsync_core::{AudioKind, CropRect, Family, Foreign, family::WindowSource};
use lipsync_engine::{Role, inspect};

use super::{ImportError, ImportOrder, Networks, coords};
use crate::{
    RegistryError, Rest,
    fence::Fence,
    files,
    layout::{FRAME_EXTENSIONS, FRAMES},
    load, manifest, network_file,
    numbered::{self, Gathered},
    rectangles,
};

/// Folders below the source in which networks are looked for, and their files in all.
const MAX_DEPTH: usize = 3;
const MAX_LOOKED_AT: usize = 2000;
const PICTURES: [&str; 6] = [
    "frames",
    "full_body_img",
    "full_imgs",
    "face_imgs",
    "landmarks",
    "parsing",
];
/// Checkpoints, which hold weights and no network.
const CHECKPOINTS: [&str; 4] = ["pth", "pt", "ckpt", "safetensors"];

/// Whose layout a source has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// With an `avatar.yaml`.
    Ours,
    /// `frames` and `crop_rects.json` or `cache/crop_rectangles.json`.
    ServerPackage,
    /// `full_body_img` and `landmarks`, with an AVE network.
    SyncTalk2d,
    /// `full_body_img` and `landmarks`, with a HuBERT or wenet network.
    Ultralight,
    /// `full_imgs` and `coords.pkl`.
    LiveTalking,
}

/// What is to be imported.
#[derive(Debug)]
pub(super) struct Source {
    pub layout: Layout,
    pub networks: Networks,
    /// At least one, in order.
    pub frames: Vec<(PathBuf, CropRect)>,
    /// What a manifest of ours says besides.
    pub carried: Carried,
}

/// What goes from one manifest to the other as it is.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub name: Option<String>,
    pub fps: Option<u32>,
    pub license: Option<String>,
    pub cuts_output: bool,
    pub feather: u8,
    pub rest: Rest,
}

/// Finds all parts of a source.
pub(super) fn find(
    order: &ImportOrder,
    fence: &Fence,
    lines: &mut Vec<String>,
) -> Result<Source, ImportError> {
    let folder = &order.source;
    if folder.join(manifest::FILE_NAME).exists() {
        return of_manifest(order, fence, lines);
    }
    let has = |name: &str| folder.join(name).exists();
    let networks = |lines: &mut Vec<String>| networks(order, fence, lines);
    let rectangles = ["crop_rects.json", "cache/crop_rectangles.json"];
    if has("full_imgs") && has("coords.pkl") {
        lines.push("full_imgs and coords.pkl: an avatar of LiveTalking".into());
        let networks = networks(lines)?;
        let frames = list(&folder.join("full_imgs"), fence)?;
        let audio = networks.audio;
        let rects = coords::of_pickle(&folder.join("coords.pkl"), (&frames, fence, audio), lines)?;
        let rects = Rects::InOrder(rects);
        return Ok(Source {
            layout: Layout::LiveTalking,
            networks,
            frames: pair(frames, rects, order.max_frames, lines)?,
            carried: Carried::default(),
        });
    }
    let (layout, frames, rects) = if has("full_body_img") && has("landmarks") {
        (Layout::SyncTalk2d, "full_body_img", "landmarks")
    } else if let Some(name) = rectangles
        .into_iter()
        .find(|name| has("frames") && has(name))
    {
        (Layout::ServerPackage, "frames", name)
    } else {
        let path = folder.clone();
        return Err(ImportError::Layout { path });
    };
    let networks = networks(lines)?;
    let layout = match (layout, networks.audio) {
        (Layout::SyncTalk2d, AudioKind::Hubert | AudioKind::Wenet) => Layout::Ultralight,
        (layout, _) => layout,
    };
    lines.insert(0, format!("{frames} and {rects}: {layout}"));
    let listed = list(&folder.join(frames), fence)?;
    let rects = of_rectangles(&folder.join(rects), fence)?;
    Ok(Source {
        layout,
        networks,
        frames: pair(listed, rects, order.max_frames, lines)?,
        carried: Carried::default(),
    })
}

/// A folder with a manifest: what it names, and what the order names instead.
fn of_manifest(
    order: &ImportOrder,
    fence: &Fence,
    lines: &mut Vec<String>,
) -> Result<Source, ImportError> {
    let read = manifest::Manifest::read(fence, &order.source.join(manifest::FILE_NAME))?;
    lines.push("avatar.yaml: a folder of ours".into());
    let order = ImportOrder {
        generator: order.generator.clone().or(Some(read.generator)),
        audio_encoder: order.audio_encoder.clone().or(read.audio_encoder),
        ..order.clone()
    };
    let networks = networks(&order, fence, lines)?;
    let frames = list(&read.frames, fence)?;
    let rects = of_rectangles(&read.crop_rectangles, fence)?;
    Ok(Source {
        layout: Layout::Ours,
        networks,
        frames: pair(frames, rects, order.max_frames, lines)?,
        carried: Carried {
            name: read.name,
            fps: read.fps,
            license: read.license,
            cuts_output: read.cut_output,
            feather: read.feather,
            rest: read.rest,
        },
    })
}

fn networks(
    order: &ImportOrder,
    fence: &Fence,
    lines: &mut Vec<String>,
) -> Result<Networks, ImportError> {
    let mut candidates = Candidates::default();
    candidates.gather(&order.source, MAX_DEPTH)?;
    let (mut generators, mut encoders) = (Vec::new(), Vec::new());
    for path in candidates.networks {
        match role(&path, fence) {
            Ok(Role::Generator { audio, region_px }) => generators.push((path, audio, region_px)),
            Ok(Role::AudioEncoder { audio, .. }) => encoders.push((path, audio)),
            Err(reason) => candidates.others.push(format!("{}: {reason}", name(&path))),
        }
    }
    if let Some(path) = &order.generator {
        let role = named_role(path, fence)?;
        let Role::Generator { audio, region_px } = role else {
            let reason = format!("{}: {role}, and no generator", name(path));
            return Err(ImportError::Frames { reason });
        };
        generators = vec![(path.clone(), audio, region_px)];
    }
    let is_best = |(path, ..): &&(PathBuf, AudioKind, usize)| {
        path.file_name()
            .is_some_and(|name| name == "model_best.onnx")
    };
    let best = generators.iter().find(is_best).cloned();
    let (generator, audio, region_px) = match (best, generators.len()) {
        (Some(best), _) => best,
        (None, 1) => generators.remove(0),
        (None, 0) => {
            return Err(ImportError::NoGenerator {
                path: order.source.clone(),
                found: candidates.others,
            });
        }
        (None, _) => {
            return Err(ImportError::Generators {
                path: order.source.clone(),
                names: generators.iter().map(|(path, ..)| name(path)).collect(),
            });
        }
    };
    lines.push(format!(
        "{}: the generator of {region_px}-pixel faces with {audio} audio",
        name(&generator)
    ));
    let audio_encoder = encoder(order, audio, (encoders, fence), lines)?;
    Ok(Networks {
        generator,
        audio,
        audio_encoder,
    })
}

/// The audio encoder that a generator needs: named, or the first that was found.
fn encoder(
    order: &ImportOrder,
    audio: AudioKind,
    (found, fence): (Vec<(PathBuf, AudioKind)>, &Fence),
    lines: &mut Vec<String>,
) -> Result<Option<PathBuf>, ImportError> {
    if let Some(path) = &order.audio_encoder {
        let role = named_role(path, fence)?;
        if !matches!(role, Role::AudioEncoder { audio: of, .. } if of == audio) {
            let reason = format!("{}: {role}, and no audio encoder of {audio}", name(path));
            return Err(ImportError::Frames { reason });
        }
    }
    let mut fitting = found.into_iter().filter(|(_, of)| *of == audio);
    let found = fitting.next().map(|(path, _)| path);
    let path = order.audio_encoder.clone().or(found);
    let source = Family::form_of(audio).source;
    lines.push(match (source, &path) {
        (WindowSource::Client, _) => {
            format!("{audio} features are made by clients: no audio encoder is copied")
        }
        (WindowSource::Mel, _) => {
            "the generator hears the spectrogram itself: no audio encoder is needed".into()
        }
        (WindowSource::Steps(_), Some(path)) => format!("{}: the audio encoder", name(path)),
        (WindowSource::Steps(_), None) => {
            "no audio encoder: clients cannot send sound until avatar.yaml names one (--audio-encoder)".into()
        }
    });
    Ok(path.filter(|_| matches!(source, WindowSource::Steps(_))))
}

/// The role of a file that the operator named: it may lie anywhere.
fn named_role(path: &Path, fence: &Fence) -> Result<Role, ImportError> {
    let everywhere = Fence::everywhere();
    let is_inside = fence.resolve(path, "network").is_ok();
    let read = role(path, if is_inside { fence } else { &everywhere });
    read.map_err(|reason| ImportError::Frames {
        reason: format!("{}: {reason}", name(path)),
    })
}

fn role(path: &Path, fence: &Fence) -> Result<Role, String> {
    let onnx = network_file::read(fence, path, "network").map_err(|error| error.to_string())?;
    let inspection = inspect(&onnx).map_err(|error| load::network("network", error).to_string())?;
    inspection.serves_as
}

/// Files that may be networks.
#[derive(Debug, Default)]
struct Candidates {
    networks: Vec<PathBuf>,
    /// What else looks like one, in words.
    others: Vec<String>,
    n_looked_at: usize,
}

impl Candidates {
    /// Looks through a folder and those below. Links to folders are not followed.
    fn gather(&mut self, folder: &Path, depth: usize) -> Result<(), ImportError> {
        let mut paths: Vec<PathBuf> =
            files::entries(folder, "source")?.collect::<Result<_, _>>()?;
        paths.sort_unstable();
        for path in paths {
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            let extension = path
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default();
            if metadata.is_dir() {
                // Folders of thousands of pictures hold no network.
                let is_pictures = path
                    .file_name()
                    .is_some_and(|n| PICTURES.iter().any(|p| n == *p));
                if depth > 0 && !is_pictures {
                    self.gather(&path, depth - 1)?;
                }
                continue;
            }
            self.n_looked_at += 1;
            if self.n_looked_at > MAX_LOOKED_AT {
                return Ok(());
            }
            if extension == "onnx" {
                self.networks.push(path);
            } else if CHECKPOINTS.contains(&extension) {
                self.others.push(format!(
                    "{}: a checkpoint, which holds weights and no network: turn it into ONNX with tools/export",
                    name(&path)
                ));
            }
        }
        Ok(())
    }
}

/// The frames of a folder by their numbers.
fn list(folder: &Path, fence: &Fence) -> Result<BTreeMap<u64, PathBuf>, ImportError> {
    let real = fence.resolve(folder, FRAMES)?;
    let Gathered {
        numbered,
        unnumbered,
    } = numbered::gather(&real, FRAMES, &FRAME_EXTENSIONS)?;
    if let Some(path) = unnumbered.first() {
        let reason = format!("{}: its name has no number", name(path));
        return Err(ImportError::Frames { reason });
    }
    let mut frames = BTreeMap::new();
    for (number, path) in numbered {
        if let Some(other) = frames.insert(number, path) {
            let reason = format!("{}: another frame has its number", name(&other));
            return Err(ImportError::Frames { reason });
        }
    }
    Ok(frames)
}

enum Rects {
    Numbered(BTreeMap<u64, CropRect>),
    InOrder(Vec<CropRect>),
}

fn of_rectangles(path: &Path, fence: &Fence) -> Result<Rects, ImportError> {
    let read = rectangles::read(fence, path)?;
    Ok(match read.first {
        Some(first) => Rects::Numbered((first..).zip(read.rects).collect()),
        None => Rects::InOrder(read.rects),
    })
}

/// Gives each frame its rectangle. Frames and rectangles without the other are left out at the ends, and refused
/// between: the walk over an avatar goes from one frame to its neighbour.
fn pair(
    frames: BTreeMap<u64, PathBuf>,
    rects: Rects,
    max_frames: usize,
    lines: &mut Vec<String>,
) -> Result<Vec<(PathBuf, CropRect)>, ImportError> {
    let n_all = frames.len();
    let rects: BTreeMap<u64, CropRect> = match rects {
        Rects::Numbered(rects) => rects,
        Rects::InOrder(rects) => frames.keys().copied().zip(rects).collect(),
    };
    let paired: Vec<(u64, PathBuf, CropRect)> = frames
        .into_iter()
        .filter_map(|(number, path)| Some((number, path, *rects.get(&number)?)))
        .collect();
    let gap = paired.windows(2).find(|pair| pair[1].0 - pair[0].0 > 1);
    if let Some([before, after]) = gap {
        let reason = format!(
            "{} and {}: frames or rectangles between them are missing",
            name(&before.1),
            name(&after.1)
        );
        return Err(ImportError::Frames { reason });
    }
    let n_frames = paired.len();
    match n_frames {
        0 => return Err(RegistryError::NoFrames.into()),
        n if n > max_frames => {
            return Err(RegistryError::TooManyFrames {
                n_frames,
                max_frames,
            }
            .into());
        }
        n if n < n_all => lines.push(format!(
            "{} of {n_all} frames have no rectangle and are left out",
            n_all - n
        )),
        _ => {}
    }
    Ok(paired
        .into_iter()
        .map(|(_, path, rect)| (path, rect))
        .collect())
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    Foreign(&name.to_string_lossy()).to_string()
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "a folder of ours",
            Self::ServerPackage => "a server package",
            Self::SyncTalk2d => "a dataset of SyncTalk_2D",
            Self::Ultralight => "a dataset of Ultralight-Digital-Human",
            Self::LiveTalking => "an avatar of LiveTalking",
        })
    }
}
