//! JPEG files of our own making: writing them, and finding one's way in them.
//!
//! All are baseline files with halved chroma (4:2:0) and the standard Huffman tables, so that a
//! minimum coded unit (MCU) is 16x16 pixels and coded data can be moved between files of one quality.

use std::ops::Range;

use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};

use crate::{
    CompositorError, EncodeOptions, ImageFormat, marking::JPEG_MARKING, picture::PIXEL_BYTES,
};

/// Name and version of the JPEG encoder. Another one may give other bytes for the same picture.
pub const ENCODER: &str = "libjpeg-turbo-rs 0.9.0";

/// Side of a minimum coded unit, px.
pub(crate) const MCU_PX: usize = 16;
/// Start of image, then the JFIF segment: 2 and 18 bytes. Insertions go behind them.
pub(crate) const JFIF_END: usize = 20;

const START_OF_FRAME: u8 = 0xC0;
const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;
const RESTART: u8 = 0xD0;

/// How a JPEG file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JpegOptions {
    /// 1 to 100, as libjpeg counts it.
    pub quality: u8,
    /// MCUs between two restart markers; 0 = no markers.
    pub restart_interval: u16,
    /// Whether the file says that its picture is synthetic.
    pub is_marked: bool,
}

impl JpegOptions {
    pub(crate) fn new(quality: u8, options: EncodeOptions) -> Self {
        Self {
            quality,
            restart_interval: options.restart_interval,
            is_marked: options.is_marked,
        }
    }
}

/// Encodes `width x height x 3` bytes of RGB or BGR; the file is the same.
pub(crate) fn encode(
    pixels: &[u8],
    (width, height): (usize, usize),
    order: PixelFormat,
    options: JpegOptions,
) -> Result<Vec<u8>, CompositorError> {
    if !(1..=100).contains(&options.quality) {
        return Err(CompositorError::Quality {
            quality: options.quality,
        });
    }
    let mut file = Encoder::new(pixels, width, height, order)
        .quality(options.quality)
        .subsampling(Subsampling::S420)
        .restart_blocks(options.restart_interval)
        // Lower qualities would get tables of 16 bits, which baseline files may not have.
        .force_baseline(true)
        .encode()
        .map_err(|error| CompositorError::Encode {
            format: ImageFormat::Jpeg,
            reason: error.to_string(),
        })?;
    if options.is_marked {
        file.splice(JFIF_END..JFIF_END, JPEG_MARKING);
    }
    Ok(file)
}

/// Everything before the coded data of a file of this size.
///
/// It depends on nothing else, so that a file's header tells whether its coded data fits another's.
pub(crate) fn header(
    (width, height): (usize, usize),
    options: JpegOptions,
) -> Result<Vec<u8>, CompositorError> {
    let grey = [128; MCU_PX * MCU_PX * PIXEL_BYTES];
    let mut file = encode(&grey, (MCU_PX, MCU_PX), PixelFormat::Rgb, options)?;
    let places = (scan_start(&file), frame_sides(&file), sides(width, height));
    let (Some(start), Some(at), Some(sides)) = places else {
        return Err(CompositorError::Encode {
            format: ImageFormat::Jpeg,
            reason: format!("no header for {width}x{height} pixels"),
        });
    };
    file[at].copy_from_slice(&sides);
    file.truncate(start);
    Ok(file)
}

/// Height and width as a frame header has them.
fn sides(width: usize, height: usize) -> Option<[u8; 4]> {
    let [h1, h0] = u16::try_from(height).ok()?.to_be_bytes();
    let [w1, w0] = u16::try_from(width).ok()?.to_be_bytes();
    Some([h1, h0, w1, w0])
}

/// Where the coded data begins.
pub(crate) fn scan_start(file: &[u8]) -> Option<usize> {
    find_segment(file, START_OF_SCAN).map(|segment| segment.end)
}

/// Where the frame header has the picture's sides.
fn frame_sides(file: &[u8]) -> Option<Range<usize>> {
    // Behind the length and the precision.
    let start = find_segment(file, START_OF_FRAME)?.start + 3;
    Some(start..start + 4)
}

/// A marker segment, from its length to its end.
fn find_segment(file: &[u8], wanted: u8) -> Option<Range<usize>> {
    let mut at = 2;
    loop {
        let &[0xFF, marker, l1, l0] = file.get(at..)?.first_chunk()? else {
            return None;
        };
        let end = at + 2 + usize::from(u16::from_be_bytes([l1, l0]));
        if marker == wanted {
            return (end <= file.len()).then_some(at + 2..end);
        }
        at = end;
    }
}

/// The coded data of a file, cut at its restart markers.
#[derive(Debug)]
pub(crate) struct Scan {
    start: usize,
    /// Where the markers between the segments are, and the end of the image.
    markers: Vec<usize>,
}

impl Scan {
    /// Reads the coded data from `start` to the end of the file. `None` unless it has exactly
    /// `n_segments`, with all markers in order, and ends with the file.
    pub(crate) fn read(file: &[u8], start: usize, n_segments: usize) -> Option<Self> {
        let mut markers = Vec::with_capacity(n_segments.min(file.len()));
        let mut at = start;
        loop {
            at += file.get(at..)?.iter().position(|&byte| byte == 0xFF)?;
            let marker = *file.get(at + 1)?;
            if marker == 0 {
                at += 2;
                continue;
            }
            markers.push(at);
            at += 2;
            if marker == END_OF_IMAGE {
                let is_whole = markers.len() == n_segments && at == file.len();
                return is_whole.then_some(Self { start, markers });
            }
            if marker != restart_marker(markers.len() - 1) {
                return None;
            }
        }
    }

    /// Position of a segment, without the marker behind it.
    pub(crate) fn segment(&self, index: usize) -> Range<usize> {
        let start = match index.checked_sub(1) {
            None => self.start,
            Some(before) => self.markers[before] + 2,
        };
        start..self.markers[index]
    }
}

/// The marker behind a segment that is not the last one.
pub(crate) fn restart_marker(segment: usize) -> u8 {
    RESTART | (segment.to_le_bytes()[0] & 7)
}

#[cfg(test)]
mod tests {
    use super::ENCODER;

    #[test]
    fn the_encoder_is_the_one_that_is_built_in() {
        let (name, version) = ENCODER.split_once(' ').expect("name and version");
        let locked = include_str!("../../../Cargo.lock");
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(
            locked.contains(&entry),
            "ENCODER is not what Cargo.lock says"
        );
    }
}
