//! What of a file its pixels depend on.
//!
//! Decoders read everything: they unpack colour profiles and comments, of which a megabyte can become a
//! gigabyte, and gather what comes in pieces. None of it is served, so they are not shown it.

use crate::{
    ImageFormat,
    header::{PNG_SIGNATURE, jpeg_segments, png_chunks},
};

/// Marker and length of a segment of a JPEG file.
const HEAD_BYTES: usize = 4;

/// A copy of a file without what no pixel depends on. What is broken stays broken.
pub(crate) fn pixels_only(bytes: &[u8], format: ImageFormat) -> Vec<u8> {
    match format {
        ImageFormat::Png => png(bytes),
        ImageFormat::Jpeg => jpeg(bytes),
    }
}

/// Keeps the chunks that a decoder must know, whose names begin with a capital, and transparency: it decides
/// whether there is an alpha channel.
fn png(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    kept.extend(PNG_SIGNATURE);
    for chunk in png_chunks(bytes) {
        if chunk.name[0].is_ascii_uppercase() || chunk.name == *b"tRNS" {
            kept.extend(chunk.whole);
        }
    }
    kept
}

/// Leaves out comments and application segments, but for those of JFIF and Adobe, which say what the colours
/// are. From the coded data on, nothing is left out.
fn jpeg(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    for segment in jpeg_segments(bytes) {
        let n_bytes = match segment.marker {
            0xE1..=0xED | 0xEF | 0xFE => HEAD_BYTES + segment.bytes.len(),
            _ => 0,
        };
        // What stands before the segment, such as bytes that fill, stays.
        let end = rest.len() - segment.rest.len() - n_bytes;
        kept.extend(&rest[..end]);
        rest = segment.rest;
    }
    kept.extend(rest);
    kept
}

#[cfg(test)]
mod tests;
