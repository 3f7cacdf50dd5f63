//! The mark of pictures made by a trained network.
//!
//! The mark is the IPTC *digital source type* in an XMP packet, which players, platforms and archives
//! look for: <https://cv.iptc.org/newscodes/digitalsourcetype/>. It is one constant segment: in a JPEG
//! file the APP1 segment behind the JFIF one, in a PNG file the first chunk behind the header. Raw
//! formats have no place for it.
//!
//! Sources: Adobe XMP specification, part 3 (JPEG 1.1.3, PNG 1.1.5); PNG specification, 11.3.3.4 (iTXt)
//! and annex D (CRC).

/// The packet, without a name before it.
const XMP: &[u8] = concat!(
    "<?xpacket begin=\"\u{FEFF}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>",
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">",
    "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">",
    "<rdf:Description rdf:about=\"\" ",
    "xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\" ",
    "Iptc4xmpExt:DigitalSourceType=",
    "\"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia\"/>",
    "</rdf:RDF></x:xmpmeta><?xpacket end=\"r\"?>",
)
.as_bytes();

/// Marker, room for the length, name.
const JPEG_START: &[u8] = b"\xFF\xE1\0\0http://ns.adobe.com/xap/1.0/\0";
/// Room for the length, type; then keyword, not compressed, no language, no translated keyword.
const PNG_START: &[u8] = b"\0\0\0\0iTXtXML:com.adobe.xmp\0\0\0\0\0";

const N_JPEG: usize = JPEG_START.len() + XMP.len();
const N_PNG: usize = PNG_START.len() + XMP.len() + 4;

/// The segment of JPEG files.
pub(crate) const JPEG_MARKING: [u8; N_JPEG] = jpeg_marking();
/// The chunk of PNG files.
pub(crate) const PNG_MARKING: [u8; N_PNG] = png_marking();
/// Signature and header chunk of a PNG file. Insertions go behind them.
pub(crate) const PNG_HEADER_END: usize = 8 + 25;

const fn jpeg_marking() -> [u8; N_JPEG] {
    let mut segment = copied(copied([0; N_JPEG], JPEG_START, 0), XMP, JPEG_START.len());
    // The length counts itself, not the marker.
    let [.., high, low] = (N_JPEG - 2).to_be_bytes();
    segment[2] = high;
    segment[3] = low;
    segment
}

const fn png_marking() -> [u8; N_PNG] {
    let mut chunk = copied(copied([0; N_PNG], PNG_START, 0), XMP, PNG_START.len());
    // The length counts neither itself, nor the type, nor the checksum.
    let [.., high, low] = (N_PNG - 12).to_be_bytes();
    chunk[2] = high;
    chunk[3] = low;
    let checksum = crc32(&chunk, 4, N_PNG - 4).to_be_bytes();
    copied(chunk, &checksum, N_PNG - 4)
}

const fn copied<const N: usize>(mut target: [u8; N], source: &[u8], at: usize) -> [u8; N] {
    let mut i = 0;
    while i < source.len() {
        target[at + i] = source[i];
        i += 1;
    }
    target
}

/// CRC-32 as PNG has it, of the bytes `start..end`.
const fn crc32(bytes: &[u8], start: usize, end: usize) -> u32 {
    let mut crc = u32::MAX;
    let mut i = start;
    while i < end {
        crc ^= bytes[i] as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
            crc = (crc >> 1) ^ carry;
            bit += 1;
        }
        i += 1;
    }
    !crc
}

#[cfg(test)]
mod tests;
