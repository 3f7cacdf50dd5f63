//! How far a generator's frames in narrower numbers are from its frames in f32, on the model's own backgrounds.

use std::sync::Arc;

use lipsync_audio::SampleEncoding;
use lipsync_core::{
    SplitMix64,
    saturate::{u32_of, usize_of},
};
use lipsync_engine::{FaceInput, Generator, Workspace};
use lipsync_registry::Model;
use lipsync_serving::{
    ServeError,
    clip::{window_floats, windows_of_clip},
    order::{Clip, Cut, PcmFormat},
    speech,
};

/// PSNR of frames that are equal, dB: JSON has no infinity.
const EQUAL_DB: f64 = 100.0;

/// What the audio of compared frames was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioSource {
    /// Speech-like sound, through the model's audio encoder.
    Encoder,
    /// Random numbers in -1..1, for a model without an audio encoder.
    Random,
}

/// The differences found.
#[derive(Debug)]
pub struct Comparison {
    /// PSNR of each frame, dB, over the bytes of its region.
    pub psnr_db: Vec<f64>,
    /// Norm of the difference of all bytes over the norm of the f32 ones.
    pub relative_l2: f64,
    /// What the frames heard.
    pub audio: AudioSource,
}

impl Comparison {
    /// Mean of the frames' PSNR, dB.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 frames")]
    pub fn psnr_mean_db(&self) -> f64 {
        self.psnr_db.iter().sum::<f64>() / self.psnr_db.len() as f64
    }

    /// PSNR of the worst frame, dB.
    #[must_use]
    pub fn psnr_min_db(&self) -> f64 {
        self.psnr_db.iter().copied().fold(EQUAL_DB, f64::min)
    }
}

/// A crop, a window of audio, and the face that the network in f32 makes of them.
type Example = (Arc<[u8]>, Vec<f32>, Vec<u8>);

/// Frames of a model in f32, and what they were made of: backgrounds spread evenly over all that the model has,
/// with consecutive windows of audio.
#[derive(Debug)]
pub struct Reference {
    /// Region of the crop, window of audio, and the face in f32, for each frame.
    frames: Vec<Example>,
    audio: AudioSource,
}

impl Reference {
    /// Makes `n_frames` frames, at least one, with the model's own generator. Blocks for as long as that takes.
    ///
    /// # Errors
    /// What is wrong with a background's file, or what the generator reports.
    pub fn new(model: &Model, n_frames: usize) -> Result<Self, ServeError> {
        let n_frames = n_frames.max(1);
        let (windows, audio) = windows(model, n_frames)?;
        let mut workspace = Workspace::new();
        let mut frames = Vec::with_capacity(n_frames);
        for (i, window) in windows.chunks_exact(window_floats(model)).enumerate() {
            let index = i as u64 * u64::from(model.n_frames()) / n_frames as u64;
            let crop = model.face_crop(u32_of(index))?;
            let crop: Arc<[u8]> = Arc::clone(crop.pixels());
            let face = face(&**model.generator(), &mut workspace, &crop, window)?;
            frames.push((crop, window.to_vec(), face));
        }
        Ok(Self { frames, audio })
    }

    /// Makes at most `n_frames` of the frames, spread evenly, with another generator, and compares. Blocks for as long
    /// as that takes.
    ///
    /// # Errors
    /// What the generator reports.
    pub fn compare(
        &self,
        other: &dyn Generator,
        n_frames: usize,
    ) -> Result<Comparison, ServeError> {
        let (mut workspace, mut tally) = (Workspace::new(), Tally::default());
        let n_frames = n_frames.clamp(1, self.frames.len());
        for i in 0..n_frames {
            let (crop, window, expected) = &self.frames[i * self.frames.len() / n_frames];
            let actual = face(other, &mut workspace, crop, window)?;
            tally.add(expected, &actual);
        }
        Ok(Comparison {
            relative_l2: tally.relative_l2(),
            psnr_db: tally.psnr_db,
            audio: self.audio,
        })
    }
}

fn face(
    generator: &dyn Generator,
    workspace: &mut Workspace,
    crop: &[u8],
    audio: &[f32],
) -> Result<Vec<u8>, ServeError> {
    let frame = FaceInput {
        crop,
        frame: None,
        audio,
    };
    let mut faces = Vec::new();
    let made = generator.infer(workspace, &[frame], &mut faces);
    made.map_err(ServeError::internal)?;
    Ok(faces.concat())
}

/// `[n_frames, C, H, W]`.
fn windows(model: &Model, n_frames: usize) -> Result<(Arc<[f32]>, AudioSource), ServeError> {
    let fps = model.fps();
    if !model.hears_sound() {
        let n_floats = n_frames * window_floats(model);
        let windows = SplitMix64::new(1).floats(n_floats, -1.0, 1.0);
        return Ok((windows.into(), AudioSource::Random));
    }
    let n_samples = (n_frames as u64 * u64::from(speech::RATE_HZ)).div_ceil(u64::from(fps));
    let samples = speech::speech_like(usize_of(n_samples));
    let samples: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    let clip = Clip::Pcm {
        samples: samples.into(),
        format: PcmFormat {
            rate_hz: speech::RATE_HZ,
            n_channels: 1,
            encoding: SampleEncoding::F32Le,
        },
        cut: Cut {
            first_frame: 0,
            end_of_utterance: true,
            silence_follows: false,
        },
        warning: None,
    };
    let windows = windows_of_clip(model, &clip, Some(n_frames), n_frames)?;
    Ok((windows.data, AudioSource::Encoder))
}

/// Sums over the frames so far.
#[derive(Debug, Default)]
struct Tally {
    psnr_db: Vec<f64>,
    /// Of squared differences of bytes.
    error: u64,
    /// Of squared bytes.
    norm: u64,
}

impl Tally {
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums over a frame are below 2^53"
    )]
    fn add(&mut self, expected: &[u8], actual: &[u8]) {
        let pairs = expected.iter().zip(actual);
        let error: u64 = pairs.map(|(&e, &a)| u64::from(e.abs_diff(a)).pow(2)).sum();
        let mean = error as f64 / expected.len() as f64;
        let psnr = 10.0 * (255.0 * 255.0 / mean).log10();
        self.psnr_db.push(psnr.min(EQUAL_DB));
        self.error += error;
        self.norm += expected.iter().map(|&e| u64::from(e).pow(2)).sum::<u64>();
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    fn relative_l2(&self) -> f64 {
        (self.error as f64 / self.norm.max(1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_measured_by_frame() {
        let mut tally = Tally::default();
        tally.add(&[100, 100], &[100, 100]);
        tally.add(&[100, 100], &[101, 99]);
        assert_eq!(tally.psnr_db[0], EQUAL_DB);
        // One level everywhere: 20 log10 255.
        assert!((tally.psnr_db[1] - 48.130_8).abs() < 1e-3);
        assert!((tally.relative_l2() - 0.01 / 2f64.sqrt()).abs() < 1e-9);
    }
}
