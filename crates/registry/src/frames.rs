//! The background frames of a model on disk.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use lipsync_compositor::{CompositorError, DecodeLimits, FaceCrop, decode, probe};
use lipsync_core::{CropRect, FaceGeometry, PixelRect};

use crate::{BackgroundFrame, RegistryError, files};

const WHAT: &str = "background frame";

/// Paths and rectangles of all frames, and the size that every frame must have.
#[derive(Debug)]
pub(crate) struct FrameFiles {
    frames: Vec<(PathBuf, PixelRect)>,
    width: usize,
    height: usize,
}

impl FrameFiles {
    /// Takes the size from the first frame's header, compares the last one's, and cuts every
    /// rectangle to it. The frames between are compared when they are decoded: opening thousands
    /// of files would make every load slow.
    pub(crate) fn check(
        paths: Vec<PathBuf>,
        rectangles: &[CropRect],
    ) -> Result<Self, RegistryError> {
        let (Some(first), Some(last)) = (paths.first(), paths.last()) else {
            return Err(RegistryError::NoFrames);
        };
        let (width, height) = size_of(0, first, &read(first)?)?;
        let last_index = paths.len() - 1;
        check_size(last_index, last, &read(last)?, (width, height))?;
        let clamp = |(index, rect): (usize, &CropRect)| {
            rect.clamp_to(width, height)
                .ok_or(RegistryError::RectangleOffFrame {
                    index,
                    rect: *rect,
                    width,
                    height,
                })
        };
        let rectangles: Vec<PixelRect> = rectangles
            .iter()
            .enumerate()
            .map(clamp)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            frames: paths.into_iter().zip(rectangles).collect(),
            width,
            height,
        })
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn height(&self) -> usize {
        self.height
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }

    /// Bytes that one frame takes in memory.
    pub(crate) fn frame_bytes(&self, geometry: FaceGeometry) -> u64 {
        (self.width * self.height * 3 + geometry.crop_bytes()) as u64
    }

    /// Reads a frame from disk. The size is checked before anything is decoded.
    pub(crate) fn decode(
        &self,
        index: u32,
        geometry: FaceGeometry,
    ) -> Result<BackgroundFrame, RegistryError> {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let (path, rect) = self.frames.get(place).ok_or(RegistryError::FrameIndex {
            index,
            n_frames: self.len(),
        })?;
        let bytes = read(path)?;
        check_size(place, path, &bytes, (self.width, self.height))?;
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let picture = decode(&bytes, DecodeLimits::default())?;
            let crop = FaceCrop::cut(&picture, *rect, geometry)?;
            Ok(BackgroundFrame { picture, crop })
        }));
        match decoded {
            Ok(frame) => frame.map_err(|e| broken(place, path, &e)),
            Err(_) => Err(RegistryError::Panicked {
                what: "decoding a background frame",
            }),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    files::read(path, WHAT, files::MAX_FRAME_BYTES)
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
        reason: error.to_string(),
        path: path.to_owned(),
    }
}
