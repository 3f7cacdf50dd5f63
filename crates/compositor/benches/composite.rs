//! Times of every way to make a frame, step by step and as a whole: one thread, medians.
//!
//! The picture is a frame of the demo avatar, 1280x720, with a face of the size given as an argument
//! (300 pixels if none is). All candidates run in turns, so that a slower moment of the machine meets
//! each of them alike; a turn makes eight frames in succession, as a batch does. The named peer is the best that there is without splicing: the decoded frame
//! kept in memory, the same resize, and a full encode by the same libjpeg-turbo-class encoder.
//!
//! Run it with `cargo bench -p lipsync-compositor --bench composite -- 212`.

use std::{hint::black_box, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
use lipsync_compositor::{
    BakeSettings, BakedFrame, DecodeLimits, EncodeOptions, Encoding, FaceCrop, Picture, Yuv, bake,
    choose_restart_interval, composite, decode, encode, encode_face, encode_with, face_patch,
};
use lipsync_core::{FaceGeometry, PixelRect};

const QUALITY: u8 = 85;
const JPEG: Encoding = Encoding::Jpeg { quality: QUALITY };
const N_ROUNDS: usize = 61;
const FRAMES_A_TURN: usize = 8;
const SPLICE: &str = "resize, paste, encode: splice";
const PEER: &str = "the same: cached RGB + full encode";

/// A way to do something, and what it took.
struct Candidate<'a> {
    name: &'static str,
    /// Gives the bytes that it made.
    step: Box<dyn Fn() -> Result<usize> + 'a>,
    times_ms: Vec<f64>,
    n_bytes: usize,
}

#[expect(clippy::print_stdout, reason = "a bench reports on the terminal")]
fn main() -> Result<()> {
    let size = std::env::args().find_map(|arg| arg.parse().ok());
    let scene = Scene::new(size.unwrap_or(300))?;
    let mut candidates = scene.candidates();
    for _ in 0..N_ROUNDS {
        for candidate in &mut candidates {
            for _ in 0..FRAMES_A_TURN {
                let start = Instant::now();
                candidate.n_bytes = black_box((candidate.step)()?);
                candidate.times_ms.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let rect = scene.baked.rect();
    let interval = scene.baked.settings().restart_interval;
    println!(
        "1280x720, face {}x{}, quality {QUALITY}, a marker every {interval} units; medians of {}",
        rect.width,
        rect.height,
        N_ROUNDS * FRAMES_A_TURN
    );
    println!("{:38} {:>9} {:>10}", "", "ms", "bytes");
    for candidate in &mut candidates {
        candidate.times_ms.sort_by(f64::total_cmp);
        let (name, n_bytes) = (candidate.name, candidate.n_bytes);
        println!("{name:38} {:9.3} {n_bytes:10}", candidate.median());
    }
    let median = |name| {
        let found = candidates.iter().find(|candidate| candidate.name == name);
        found.map(Candidate::median).context("a candidate")
    };
    println!("splice to peer: 1 : {:.1}", median(PEER)? / median(SPLICE)?);
    let crop = scene.crop.pixels().len();
    let frame = scene.baked.n_bytes();
    println!(
        "memory a frame: {frame} bytes, with the network's crop {}",
        frame + crop
    );
    Ok(())
}

impl Candidate<'_> {
    fn median(&self) -> f64 {
        self.times_ms[self.times_ms.len() / 2]
    }
}

/// A background frame in every form.
struct Scene {
    background: Picture,
    crop: FaceCrop,
    generated: Vec<u8>,
    baked: BakedFrame,
    settings: BakeSettings,
    options: EncodeOptions,
    png: Vec<u8>,
}

impl Scene {
    fn new(face_px: usize) -> Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let file = std::fs::read(repository.join("assets/avatars/mira/frames/frame_0000.jpg"))?;
        let background = decode(&file, DecodeLimits::default())?;
        let (width, height) = (background.width(), background.height());
        ensure!((width, height) == (1280, 720), "another avatar");
        let rect = PixelRect {
            x: (width - face_px) / 2,
            y: (height - face_px) / 2,
            width: face_px,
            height: face_px,
        };
        let settings = BakeSettings {
            quality: QUALITY,
            restart_interval: choose_restart_interval(&[rect], width, height),
        };
        let crop = FaceCrop::cut(&background, rect, FaceGeometry::LARGE)?;
        // As busy as a face: the region itself, turned upside down.
        let FaceGeometry {
            region_px,
            crop_px,
            ring_px,
            ..
        } = FaceGeometry::LARGE;
        let rows = crop.pixels().chunks_exact(crop_px * 3).rev();
        let generated = rows
            .skip(ring_px)
            .take(region_px)
            .flat_map(|row| &row[ring_px * 3..(ring_px + region_px) * 3])
            .copied()
            .collect();
        Ok(Self {
            baked: bake(&background, rect, &settings)?,
            options: EncodeOptions {
                restart_interval: settings.restart_interval,
                is_marked: true,
            },
            png: encode(&background, Encoding::Png)?,
            settings,
            crop,
            generated,
            background,
        })
    }

    fn frame(&self) -> Result<Picture> {
        Ok(composite(&self.background, &self.crop, &self.generated)?)
    }

    /// As the `image` crate does it, which knows no halved chroma.
    fn image_crate(&self, frame: &Picture) -> Result<usize> {
        let mut file = Vec::new();
        let sides = (
            u32::try_from(frame.width())?,
            u32::try_from(frame.height())?,
        );
        JpegEncoder::new_with_quality(&mut file, QUALITY).encode(
            frame.rgb(),
            sides.0,
            sides.1,
            ExtendedColorType::Rgb8,
        )?;
        Ok(file.len())
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let mut candidates = self.whole_paths();
        candidates.extend(self.steps());
        candidates
    }

    fn whole_paths(&self) -> Vec<Candidate<'_>> {
        let options = self.options;
        vec![
            candidate(SPLICE, || {
                Ok(self.baked.splice(&self.crop, &self.generated, true)?.len())
            }),
            candidate(PEER, move || {
                Ok(encode_with(&self.frame()?, JPEG, options)?.len())
            }),
            candidate("the same: PNG + `image` crate", || {
                let background = decode(&self.png, DecodeLimits::default())?;
                self.image_crate(&composite(&background, &self.crop, &self.generated)?)
            }),
            candidate("region only", move || {
                Ok(encode_face(&self.crop, &self.generated, JPEG, options)?.len())
            }),
            candidate("idle frame", || Ok(self.baked.jpeg(true).len())),
        ]
    }

    fn steps(&self) -> Vec<Candidate<'_>> {
        let rect = self.baked.rect();
        vec![
            candidate("bake", move || {
                Ok(bake(&self.background, rect, &self.settings)?.n_bytes())
            }),
            candidate("baked frame from its parts", || {
                Ok(BakedFrame::from_parts(self.baked.to_parts())?.n_bytes())
            }),
            candidate("cut the face, resize to 328", move || {
                let crop = FaceCrop::cut(&self.background, rect, FaceGeometry::LARGE)?;
                Ok(crop.pixels().len())
            }),
            candidate("face patch, resize from 328", || {
                Ok(face_patch(&self.crop, &self.generated)?.bytes())
            }),
            candidate("composite onto a copy of the frame", || {
                Ok(self.frame()?.bytes())
            }),
            candidate("encode JPEG", || Ok(encode(&self.background, JPEG)?.len())),
            candidate("encode PNG", || {
                Ok(encode(&self.background, Encoding::Png)?.len())
            }),
            candidate("encode I420", || {
                Ok(encode(&self.background, Encoding::I420(Yuv::Bt601Full))?.len())
            }),
            candidate("decode PNG", || {
                Ok(decode(&self.png, DecodeLimits::default())?.bytes())
            }),
            candidate("decode JPEG", || {
                Ok(decode(&self.baked.jpeg(true), DecodeLimits::default())?.bytes())
            }),
        ]
    }
}

fn candidate<'a>(name: &'static str, step: impl Fn() -> Result<usize> + 'a) -> Candidate<'a> {
    Candidate {
        name,
        step: Box::new(step),
        times_ms: Vec::with_capacity(N_ROUNDS * FRAMES_A_TURN),
        n_bytes: 0,
    }
}
