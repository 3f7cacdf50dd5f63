//! Background frames that are encoded once, and changed only where the face is.
//!
//! A frame differs from its background only inside the face rectangle, and in a JPEG file restart
//! markers cut the coded data into segments that do not depend on each other. So the background is
//! encoded once, with a marker every R minimum coded units (MCUs). To serve a frame, only the segments
//! that touch the face are encoded, as a small JPEG of their own, and put in place of the background's:
//!
//! ```text
//! background    header | ..... | ..... | ..... | ..... | end        one line a row of MCUs,
//!                      | ..... | #####   ##### | ..... |            cut into segments
//!                      | ..... | #####   ##### | ..... |
//! region                       | +++++ | +++++ |                    the same quality and R
//!                              | +++++ | +++++ |
//! ```
//!
//! The result is **byte for byte** what encoding the whole composited frame with the same settings would
//! give ([`encode_with`](crate::encode_with)): markers only have to be renumbered. That holds because R
//! divides a row of MCUs, so that no segment wraps around, and because the region reaches the frame's
//! right and bottom edge where its last MCUs do, which are padded there.
//!
//! [`choose_restart_interval`] weighs bytes against work for the faces of a model.

use bytes::Bytes;
use libjpeg_turbo_rs::PixelFormat;
use lipsync_core::{PixelRect, saturate::usize_of};

use crate::{
    CompositorError, FaceCrop, Picture,
    jpeg::{self, JFIF_END, JpegOptions, MCU_PX, Scan},
    marking::JPEG_MARKING,
    picture::PIXEL_BYTES,
    resize,
};

mod interval;
mod region;
mod table;

pub use interval::choose_restart_interval;

use interval::n_mcus;
use region::Region;
use table::Table;

/// Settings of a baked background. A splice can have no other quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BakeSettings {
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// MCUs (16x16 pixels) between two restart markers. It has to divide their number in a row,
    /// `ceil(width / 16)`.
    pub restart_interval: u16,
}

/// An encoded background frame, with everything that is needed to change its face.
///
/// It is always marked as synthetic; a copy can leave out the mark. Cloning
/// is cheap: clones share the bytes.
#[derive(Debug, Clone)]
pub struct BakedFrame {
    table: Table,
    region: Region,
    jpeg: Bytes,
    face_jpeg: Bytes,
    surroundings: Bytes,
    /// For each row of MCUs that the region covers, the position of its segments in `jpeg`.
    spans: Box<[(u32, u32)]>,
}

/// Encodes a background frame so that other faces can be put into `rect`.
///
/// # Errors
/// [`CompositorError::RectOutside`], [`CompositorError::Quality`],
/// [`CompositorError::RestartInterval`], and [`CompositorError::Encode`].
pub fn bake(
    picture: &Picture,
    rect: PixelRect,
    settings: &BakeSettings,
) -> Result<BakedFrame, CompositorError> {
    picture.check_rect(rect)?;
    let table = Table {
        width: picture.width(),
        height: picture.height(),
        rect,
        settings: *settings,
    };
    let region = Region::of(&table)?;
    let face = picture.cut(rect)?;
    let sides = (picture.width(), picture.height());
    let face_sides = (rect.width, rect.height);
    let encode = |picture: &Picture, sides, options| {
        jpeg::encode(picture.rgb(), sides, PixelFormat::Rgb, options)
    };
    let jpeg = encode(picture, sides, table.frame_options())?;
    let face_jpeg = encode(&face, face_sides, table.face_options())?;
    BakedFrame::from_parts([
        jpeg.into(),
        face_jpeg.into(),
        table.to_bytes().into(),
        region.surroundings(picture).into(),
    ])
}

impl BakedFrame {
    /// The four parts that are stored: the encoded frame, the encoded face, what they were made of
    /// and with (32 bytes), and the pixels around the face.
    #[must_use]
    pub fn to_parts(&self) -> [Bytes; 4] {
        [
            self.jpeg.clone(),
            self.face_jpeg.clone(),
            self.table.to_bytes().into(),
            self.surroundings.clone(),
        ]
    }

    /// Puts stored parts together again.
    ///
    /// Headers are compared with what our encoder writes, all segments are looked up and counted, and
    /// lengths must fit, so that damaged parts are refused here, or at worst show wrong pixels; they
    /// never cause a panic or a file with wrong markers. Pixels are the storage's to checksum.
    ///
    /// # Errors
    /// [`CompositorError::Baked`].
    pub fn from_parts(
        [jpeg, face_jpeg, table, surroundings]: [Bytes; 4],
    ) -> Result<Self, CompositorError> {
        let refused = |reason| CompositorError::Baked { reason };
        let table = Table::parse(&table).ok_or(refused("its table is broken"))?;
        let region = Region::of(&table).map_err(|_| refused("its table contradicts itself"))?;
        if surroundings.len() != region.surrounding_bytes() {
            return Err(refused("the pixels around the face are not as many"));
        }
        let face_sides = (table.rect.width, table.rect.height);
        read_scan(&face_jpeg, face_sides, table.face_options())
            .ok_or(refused("its face is not as the encoder writes it"))?;
        let scan = read_scan(&jpeg, (table.width, table.height), table.frame_options())
            .ok_or(refused("its frame is not as the encoder writes it"))?;
        let spans = region
            .segments()
            .map(|segments| {
                let start = u32::try_from(scan.segment(segments.start).start).ok()?;
                let end = u32::try_from(scan.segment(segments.end - 1).end).ok()?;
                Some((start, end))
            })
            .collect::<Option<_>>()
            .ok_or(refused("its frame is too large"))?;
        Ok(Self {
            table,
            region,
            jpeg,
            face_jpeg,
            surroundings,
            spans,
        })
    }

    /// Where the face is.
    #[must_use]
    pub fn rect(&self) -> PixelRect {
        self.table.rect
    }

    /// Width of the frame, px.
    #[must_use]
    pub fn width(&self) -> usize {
        self.table.width
    }

    /// Height of the frame, px.
    #[must_use]
    pub fn height(&self) -> usize {
        self.table.height
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> BakeSettings {
        self.table.settings
    }

    /// Its size in memory, bytes.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let parts = self.jpeg.len() + self.face_jpeg.len() + self.surroundings.len();
        parts + size_of_val(&*self.spans) + size_of::<Self>()
    }

    /// The frame as it is: a JPEG file, not copied if it is to be marked as synthetic.
    #[must_use]
    pub fn jpeg(&self, is_marked: bool) -> Bytes {
        marked_or_not(&self.jpeg, is_marked)
    }

    /// The face as it is: a JPEG file, not copied if it is to be marked as synthetic.
    #[must_use]
    pub fn face_jpeg(&self, is_marked: bool) -> Bytes {
        marked_or_not(&self.face_jpeg, is_marked)
    }

    /// The frame with a generated face, as [`composite`](crate::composite) makes it: a JPEG file.
    ///
    /// # Errors
    /// [`CompositorError::OtherFace`] and [`CompositorError::GeneratedSize`].
    pub fn splice(
        &self,
        crop: &FaceCrop,
        generated: &[u8],
        is_marked: bool,
    ) -> Result<Vec<u8>, CompositorError> {
        if crop.rect() != self.table.rect {
            return Err(CompositorError::OtherFace {
                crop: crop.rect(),
                baked: self.table.rect,
            });
        }
        let face = crop.with_region(generated)?;
        let mut pixels = self.region.around(&self.surroundings);
        resize::resize(
            crop.geometry().filter,
            &face,
            self.region.face_rows(&mut pixels),
        );
        let options = JpegOptions {
            is_marked: false,
            ..self.table.frame_options()
        };
        let small = jpeg::encode(&pixels, self.region.sides(), PixelFormat::Bgr, options)?;
        let scan = jpeg::scan_start(&small)
            .and_then(|start| Scan::read(&small, start, self.region.n_segments()))
            .ok_or(CompositorError::Baked {
                reason: "a region is not as the encoder writes it",
            })?;
        Ok(self.replace_segments(&small, &scan, is_marked))
    }

    /// Copies the frame, but for the region's segments, which come from `small`.
    fn replace_segments(&self, small: &[u8], scan: &Scan, is_marked: bool) -> Vec<u8> {
        let mut file = Vec::with_capacity(self.jpeg.len() + small.len());
        file.extend_from_slice(&self.jpeg[..JFIF_END]);
        let mut copied = JFIF_END + if is_marked { 0 } else { JPEG_MARKING.len() };
        let mut n_taken = 0;
        for (segments, &(start, end)) in self.region.segments().zip(&self.spans) {
            let [start, end] = [start, end].map(usize_of);
            file.extend_from_slice(&self.jpeg[copied..start]);
            copied = end;
            let last = n_taken + segments.len() - 1;
            let offset = scan.segment(n_taken).start;
            let at = file.len();
            file.extend_from_slice(&small[offset..scan.segment(last).end]);
            // The markers between the segments count from the file's first segment on.
            for (segment, taken) in segments.zip(n_taken..last) {
                let marker = scan.segment(taken).end + 1 - offset;
                file[at + marker] = jpeg::restart_marker(segment);
            }
            n_taken = last + 1;
        }
        file.extend_from_slice(&self.jpeg[copied..]);
        file
    }
}

/// The segments of a file whose header is what our encoder writes.
fn read_scan(file: &[u8], sides: (usize, usize), options: JpegOptions) -> Option<Scan> {
    let header = jpeg::header(sides, options).ok()?;
    if !file.starts_with(&header) {
        return None;
    }
    let n_mcus = n_mcus(sides.0).checked_mul(n_mcus(sides.1))?;
    let n_segments = match options.restart_interval {
        0 => 1,
        interval => n_mcus.div_ceil(interval.into()),
    };
    Scan::read(file, header.len(), n_segments)
}

fn marked_or_not(file: &Bytes, is_marked: bool) -> Bytes {
    if is_marked {
        return file.clone();
    }
    let rest = &file[JFIF_END + JPEG_MARKING.len()..];
    [&file[..JFIF_END], rest].concat().into()
}

#[cfg(test)]
mod tests;
