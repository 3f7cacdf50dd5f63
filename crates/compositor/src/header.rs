//! Sizes of pictures, read from their headers alone.
//!
//! The decoder would tell the size too, but only after it has copied the file and read every
//! metadata chunk. This takes nanoseconds, so whole folders can be checked at start, and hostile
//! sizes are refused before anything is allocated for them.

use crate::{CompositorError, ImageFormat, exif::Orientation};

pub(crate) const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG_START: &[u8] = &[0xFF, 0xD8, 0xFF];

/// Width and height of a PNG or JPEG picture, in pixels, without decoding it: as [`decode`](crate::decode)
/// gives them, upright where the file has an EXIF orientation.
///
/// It reads headers only, so that the rest may be broken or missing. A PNG needs its first 24
/// bytes; a JPEG all bytes up to its frame header, which may lie behind metadata. An orientation that is
/// missing with the rest is none.
///
/// # Errors
/// [`CompositorError::UnknownFormat`], [`CompositorError::OtherFormat`], [`CompositorError::Empty`] and
/// [`CompositorError::Malformed`].
pub fn probe(bytes: &[u8]) -> Result<(usize, usize), CompositorError> {
    let format = format_of(bytes)?;
    let size = stored_size(bytes, format)?;
    Ok(Orientation::of(bytes, format).upright_size(size))
}

/// Width and height as they are stored.
pub(crate) fn stored_size(
    bytes: &[u8],
    format: ImageFormat,
) -> Result<(usize, usize), CompositorError> {
    let size = match format {
        ImageFormat::Png => png_size(bytes),
        ImageFormat::Jpeg => jpeg_frame(bytes).map(|frame| frame.size),
    };
    match size {
        Some((width, height)) if width > 0 && height > 0 => Ok((width, height)),
        Some(_) => Err(malformed(format, "a side is 0")),
        None => Err(malformed(format, "the header is broken or ends early")),
    }
}

/// Beginnings of what else lies in folders of pictures; `?` is any byte.
const OTHERS: [(&[u8], &str); 16] = [
    (b"RIFF????WEBP", "a WebP picture"),
    (b"RIFF????AVI ", "an AVI film"),
    (b"GIF8", "a GIF picture"),
    (b"BM????\0\0\0\0", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"????ftypavif", "an AVIF picture"),
    (b"????ftyphei", "an HEIC picture"),
    (b"????ftypmif1", "an HEIC picture"),
    (b"????ftyp", "an MP4 film"),
    (b"\x1a\x45\xdf\xa3", "a WebM or Matroska film"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x93NUMPY", "an array of NumPy"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer instead of the file itself (git lfs pull)",
    ),
];

/// Why a file is neither of our formats.
fn other_format(bytes: &[u8]) -> CompositorError {
    let begins = |beginning: &[u8]| {
        let pairs = || beginning.iter().zip(bytes);
        bytes.len() >= beginning.len()
            && pairs().all(|(want, found)| *want == b'?' || want == found)
    };
    match OTHERS.iter().find(|(beginning, _)| begins(beginning)) {
        Some(&(_, found)) => CompositorError::OtherFormat { found },
        None if bytes.is_empty() => CompositorError::Empty,
        None => CompositorError::UnknownFormat,
    }
}

/// Tells the format by its magic bytes.
pub(crate) fn format_of(bytes: &[u8]) -> Result<ImageFormat, CompositorError> {
    if bytes.starts_with(PNG_SIGNATURE) {
        Ok(ImageFormat::Png)
    } else if bytes.starts_with(JPEG_START) {
        Ok(ImageFormat::Jpeg)
    } else {
        Err(other_format(bytes))
    }
}

/// Whether the entropy-coded data of a JPEG file reaches its end marker.
///
/// The decoder fills the missing part of a truncated file with grey, which nobody would notice before
/// watching the video. In coded data every `FF` is followed by 0 or a restart marker, so behind
/// the frame header `FF D9` is nothing else than the end.
pub(crate) fn jpeg_is_complete(bytes: &[u8]) -> bool {
    jpeg_frame(bytes).is_some_and(|frame| frame.rest.windows(2).any(|pair| pair == [0xFF, 0xD9]))
}

/// Why the decoder would refuse a JPEG file in words of its own, or read it wrongly; `None` where it does neither.
///
/// *Source:* ITU-T T.81, B.2.2. What the decoder makes of each pair of sampling factors was compared with libjpeg-turbo.
pub(crate) fn foreign_coding(bytes: &[u8]) -> Option<&'static str> {
    let JpegFrame {
        marker,
        precision,
        components,
        ..
    } = jpeg_frame(bytes)?;
    let (components, _) = components.as_chunks::<3>();
    // Identifier, horizontal and vertical factor, table.
    let width_of = |&[_, factors, _]: &[u8; 3]| factors >> 4;
    let first = components.first().map(width_of)?;
    match (marker, precision) {
        (0xC9..=0xCF, _) => Some(
            "it is coded arithmetically: save it again with Huffman coding, as programs do by default",
        ),
        (0xC3 | 0xC5..=0xC7, _) => {
            Some("it is lossless or hierarchical: save it again as a baseline or progressive JPEG")
        }
        (_, 8) if components.iter().any(|c| width_of(c) > first) => Some(
            "its colours are stored finer than its brightness: save it again with usual subsampling (4:2:0, 4:2:2 or 4:4:4)",
        ),
        (_, 8) => None,
        _ => Some("it has more than 8 bits a channel: save it again with 8"),
    }
}

/// How many scans a JPEG file has. A progressive picture is gone over as a whole for each, and one takes a few dozen
/// bytes.
pub(crate) fn n_jpeg_scans(bytes: &[u8]) -> usize {
    // As the end of the file, nothing else looks so there, but for comments.
    let is_start = |pair: &&[u8]| **pair == [0xFF, 0xDA];
    jpeg_frame(bytes).map_or(0, |frame| frame.rest.windows(2).filter(is_start).count())
}

pub(crate) fn malformed(format: ImageFormat, reason: impl Into<String>) -> CompositorError {
    CompositorError::Malformed {
        format,
        reason: reason.into(),
    }
}

/// Signature, then the chunk `IHDR`: length 13, name, width, height, both 32-bit big-endian.
fn png_size(bytes: &[u8]) -> Option<(usize, usize)> {
    let chunk = bytes.get(PNG_SIGNATURE.len()..)?;
    if chunk.get(..8)? != b"\0\0\0\x0DIHDR" {
        return None;
    }
    let side = |at: usize| {
        let side = u32::from_be_bytes(*chunk.get(at..)?.first_chunk()?);
        usize::try_from(side).ok()
    };
    Some((side(8)?, side(12)?))
}

/// The first frame header of a JPEG file, and the bytes behind it.
struct JpegFrame<'a> {
    size: (usize, usize),
    marker: u8,
    /// Bits a sample.
    precision: u8,
    /// Three bytes of each.
    components: &'a [u8],
    rest: &'a [u8],
}

/// The first frame header (ITU-T T.81, annex B).
fn jpeg_frame(bytes: &[u8]) -> Option<JpegFrame<'_>> {
    // Frame headers are C0..=CF but for Huffman tables, arithmetic coding and a reserved one.
    let is_frame = |segment: &Segment<'_>| {
        matches!(segment.marker, 0xC0..=0xCF) && !matches!(segment.marker, 0xC4 | 0xC8 | 0xCC)
    };
    let segment = jpeg_segments(bytes).find(is_frame)?;
    let Segment {
        bytes,
        rest,
        marker,
    } = segment;
    let (&[precision, h1, h0, w1, w0], after) = bytes.split_first_chunk()?;
    let side = |bytes| usize::from(u16::from_be_bytes(bytes));
    Some(JpegFrame {
        size: (side([w1, w0]), side([h1, h0])),
        marker,
        precision,
        // Behind their number.
        components: after.get(1..).unwrap_or_default(),
        rest,
    })
}

/// A marker segment of a JPEG file.
pub(crate) struct Segment<'a> {
    pub marker: u8,
    /// Without marker and length.
    pub bytes: &'a [u8],
    /// The bytes that follow.
    pub rest: &'a [u8],
}

/// The marker segments of a JPEG file up to its coded data, or to where it is broken.
pub(crate) fn jpeg_segments(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let segment = next_segment(rest)?;
        rest = segment.rest;
        Some(segment)
    })
}

fn next_segment(mut rest: &[u8]) -> Option<Segment<'_>> {
    loop {
        let (&[ff, marker], after_marker) = rest.split_first_chunk()?;
        if ff != 0xFF {
            return None;
        }
        match marker {
            // A fill byte: the marker is the next one.
            0xFF => rest = rest.get(1..)?,
            // TEM and restart markers have no length.
            0x01 | 0xD0..=0xD7 => rest = after_marker,
            // Another start, the end, or coded data.
            0xD8..=0xDA => return None,
            _ => {
                // The length counts itself.
                let length = usize::from(u16::from_be_bytes(*after_marker.first_chunk()?)).max(2);
                return Some(Segment {
                    marker,
                    bytes: after_marker.get(2..length)?,
                    rest: after_marker.get(length..)?,
                });
            }
        }
    }
}

/// A chunk of a PNG file.
pub(crate) struct Chunk<'a> {
    pub name: [u8; 4],
    pub data: &'a [u8],
    /// With its length and checksum.
    pub whole: &'a [u8],
    /// What follows.
    rest: &'a [u8],
}

/// The chunks of a PNG file up to its end, or to where it is broken.
pub(crate) fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(PNG_SIGNATURE.len()..).unwrap_or_default();
    std::iter::from_fn(move || {
        let chunk = next_chunk(rest)?;
        rest = chunk.rest;
        Some(chunk)
    })
}

fn next_chunk(bytes: &[u8]) -> Option<Chunk<'_>> {
    let (length, after_length) = bytes.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (&name, after_name) = after_length.split_first_chunk()?;
    // With length, name and checksum, of four bytes each.
    let (whole, rest) = bytes.split_at_checked(length.checked_add(12)?)?;
    Some(Chunk {
        name,
        data: after_name.get(..length)?,
        whole,
        rest,
    })
}

/// The first whole EXIF chunk of a PNG file.
pub(crate) fn png_exif(bytes: &[u8]) -> Option<&[u8]> {
    let is_whole = |chunk: &Chunk<'_>| {
        // The checksum is of name and data.
        let (summed, checksum) = chunk.whole[4..].split_at(4 + chunk.data.len());
        crc32fast::hash(summed).to_be_bytes() == checksum
    };
    let mut chunks = png_chunks(bytes).take_while(|chunk| chunk.name != *b"IEND");
    let exif = chunks.find(|chunk| chunk.name == *b"eXIf" && is_whole(chunk))?;
    Some(exif.data)
}

#[cfg(test)]
mod tests;
