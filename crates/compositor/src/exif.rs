//! The orientation that cameras write beside a picture, read as OpenCV's `imread` does.
//!
//! The tools that make avatars read frames with `imread`, which turns them upright; their rectangles and
//! landmarks are of the upright picture. So whatever is malformed is malformed here as it is there: the
//! tests hold answers of OpenCV. Nothing else of EXIF is looked at, and nothing of it is served.
//!
//! Source: OpenCV, `modules/imgcodecs/src/exif.cpp`, and what its versions 4.10 and 5.0 make of files; where
//! these differ, as 5.0 does.

use crate::{
    ImageFormat,
    header::{self, Segment},
};

/// The entry with the orientation.
const TAG: u16 = 0x0112;
const TIFF_MARK: u16 = 0x002A;
const ENTRY_BYTES: usize = 12;
const APP1: u8 = 0xE1;
const EXIF_NAME: &[u8] = b"Exif\0\0";

/// How to turn a stored picture upright. The numbers are those of EXIF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Orientation {
    /// 1: as it is stored.
    #[default]
    Upright,
    /// 2: mirrored, left to right.
    Mirrored,
    /// 3: turned by half.
    UpsideDown,
    /// 4: mirrored, top to bottom.
    Flipped,
    /// 5: mirrored at the diagonal from the upper left.
    Transposed,
    /// 6: to be turned clockwise by a quarter.
    Clockwise,
    /// 7: mirrored at the other diagonal.
    Transversed,
    /// 8: to be turned anticlockwise by a quarter.
    Anticlockwise,
}

impl Orientation {
    /// The orientation that a file names; upright if it names none, or an invalid one.
    pub(crate) fn of(bytes: &[u8], format: ImageFormat) -> Self {
        let number = match format {
            ImageFormat::Jpeg => header::jpeg_segments(bytes).find_map(of_segment),
            ImageFormat::Png => header::png_exif(bytes)
                .filter(|tiff| tiff.starts_with(b"MM") || tiff.starts_with(b"II"))
                .and_then(tag_in),
        };
        match number {
            Some(2) => Self::Mirrored,
            Some(3) => Self::UpsideDown,
            Some(4) => Self::Flipped,
            Some(5) => Self::Transposed,
            Some(6) => Self::Clockwise,
            Some(7) => Self::Transversed,
            Some(8) => Self::Anticlockwise,
            _ => Self::Upright,
        }
    }

    /// Whether width and height change places.
    pub(crate) fn swaps_sides(self) -> bool {
        matches!(
            self,
            Self::Transposed | Self::Clockwise | Self::Transversed | Self::Anticlockwise
        )
    }

    /// Where the upright picture's pixel at `(x, y)` is stored in one of `width x height` pixels.
    fn stored(self, (x, y): (usize, usize), (width, height): (usize, usize)) -> (usize, usize) {
        let right = |n: usize| width - 1 - n;
        let below = |n: usize| height - 1 - n;
        match self {
            Self::Upright => (x, y),
            Self::Mirrored => (right(x), y),
            Self::UpsideDown => (right(x), below(y)),
            Self::Flipped => (x, below(y)),
            Self::Transposed => (y, x),
            Self::Clockwise => (y, below(x)),
            Self::Transversed => (right(y), below(x)),
            Self::Anticlockwise => (right(y), x),
        }
    }

    /// Size of the upright picture.
    pub(crate) fn upright_size(self, (width, height): (usize, usize)) -> (usize, usize) {
        if self.swaps_sides() {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// The upright pixels of a stored picture of `size`, three bytes each.
    pub(crate) fn turn(self, stored: Vec<u8>, size: (usize, usize)) -> Vec<u8> {
        if self == Self::Upright {
            return stored;
        }
        let (pixels, _) = stored.as_chunks::<3>();
        let (width, height) = self.upright_size(size);
        let mut upright = Vec::with_capacity(stored.len());
        for y in 0..height {
            for x in 0..width {
                let (x, y) = self.stored((x, y), size);
                upright.extend(pixels[y * size.0 + x]);
            }
        }
        upright
    }
}

/// The number in a segment of a JPEG file, where that is EXIF and has one.
fn of_segment(segment: Segment<'_>) -> Option<u16> {
    let tiff = segment.bytes.strip_prefix(EXIF_NAME)?;
    (segment.marker == APP1).then(|| tag_in(tiff)).flatten()
}

/// The value of the first orientation entry in the first directory. Its type and count are not looked at.
fn tag_in(tiff: &[u8]) -> Option<u16> {
    let reader = Reader {
        bytes: tiff,
        is_little_endian: tiff.starts_with(b"II"),
    };
    if reader.u16(2)? != TIFF_MARK {
        return None;
    }
    let directory = usize::try_from(reader.u32(4)?).ok()?;
    let n_entries = usize::from(reader.u16(directory)?);
    for n in 0..n_entries {
        let entry = directory.checked_add(2 + n * ENTRY_BYTES)?;
        match reader.u16(entry)? {
            TAG => return reader.u16(entry.checked_add(8)?),
            // OpenCV reads these entries, too, and gives up where they point outside.
            tag => reader.check(tag, entry)?,
        }
    }
    None
}

struct Reader<'a> {
    bytes: &'a [u8],
    is_little_endian: bool,
}

impl Reader<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little_endian {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little_endian {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    }

    /// Whether the value of a text or of ratios that OpenCV reads lies within the bytes.
    fn check(&self, tag: u16, entry: usize) -> Option<()> {
        let n_bytes = match tag {
            0x010E | 0x010F | 0x0110 | 0x0131 | 0x0132 | 0x8298 => {
                let n_bytes = usize::try_from(self.u32(entry + 4)?).ok()?;
                if n_bytes <= 4 {
                    return Some(());
                }
                n_bytes
            }
            0x011A | 0x011B => 8,
            0x013E => 2 * 8,
            0x013F | 0x0214 => 6 * 8,
            0x0211 => 3 * 8,
            _ => return Some(()),
        };
        let offset = usize::try_from(self.u32(entry + 8)?).ok()?;
        let end = offset.checked_add(n_bytes)?;
        (end <= self.bytes.len()).then_some(())
    }
}

#[cfg(test)]
mod tests;
