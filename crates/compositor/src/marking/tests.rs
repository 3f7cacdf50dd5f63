use std::io::Cursor;

use image::{ImageDecoder as _, codecs::jpeg::JpegDecoder, codecs::png::PngDecoder};

use super::*;
use crate::{EncodeOptions, Encoding, Picture, Yuv, encode, encode_with};

const MARKED: EncodeOptions = EncodeOptions {
    restart_interval: 0,
    is_marked: true,
};

fn grey() -> Picture {
    Picture::new(40, 24, vec![90; 40 * 24 * 3]).unwrap()
}

#[test]
fn a_jpeg_decoder_finds_the_packet() {
    let encoding = Encoding::Jpeg { quality: 85 };
    let file = encode_with(&grey(), encoding, MARKED).unwrap();
    let mut decoder = JpegDecoder::new(Cursor::new(&file)).unwrap();
    assert_eq!(decoder.xmp_metadata().unwrap().as_deref(), Some(XMP));
    // Nothing else has changed.
    let plain = encode(&grey(), encoding).unwrap();
    assert_eq!(file[20 + N_JPEG..], plain[20..]);
    assert_eq!(file[..20], plain[..20]);
    let mut decoder = JpegDecoder::new(Cursor::new(&plain)).unwrap();
    assert_eq!(decoder.xmp_metadata().unwrap(), None);
}

#[test]
fn a_png_decoder_finds_the_packet() {
    let file = encode_with(&grey(), Encoding::Png, MARKED).unwrap();
    // The decoder checks the chunk's checksum.
    let mut decoder = PngDecoder::new(Cursor::new(&file)).unwrap();
    assert_eq!(decoder.xmp_metadata().unwrap().as_deref(), Some(XMP));
    let pixels = image::load_from_memory(&file).unwrap().to_rgb8();
    assert_eq!(pixels.as_raw().as_slice(), grey().rgb());
}

#[test]
fn raw_formats_stay_raw() {
    for encoding in [Encoding::Rgb, Encoding::I420(Yuv::Bt601Full)] {
        let plain = encode(&grey(), encoding).unwrap();
        assert_eq!(encode_with(&grey(), encoding, MARKED).unwrap(), plain);
    }
}
