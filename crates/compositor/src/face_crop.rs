//! The face cut out of a background frame, as a network wants it.

use std::{fmt, sync::Arc};

use lipsync_core::{FaceGeometry, PixelRect};

use crate::{
    CompositorError, Picture,
    picture::{PIXEL_BYTES, swap_red_and_blue},
    resize::{self, Source},
};

/// The largest crop accepted, px. Networks have up to 384.
const MAX_CROP_PX: usize = 4096;

/// A face rectangle and its pixels, resized to the crop of a network family.
///
/// It depends only on the background frame, so it is made once per frame and kept. Cloning is
/// cheap: clones share the pixels.
#[derive(Clone)]
pub struct FaceCrop {
    rect: PixelRect,
    geometry: FaceGeometry,
    pixels: Arc<[u8]>,
}

impl FaceCrop {
    /// Cuts a rectangle out of a picture and resizes it to the geometry's crop, with its filter.
    ///
    /// Only pixels inside the rectangle count: at its edges they are repeated, not continued by
    /// the picture. The rectangle need not be square.
    ///
    /// # Errors
    /// [`CompositorError::RectOutside`] and [`CompositorError::Geometry`].
    pub fn cut(
        picture: &Picture,
        rect: PixelRect,
        geometry: FaceGeometry,
    ) -> Result<Self, CompositorError> {
        check_geometry(geometry)?;
        picture.check_rect(rect)?;
        let rows: Vec<&[u8]> = picture.rows_of(rect).collect();
        let mut pixels = vec![0; geometry.crop_bytes()];
        let target = pixels.chunks_exact_mut(geometry.crop_px * PIXEL_BYTES);
        resize::resize(geometry.filter, &Rows(&rows), target);
        swap_red_and_blue(&mut pixels);
        Ok(Self {
            rect,
            geometry,
            pixels: pixels.into(),
        })
    }

    /// Puts together what [`Self::cut`] made and was stored; `pixels` are as [`Self::pixels`].
    ///
    /// # Errors
    /// [`CompositorError::Geometry`] and [`CompositorError::CropSize`].
    pub fn from_pixels(
        rect: PixelRect,
        geometry: FaceGeometry,
        pixels: Arc<[u8]>,
    ) -> Result<Self, CompositorError> {
        check_geometry(geometry)?;
        if pixels.len() != geometry.crop_bytes() {
            return Err(CompositorError::CropSize {
                expected: geometry.crop_bytes(),
                actual: pixels.len(),
            });
        }
        Ok(Self {
            rect,
            geometry,
            pixels,
        })
    }

    /// Where on its background frame the face is.
    #[must_use]
    pub fn rect(&self) -> PixelRect {
        self.rect
    }

    /// The squares of the network family.
    #[must_use]
    pub fn geometry(&self) -> FaceGeometry {
        self.geometry
    }

    /// The resized face: `crop_px x crop_px x 3`, u8 BGR, row-major, interleaved.
    #[must_use]
    pub fn pixels(&self) -> &Arc<[u8]> {
        &self.pixels
    }

    /// The crop with a generated region inside its ring; BGR as both are.
    pub(crate) fn with_region<'a>(
        &'a self,
        generated: &'a [u8],
    ) -> Result<GeneratedFace<'a>, CompositorError> {
        if generated.len() != self.geometry.region_bytes() {
            return Err(CompositorError::GeneratedSize {
                expected: self.geometry.region_bytes(),
                actual: generated.len(),
            });
        }
        Ok(GeneratedFace {
            geometry: self.geometry,
            original: &self.pixels,
            generated,
        })
    }
}

/// The rows of a rectangle of a picture; not empty.
struct Rows<'a>(&'a [&'a [u8]]);

impl Source for Rows<'_> {
    fn width(&self) -> usize {
        self.0[0].len() / PIXEL_BYTES
    }

    fn height(&self) -> usize {
        self.0.len()
    }

    fn row(&self, y: usize) -> [&[u8]; 3] {
        [self.0[y], &[], &[]]
    }
}

/// A generated region inside the ring of the original crop, without a copy of either.
pub(crate) struct GeneratedFace<'a> {
    geometry: FaceGeometry,
    original: &'a [u8],
    generated: &'a [u8],
}

impl Source for GeneratedFace<'_> {
    fn width(&self) -> usize {
        self.geometry.crop_px
    }

    fn height(&self) -> usize {
        self.geometry.crop_px
    }

    fn row(&self, y: usize) -> [&[u8]; 3] {
        let FaceGeometry {
            region_px,
            crop_px,
            ring_px,
            ..
        } = self.geometry;
        let original = &self.original[y * crop_px * PIXEL_BYTES..][..crop_px * PIXEL_BYTES];
        let inside = y.checked_sub(ring_px).filter(|y| *y < region_px);
        let Some(y) = inside else {
            return [original, &[], &[]];
        };
        let (left, rest) = original.split_at(ring_px * PIXEL_BYTES);
        let (_, right) = rest.split_at(region_px * PIXEL_BYTES);
        let row_bytes = region_px * PIXEL_BYTES;
        [left, &self.generated[y * row_bytes..][..row_bytes], right]
    }
}

impl fmt::Debug for FaceCrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaceCrop")
            .field("rect", &self.rect)
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

fn check_geometry(geometry: FaceGeometry) -> Result<(), CompositorError> {
    let sum = geometry
        .ring_px
        .checked_mul(2)
        .and_then(|rings| rings.checked_add(geometry.region_px));
    if geometry.region_px > 0 && geometry.crop_px <= MAX_CROP_PX && sum == Some(geometry.crop_px) {
        return Ok(());
    }
    Err(CompositorError::Geometry { geometry })
}
