//! Avatars made on the spot: small pictures, a rectangle, a manifest.

use std::{fs, path::Path};

use anyhow::Result;
use image::{Rgb, RgbImage};

/// Size of the pictures, px.
pub const SIZE: (u32, u32) = (96, 64);
/// The face rectangle of every frame.
pub const RECT: [i32; 4] = [20, 10, 60, 50];

/// Writes an avatar folder with `n_frames` pictures; `generator` and `encoder` are its ONNX files.
pub fn write(folder: &Path, n_frames: u32, generator: &[u8], encoder: &[u8]) -> Result<()> {
    fs::create_dir_all(folder.join("frames"))?;
    for index in 0..n_frames {
        picture(index).save(folder.join(format!("frames/frame_{index:04}.png")))?;
    }
    let rects = vec![RECT; usize::try_from(n_frames)?];
    fs::write(
        folder.join("crop_rectangles.json"),
        serde_json::to_vec(&rects)?,
    )?;
    fs::write(folder.join("generator.onnx"), generator)?;
    fs::write(folder.join("audio_encoder.onnx"), encoder)?;
    let manifest = "name: Test\naudio_kind: ave\nfps: 25\ngenerator: generator.onnx\n\
                    audio_encoder: audio_encoder.onnx\nframes: frames\n\
                    crop_rectangles: crop_rectangles.json\n";
    fs::write(folder.join("avatar.yaml"), manifest)?;
    Ok(())
}

/// Writes an avatar for the fake loader, which never reads the ONNX files.
pub fn write_fake(folder: &Path, n_frames: u32) -> Result<()> {
    write(folder, n_frames, b"fake", b"fake")
}

/// A picture whose blue channel is its index: tests read the background's index back from pixels.
fn picture(index: u32) -> RgbImage {
    let byte = |n: u32| u8::try_from(n % 256).unwrap_or(0);
    RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        Rgb([byte(2 * x), byte(3 * y), byte(index)])
    })
}
