//! What a picture's file holds beside plain pixels, for people who make avatars.
//!
//! [`decode`](crate::decode) takes all of it, as OpenCV's `imread` does. Other programs show such a file
//! otherwise, so a frame looks right in a viewer and wrong in the server's answers.

use crate::{
    CompositorError, ImageFormat,
    exif::Orientation,
    header::{format_of, jpeg_segments, png_chunks, stored_size},
};

const APP2: u8 = 0xE2;
const ICC_NAME: &[u8] = b"ICC_PROFILE\0";
/// Colour types of a PNG header with an alpha channel.
const PNG_ALPHA: [u8; 2] = [4, 6];

/// What [`oddities`] finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oddities {
    /// An EXIF orientation turns or mirrors the stored pixels.
    pub is_turned: bool,
    /// A colour profile other than sRGB, which is ignored.
    pub has_profile: bool,
    /// An alpha channel, which is dropped.
    pub has_alpha: bool,
    /// 16 bits a channel, of which the upper 8 are kept.
    pub is_deep: bool,
}

/// Looks at the headers of a PNG or JPEG file. Decodes nothing.
///
/// # Errors
/// As [`probe`](crate::probe).
pub fn oddities(bytes: &[u8]) -> Result<Oddities, CompositorError> {
    let format = format_of(bytes)?;
    stored_size(bytes, format)?;
    let mut found = match format {
        ImageFormat::Jpeg => Oddities {
            has_profile: jpeg_segments(bytes).any(|segment| {
                let profile = segment.bytes.strip_prefix(ICC_NAME);
                segment.marker == APP2 && profile.is_some_and(is_other_profile)
            }),
            ..Oddities::default()
        },
        ImageFormat::Png => of_png(bytes),
    };
    found.is_turned = Orientation::of(bytes, format) != Orientation::Upright;
    Ok(found)
}

fn of_png(bytes: &[u8]) -> Oddities {
    let mut found = Oddities::default();
    for chunk in png_chunks(bytes) {
        match &chunk.name {
            b"IHDR" => {
                let at = |index: usize| chunk.data.get(index).copied();
                found.is_deep = at(8) == Some(16);
                found.has_alpha |= at(9).is_some_and(|colours| PNG_ALPHA.contains(&colours));
            }
            b"tRNS" => found.has_alpha = true,
            // The profile itself is compressed; its name is not.
            b"iCCP" => {
                let name = chunk.data.split(|&byte| byte == 0).next();
                found.has_profile = name.is_some_and(is_other_profile);
            }
            _ => {}
        }
    }
    found
}

/// Whether a profile does not call itself sRGB, be it in one byte a letter or in two.
fn is_other_profile(profile: &[u8]) -> bool {
    let says = |name: &[u8]| profile.windows(name.len()).any(|part| part == name);
    !says(b"sRGB") && !says(b"s\0R\0G\0B")
}

#[cfg(test)]
mod tests {
    use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};

    use super::*;
    use crate::{Encoding, Picture, encode};

    fn jpeg() -> Vec<u8> {
        let picture = Picture::new(8, 8, vec![90; 192]).expect("a picture");
        encode(&picture, Encoding::Jpeg { quality: 85 }).expect("a file")
    }

    /// A JPEG file with one more segment before the others.
    fn with_segment(marker: u8, contents: &[u8]) -> Vec<u8> {
        let mut file = jpeg();
        let length = u16::try_from(contents.len() + 2).expect("short");
        let mut segment = vec![0xFF, marker];
        segment.extend(length.to_be_bytes());
        segment.extend(contents);
        file.splice(2..2, segment);
        file
    }

    #[test]
    fn plain_files_have_none() {
        assert_eq!(oddities(&jpeg()).expect("a file"), Oddities::default());
        assert!(oddities(b"text").is_err());
    }

    #[test]
    fn profiles_and_orientations_are_found() {
        let profile = |name: &[u8]| with_segment(APP2, &[ICC_NAME, b"\x01\x01..", name].concat());
        let found = |file: &[u8]| oddities(file).expect("a file");
        assert!(found(&profile(b"Display P3")).has_profile);
        assert!(!found(&profile(b"sRGB IEC61966-2.1")).has_profile);
        assert!(!found(&profile(b"\0s\0R\0G\0B\0 ")).has_profile);
        let tiff = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        assert!(found(&with_segment(0xE1, tiff)).is_turned);
    }

    #[test]
    fn alpha_and_depth_are_found() {
        let png = |pixels: &[u8], colours| {
            let mut file = Vec::new();
            PngEncoder::new(&mut file)
                .write_image(pixels, 1, 1, colours)
                .expect("a file");
            oddities(&file).expect("a file")
        };
        assert!(png(&[1; 4], ExtendedColorType::Rgba8).has_alpha);
        assert!(png(&[1; 6], ExtendedColorType::Rgb16).is_deep);
        assert_eq!(png(&[1; 3], ExtendedColorType::Rgb8), Oddities::default());
    }
}
