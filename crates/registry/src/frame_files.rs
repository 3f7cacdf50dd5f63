//! The background frames of a model as they lie on the disk.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use lipsync_compositor::{
    BakeSettings, CompositorError, DecodeLimits, FaceCrop, Picture, bake, decode, probe,
};
use lipsync_core::{
    CropRect, FaceGeometry, Foreign, PixelRect,
    saturate::{u32_of, usize_of},
};

use crate::{
    BackgroundFrame, RegistryError, face_rects,
    fence::Fence,
    files,
    pack::{Recipe, Stamp},
};

const WHAT: &str = "background frame";
const DECODING: &str = "decoding a background frame";
/// Frames in a row that may be damaged before the search for a good one ends: each may be a large file.
const MAX_DAMAGED: usize = 64;

/// Paths and rectangles of all frames, and the size that every frame must have.
#[derive(Debug)]
pub(crate) struct FrameFiles {
    fence: Arc<Fence>,
    frames: Vec<(PathBuf, PixelRect)>,
    /// Of each frame when the model was loaded; `None` where there was no file.
    stamps: Vec<Option<Stamp>>,
    damage: Vec<(u32, RegistryError)>,
    width: usize,
    height: usize,
}

impl FrameFiles {
    /// Takes the size from the header of the first frame that has one, compares the last one's, and fits every
    /// rectangle to it. The frames between are only looked at, whether they are files and inside the
    /// fence, and compared when they are decoded: opening thousands of files would make every load slow.
    ///
    /// What is found to be damaged on the way is noted, whichever frame it is.
    pub(crate) fn check(
        fence: &Arc<Fence>,
        paths: Vec<PathBuf>,
        rectangles: &[CropRect],
    ) -> Result<Self, RegistryError> {
        let mut survey = Survey {
            fence,
            paths: &paths,
            stamps: Vec::with_capacity(paths.len()),
            damage: Vec::new(),
        };
        survey.look()?;
        let (_, (width, height)) = survey.first_good(0..paths.len())?;
        let (last, found) = survey.first_good((0..paths.len()).rev())?;
        expect_size(last, found, (width, height))?;
        let Survey { stamps, damage, .. } = survey;
        let rectangles = face_rects::fit(rectangles, width, height)?;
        Ok(Self {
            stamps,
            damage,
            fence: Arc::clone(fence),
            frames: paths.into_iter().zip(rectangles).collect(),
            width,
            height,
        })
    }

    /// The frames that were found to be damaged when the model was loaded, and how.
    pub(crate) fn damage(&self) -> &[(u32, RegistryError)] {
        &self.damage
    }

    /// Whether its links may lead anywhere.
    pub(crate) fn follows_links(&self) -> bool {
        self.fence.follows_links()
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn height(&self) -> usize {
        self.height
    }

    pub(crate) fn len(&self) -> u32 {
        u32_of(self.frames.len())
    }

    pub(crate) fn rects(&self) -> impl Iterator<Item = PixelRect> {
        self.frames.iter().map(|(_, rect)| *rect)
    }

    /// The face rectangle of a frame.
    pub(crate) fn rect(&self, index: u32) -> Result<PixelRect, RegistryError> {
        self.find(index).map(|(_, _, rect)| rect)
    }

    /// The file of a frame.
    #[cfg(test)]
    pub(crate) fn path(&self, index: u32) -> Result<&Path, RegistryError> {
        self.find(index).map(|(_, path, _)| path)
    }

    /// What a pack of these frames must have been baked from.
    pub(crate) fn recipe(&self, settings: String) -> io::Result<Recipe> {
        let frames = self.frames.iter();
        Recipe::of(settings, frames.map(|(path, rect)| (path.as_path(), *rect)))
    }

    /// Reads and decodes a frame. The size is checked before anything is decoded.
    pub(crate) fn picture(&self, index: u32) -> Result<Picture, RegistryError> {
        self.make(index, |picture, _| Ok(picture))
    }

    /// Reads a frame and cuts its face out.
    pub(crate) fn crop(
        &self,
        index: u32,
        geometry: FaceGeometry,
    ) -> Result<FaceCrop, RegistryError> {
        self.make(index, |picture, rect| {
            FaceCrop::cut(&picture, rect, geometry)
        })
    }

    /// Reads a frame and bakes it.
    pub(crate) fn bake(
        &self,
        index: u32,
        geometry: FaceGeometry,
        settings: &BakeSettings,
    ) -> Result<BackgroundFrame, RegistryError> {
        self.make(index, |picture, rect| {
            let crop = FaceCrop::cut(&picture, rect, geometry)?;
            Ok(BackgroundFrame {
                baked: bake(&picture, rect, settings)?,
                crop: Some(crop),
            })
        })
    }

    fn make<T>(
        &self,
        index: u32,
        from: impl FnOnce(Picture, PixelRect) -> Result<T, CompositorError>,
    ) -> Result<T, RegistryError> {
        let (place, path, rect) = self.find(index)?;
        let Some(stamp) = self.stamps[place] else {
            return Err(damaged(
                place,
                path,
                "there was no file when the model was loaded",
            ));
        };
        let bytes = read(&self.fence, place, path)?;
        // Asked for after it was read: a file that was changed meanwhile is noticed, too. Its face may be
        // elsewhere, and other frames of the model come from what it was before.
        if look(&self.fence, path).ok() != Some(stamp) {
            return Err(RegistryError::FrameChanged {
                index: place,
                path: path.to_owned(),
            });
        }
        let found = size_of(place, path, &bytes)?;
        expect_size(place, found, (self.width, self.height))?;
        let made = catch_unwind(AssertUnwindSafe(|| {
            from(decode(&bytes, DecodeLimits::default())?, rect)
        }));
        match made {
            Ok(made) => made.map_err(|e| broken(place, path, &e)),
            Err(_) => Err(RegistryError::Panicked { what: DECODING }),
        }
    }

    /// Whether an error says that a frame can never be shown: it is no picture, has another size, or cannot be
    /// read. What was removed or changed since the model was loaded is no damage but the operator's doing.
    pub(crate) fn is_damage(error: &RegistryError) -> bool {
        match error {
            RegistryError::Frame { .. }
            | RegistryError::FrameSize { .. }
            | RegistryError::Panicked { what: DECODING } => true,
            // Those that were not there when the model was loaded are known.
            RegistryError::FrameFile { kind, .. } => *kind != io::ErrorKind::NotFound,
            _ => false,
        }
    }

    fn find(&self, index: u32) -> Result<(usize, &Path, PixelRect), RegistryError> {
        let place = usize_of(index);
        match self.frames.get(place) {
            Some((path, rect)) => Ok((place, path, *rect)),
            None => Err(RegistryError::FrameIndex {
                index,
                n_frames: self.len(),
            }),
        }
    }
}

/// A look at all frames of a model that is being loaded.
struct Survey<'a> {
    fence: &'a Fence,
    paths: &'a [PathBuf],
    stamps: Vec<Option<Stamp>>,
    damage: Vec<(u32, RegistryError)>,
}

impl Survey<'_> {
    /// Looks at every file, without opening it. One that is none is damage; a link that leads out of the model's
    /// folder is refused.
    fn look(&mut self) -> Result<(), RegistryError> {
        for (index, path) in self.paths.iter().enumerate() {
            let stamp = match look(self.fence, path) {
                Ok(stamp) => Some(stamp),
                Err(RegistryError::File { kind, .. }) => {
                    let number = u32_of(index);
                    let error = damaged(index, path, missing(kind));
                    self.damage.push((number, error));
                    None
                }
                Err(error) => return Err(error),
            };
            self.stamps.push(stamp);
        }
        Ok(())
    }

    /// The first of some frames that has a size, and the size. Fails as the first of them does where none has.
    fn first_good(
        &mut self,
        order: impl Iterator<Item = usize>,
    ) -> Result<(usize, (usize, usize)), RegistryError> {
        for index in order.take(MAX_DAMAGED) {
            if self.stamps[index].is_none() {
                continue;
            }
            match self.size(index) {
                Ok(size) => return Ok((index, size)),
                Err(error) if FrameFiles::is_damage(&error) => self.note(index, error),
                Err(error) => return Err(error),
            }
        }
        let first = self.damage.iter().min_by_key(|(index, _)| *index);
        Err(first.map_or(RegistryError::NoFrames, |(_, error)| error.clone()))
    }

    fn size(&self, index: usize) -> Result<(usize, usize), RegistryError> {
        let path = &self.paths[index];
        let (width, height) = size_of(index, path, &read(self.fence, index, path)?)?;
        let checked = DecodeLimits::default().check(width, height);
        checked.map_err(|e| broken(index, path, &e))?;
        Ok((width, height))
    }

    fn note(&mut self, index: usize, error: RegistryError) {
        let index = u32_of(index);
        if self.damage.iter().all(|(known, _)| *known != index) {
            self.damage.push((index, error));
        }
    }
}

/// Why what lies in the place of a frame is no file.
fn missing(kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::NotFound => "it is a link that leads nowhere".into(),
        io::ErrorKind::InvalidInput => "it is no file".into(),
        kind => format!("it cannot be looked at: {kind}"),
    }
}

fn read(fence: &Fence, index: usize, path: &Path) -> Result<Vec<u8>, RegistryError> {
    let bytes = files::read(fence, path, WHAT, files::MAX_FRAME_BYTES);
    bytes.map_err(|error| match error {
        RegistryError::File { kind, path, .. } => RegistryError::FrameFile { index, kind, path },
        RegistryError::FileTooLarge { limit_bytes, .. } => {
            let reason = format!("its file is larger than {limit_bytes} bytes");
            damaged(index, path, reason)
        }
        other => other,
    })
}

fn look(fence: &Fence, path: &Path) -> Result<Stamp, RegistryError> {
    fence.look(path, WHAT).map(|metadata| Stamp::of(&metadata))
}

fn size_of(index: usize, path: &Path, bytes: &[u8]) -> Result<(usize, usize), RegistryError> {
    probe(bytes).map_err(|e| broken(index, path, &e))
}

fn expect_size(
    index: usize,
    (found_width, found_height): (usize, usize),
    (width, height): (usize, usize),
) -> Result<(), RegistryError> {
    if (found_width, found_height) == (width, height) {
        return Ok(());
    }
    Err(RegistryError::FrameSize {
        index,
        found_width,
        found_height,
        width,
        height,
    })
}

fn broken(index: usize, path: &Path, error: &CompositorError) -> RegistryError {
    damaged(index, path, Foreign(&error.to_string()).to_string())
}

fn damaged(index: usize, path: &Path, reason: impl Into<String>) -> RegistryError {
    RegistryError::Frame {
        index,
        reason: reason.into(),
        path: path.to_owned(),
    }
}
