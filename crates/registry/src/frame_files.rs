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

/// Paths and rectangles of all frames, and the size that every frame must have.
#[derive(Debug)]
pub(crate) struct FrameFiles {
    fence: Arc<Fence>,
    frames: Vec<(PathBuf, PixelRect)>,
    /// Of each frame when the model was loaded.
    stamps: Vec<Stamp>,
    width: usize,
    height: usize,
}

impl FrameFiles {
    /// Takes the size from the first frame's header, compares the last one's, and fits every
    /// rectangle to it. The frames between are only looked at, whether they are files and inside the
    /// fence, and compared when they are decoded: opening thousands of files would make every load slow.
    pub(crate) fn check(
        fence: &Arc<Fence>,
        paths: Vec<PathBuf>,
        rectangles: &[CropRect],
    ) -> Result<Self, RegistryError> {
        let (Some(first), Some(last)) = (paths.first(), paths.last()) else {
            return Err(RegistryError::NoFrames);
        };
        let (width, height) = size_of(0, first, &read(fence, first)?)?;
        let limits = DecodeLimits::default();
        limits
            .check(width, height)
            .map_err(|e| broken(0, first, &e))?;
        let last_index = paths.len() - 1;
        check_size(last_index, last, &read(fence, last)?, (width, height))?;
        let rectangles = face_rects::fit(rectangles, width, height)?;
        let stamps = paths.iter().map(|path| stamp(fence, path));
        Ok(Self {
            stamps: stamps.collect::<Result<_, _>>()?,
            fence: Arc::clone(fence),
            frames: paths.into_iter().zip(rectangles).collect(),
            width,
            height,
        })
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
        let bytes = read(&self.fence, path)?;
        // Asked for after it was read: a file that was changed meanwhile is noticed, too. Its face may be
        // elsewhere, and other frames of the model come from what it was before.
        if stamp(&self.fence, path).ok() != Some(self.stamps[place]) {
            return Err(RegistryError::FrameChanged {
                index: place,
                path: path.to_owned(),
            });
        }
        check_size(place, path, &bytes, (self.width, self.height))?;
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
            | RegistryError::FileTooLarge { .. }
            | RegistryError::Panicked { what: DECODING } => true,
            // Every frame was there when the model was loaded.
            RegistryError::File { kind, .. } => *kind != io::ErrorKind::NotFound,
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

fn read(fence: &Fence, path: &Path) -> Result<Vec<u8>, RegistryError> {
    files::read(fence, path, WHAT, files::MAX_FRAME_BYTES)
}

fn stamp(fence: &Fence, path: &Path) -> Result<Stamp, RegistryError> {
    fence.look(path, WHAT).map(|metadata| Stamp::of(&metadata))
}

fn size_of(index: usize, path: &Path, bytes: &[u8]) -> Result<(usize, usize), RegistryError> {
    probe(bytes).map_err(|e| broken(index, path, &e))
}

fn check_size(
    index: usize,
    path: &Path,
    bytes: &[u8],
    (width, height): (usize, usize),
) -> Result<(), RegistryError> {
    let (found_width, found_height) = size_of(index, path, bytes)?;
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
    RegistryError::Frame {
        index,
        reason: Foreign(&error.to_string()).to_string(),
        path: path.to_owned(),
    }
}
