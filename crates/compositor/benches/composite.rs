//! Times of the full-frame path: medians, one thread, a 1280x720 frame and a 300x300 face.
//!
//! Run it with `cargo bench -p lipsync-compositor`.

use std::{hint::black_box, time::Instant};

use lipsync_compositor::{
    CompositorError, DecodeLimits, Encoding, FaceCrop, Picture, composite, decode, encode,
    face_patch,
};
use lipsync_core::{FaceGeometry, PixelRect};

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;

fn main() -> Result<(), CompositorError> {
    let background = soft_picture()?;
    let rect = PixelRect {
        x: 490,
        y: 200,
        width: 300,
        height: 300,
    };
    let crop = FaceCrop::cut(&background, rect, FaceGeometry::LARGE)?;
    let generated = vec![120; FaceGeometry::LARGE.region_bytes()];
    let frame = composite(&background, &crop, &generated)?;
    let png = encode(&frame, Encoding::Png)?;
    let jpeg = Encoding::Jpeg { quality: 85 };

    report("cut, 300 to 328", || {
        FaceCrop::cut(&background, rect, FaceGeometry::LARGE)
    });
    report("face patch, 328 to 300", || face_patch(&crop, &generated));
    report("composite", || composite(&background, &crop, &generated));
    report("encode JPEG, quality 85", || encode(&frame, jpeg));
    report("encode PNG", || encode(&frame, Encoding::Png));
    report("encode I420", || encode(&frame, Encoding::I420));
    report("composite and encode JPEG", || {
        encode(&composite(&background, &crop, &generated)?, jpeg)
    });
    report("decode PNG", || decode(&png, DecodeLimits::default()));
    Ok(())
}

/// Ramps and soft waves, about as busy as a portrait before a plain wall.
fn soft_picture() -> Result<Picture, CompositorError> {
    let mut data = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let wave = (x * y / 97 + x * x / 53) % 64;
            for level in [60 + x / 12 + wave, 40 + y / 6 + wave / 2, 90 + wave] {
                data.push(u8::try_from(level).unwrap_or(u8::MAX));
            }
        }
    }
    Picture::new(WIDTH, HEIGHT, data)
}

#[expect(clippy::print_stdout, reason = "a bench reports on the terminal")]
fn report<T>(name: &str, mut step: impl FnMut() -> T) {
    let mut times_ms: Vec<f64> = (0..61)
        .map(|_| {
            let start = Instant::now();
            black_box(step());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times_ms.sort_by(f64::total_cmp);
    println!("{name:28} {:8.3} ms", times_ms[times_ms.len() / 2]);
}
