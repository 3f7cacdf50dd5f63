//! Writes spliced frames beside full encodes of the same pixels, for other people's decoders to judge.
//!
//! `cargo run -p lipsync-compositor --example splice_samples -- FOLDER`; `tools/check-frames` reads them.
//! For each frame size and place of the face: `N_spliced.jpg`, and `N_plain.jpg` and `N_plain.png`,
//! encoded as a whole and without restart markers or marks.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};
use lipsync_compositor::{
    BakeSettings, Encoding, FaceCrop, Picture, bake, choose_restart_interval, composite, encode,
};
use lipsync_core::{FaceGeometry, PixelRect};

/// Width, height, and the face: in the middle, at edges and corners, sides that are no multiple of 16.
const CASES: [(usize, usize, [usize; 4]); 6] = [
    (1280, 720, [533, 330, 212, 212]),
    (720, 1280, [250, 400, 180, 180]),
    (854, 480, [674, 300, 180, 180]),
    (333, 217, [0, 0, 100, 100]),
    (333, 217, [233, 117, 100, 100]),
    (1000, 700, [480, 520, 187, 180]),
];

fn main() -> Result<()> {
    let folder = env::args().nth(1).context("name a folder")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    for (n, (width, height, [x, y, face_width, face_height])) in CASES.into_iter().enumerate() {
        let background = soft_picture(width, height)?;
        let rect = PixelRect {
            x,
            y,
            width: face_width,
            height: face_height,
        };
        let settings = BakeSettings {
            quality: 85,
            restart_interval: choose_restart_interval(&[rect], width, height),
        };
        let crop = FaceCrop::cut(&background, rect, FaceGeometry::LARGE)?;
        let mut generated = crop.pixels()[..FaceGeometry::LARGE.region_bytes()].to_vec();
        generated.reverse();
        let spliced = bake(&background, rect, &settings)?.splice(&crop, &generated, true)?;
        let frame = composite(&background, &crop, &generated)?;
        let plain = encode(&frame, Encoding::Jpeg { quality: 85 })?;
        fs::write(folder.join(format!("{n}_spliced.jpg")), spliced)?;
        fs::write(folder.join(format!("{n}_plain.jpg")), plain)?;
        fs::write(
            folder.join(format!("{n}_plain.png")),
            encode(&frame, Encoding::Png)?,
        )?;
    }
    Ok(())
}

/// Ramps and waves, about as busy as a portrait before a plain wall.
fn soft_picture(width: usize, height: usize) -> Result<Picture> {
    let mut data = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let wave = (x * y / 97 + x * x / 53) % 64;
            for level in [60 + x / 12 + wave, 40 + y / 9 + wave / 2, 90 + wave] {
                data.push(u8::try_from(level).unwrap_or(u8::MAX));
            }
        }
    }
    Ok(Picture::new(width, height, data)?)
}
