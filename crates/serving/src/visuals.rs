//! What a client says the network sees of background frames, compared with what it sees.
//!
//! The server makes these pictures itself and never uses a client's. Comparing them tells a client early that it shows
//! other frames than it believes.

use std::iter;

use bytes::Bytes;
use lipsync_compositor::FaceCrop;
use lipsync_core::face::FacePart;

use crate::{cpu_pool::CpuPool, error::ServeError};

/// Values of a pixel: blue, green, red, twice; one of them with the mouth blacked out.
const CHANNELS: usize = 6;
/// Bytes of a pixel of a crop.
const PIXEL_BYTES: usize = 3;
/// The mean difference of a frame's values, which are 0 to 1, from which on it is another picture. Libraries that
/// resize bicubically differ by less than 0.01 in the mean, neighbouring frames of a talking head by as much; another
/// person, or red for blue, by more than 0.05.
const MAX_MEAN_DIFFERENCE: f64 = 0.04;

/// Bytes of one frame, f32 LE, of a network whose region has this side.
#[must_use]
pub fn frame_bytes(region_px: usize) -> usize {
    size_of::<f32>() * CHANNELS * region_px * region_px
}

/// Compares all frames.
///
/// # Errors
/// [`ServeError::Invalid`] naming the first frame that is another picture, or the size.
pub(crate) async fn check(
    cpu: &CpuPool,
    visuals: &Bytes,
    crops: impl ExactSizeIterator<Item = &FaceCrop>,
) -> Result<(), ServeError> {
    let region_px = |crop: &FaceCrop| frame_bytes(crop.geometry().region_px);
    let crops: Vec<FaceCrop> = crops.cloned().collect();
    let expected: usize = crops.iter().map(region_px).sum();
    if visuals.len() != expected {
        let n = visuals.len();
        return Err(bad(format!("expected {expected} bytes, found {n}")));
    }
    let mut rest = visuals.clone();
    let frames = crops.into_iter().enumerate().map(|(n, crop)| {
        let frame = rest.split_to(region_px(&crop));
        (n, crop, frame)
    });
    let frames: Vec<_> = frames.collect();
    // One frame takes about a millisecond.
    let checked = cpu.run_each(frames.into_iter(), 4, |(n, crop, frame)| {
        let difference = mean_difference(frame, crop);
        // A NaN is no good either.
        if difference <= MAX_MEAN_DIFFERENCE {
            return Ok(());
        }
        Err(bad(format!(
            "frame {n} differs from the model's own picture by {difference:.3} in the mean, at most {MAX_MEAN_DIFFERENCE} is accepted"
        )))
    });
    checked.await.map(drop)
}

fn bad(message: String) -> ServeError {
    ServeError::invalid("visual_frames", message)
}

/// `frame` is `[6, H, W]`, f32 LE.
fn mean_difference(frame: &[u8], crop: &FaceCrop) -> f64 {
    let geometry = crop.geometry();
    let side = geometry.region_px;
    let (values, _none) = frame.as_chunks::<4>();
    let places = (0..CHANNELS).flat_map(|channel| {
        (0..side).flat_map(move |y| iter::repeat_n((channel, y), side).zip(0..side))
    });
    let sum: f64 = places
        .zip(values)
        .map(|(((channel, y), x), value)| {
            let part = geometry.inputs[channel / PIXEL_BYTES];
            let is_black = part == FacePart::Masked && geometry.is_masked(x, y);
            let pixel = (y + geometry.ring_px) * geometry.crop_px + x + geometry.ring_px;
            let byte = crop.pixels()[pixel * PIXEL_BYTES + channel % PIXEL_BYTES];
            let ours = if is_black {
                0.0
            } else {
                f64::from(byte) / 255.0
            };
            (f64::from(f32::from_le_bytes(*value)) - ours).abs()
        })
        .sum();
    let n_values = u32::try_from(values.len().max(1)).unwrap_or(u32::MAX);
    sum / f64::from(n_values)
}

#[cfg(test)]
mod tests {
    use lipsync_compositor::{FaceCrop, Picture};
    use lipsync_core::{FaceGeometry, PixelRect};

    use super::*;

    /// A face whose red, green and blue are far apart.
    fn crop(level: u8) -> FaceCrop {
        let pixel = [level, level / 2, 255 - level];
        let picture = Picture::new(32, 32, pixel.repeat(32 * 32)).unwrap();
        let rect = PixelRect {
            x: 4,
            y: 4,
            width: 20,
            height: 20,
        };
        FaceCrop::cut(&picture, rect, FaceGeometry::SMALL).unwrap()
    }

    /// What the network sees of it, as clients send it.
    fn seen(level: u8, order: [usize; 3]) -> Vec<u8> {
        let pixel = [level, level / 2, 255 - level];
        let geometry = FaceGeometry::SMALL;
        let mut values = Vec::new();
        for channel in 0..6 {
            for y in 0..160 {
                for x in 0..160 {
                    let is_black = channel >= 3 && geometry.is_masked(x, y);
                    let byte = if is_black {
                        0
                    } else {
                        pixel[order[channel % 3]]
                    };
                    values.extend((f32::from(byte) / 255.0).to_le_bytes());
                }
            }
        }
        values
    }

    const BGR: [usize; 3] = [2, 1, 0];

    #[tokio::test]
    async fn only_the_models_own_pictures_pass() {
        let cpu = CpuPool::new();
        let crops = [crop(200), crop(90)];
        let good: Bytes = [seen(200, BGR), seen(90, BGR)].concat().into();
        check(&cpu, &good, crops.iter()).await.unwrap();
        let others = [
            ("expected 1228800 bytes, found 4", vec![0; 4]),
            ("frame 1 differs", [seen(200, BGR), seen(10, BGR)].concat()),
            (
                "frame 0 differs",
                [seen(200, [0, 1, 2]), seen(90, BGR)].concat(),
            ),
            ("frame 0 differs", vec![0xff; good.len()]),
        ];
        for (words, other) in others {
            let error = check(&cpu, &other.into(), crops.iter()).await;
            let error = error.expect_err(words).to_string();
            assert!(
                error.contains("visual_frames") && error.contains(words),
                "{error}"
            );
        }
    }
}
