//! Runs an avatar on speech, as the server would, without a server.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lipsync_audio::SampleEncoding;
use lipsync_compositor::{FaceCrop, Picture, composite};
use lipsync_core::{SplitMix64, background_index, saturate::u32_of};
use lipsync_engine::{FaceInput, Workspace};
use lipsync_registry::Model;
use lipsync_serving::{
    ServeError,
    clip::{window_floats, windows_of_clip},
    order::{Clip, Cut, PcmFormat},
};

use super::{mouth::Face, sound::Speech};

/// Frames of a model that hears nothing the server can make.
const RANDOM_FRAMES: usize = 25;
/// Frames whose time is measured, after one that warms up.
const TIMED_FRAMES: usize = 5;
/// A frame whose window hears the silence before the speech alone.
const SILENT_FRAME: usize = 4;

/// An avatar and the windows of what it says.
pub struct Trial<'a> {
    model: &'a Model,
    /// `[n_frames, C, H, W]`.
    windows: Arc<[f32]>,
    n_frames: usize,
    /// Whether the windows are those of speech.
    pub hears_speech: bool,
}

/// What a frame costs on one thread.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// Where the background frame is new.
    pub first: Duration,
    /// Where it was seen before: the half of the network that sees it alone is kept.
    pub again: Duration,
}

/// A frame that was spoken.
pub struct SpokenFrame {
    /// The background frame as it is.
    pub background: Arc<Picture>,
    /// With the generated face.
    pub picture: Picture,
    /// Where the face is.
    pub crop: FaceCrop,
}

impl<'a> Trial<'a> {
    /// Makes the windows of `speech`; random ones for a model that the server cannot drive by sound.
    ///
    /// # Errors
    /// What the audio encoder reports.
    pub fn new(model: &'a Model, speech: &Speech) -> Result<Self, ServeError> {
        let fps = model.fps();
        if !model.hears_sound() {
            let n_floats = RANDOM_FRAMES * window_floats(model);
            return Ok(Self {
                model,
                windows: SplitMix64::new(1).floats(n_floats, -1.0, 1.0).into(),
                n_frames: RANDOM_FRAMES,
                hears_speech: false,
            });
        }
        let format = speech.format();
        let clip = Clip::Pcm {
            samples: speech.bytes().into(),
            format: PcmFormat {
                rate_hz: format.rate_hz,
                n_channels: format.n_channels.into(),
                encoding: SampleEncoding::S16Le,
            },
            cut: Cut {
                first_frame: 0,
                end_of_utterance: true,
                silence_follows: false,
            },
            warning: None,
        };
        let n_frames = speech.n_frames(fps.get());
        let windows = windows_of_clip(model, &clip, Some(n_frames), n_frames)?;
        Ok(Self {
            model,
            windows: windows.data,
            n_frames,
            hears_speech: true,
        })
    }

    /// Frames of the speech.
    #[must_use]
    pub fn n_frames(&self) -> usize {
        self.n_frames
    }

    /// Measures what a frame costs on this thread: the fastest of a few, since others may be at work.
    ///
    /// # Errors
    /// What is wrong with the first background frame, and what the generator reports.
    pub fn speed(&self) -> Result<Speed, ServeError> {
        let crop = self.model.face_crop(0)?;
        let mut workspace = Workspace::new();
        let mut time = |frame: Option<u32>| -> Result<Duration, ServeError> {
            let mut best = Duration::MAX;
            for n in 0..=TIMED_FRAMES {
                let started = Instant::now();
                self.face(&mut workspace, &crop, (frame, 0))?;
                // The first fills memory and caches.
                if n > 0 {
                    best = best.min(started.elapsed());
                }
            }
            Ok(best)
        };
        Ok(Speed {
            first: time(None)?,
            again: time(Some(0))?,
        })
    }

    /// The faces of the whole speech on the first background frame: what differs is what the sound makes.
    ///
    /// # Errors
    /// As [`speed`](Self::speed).
    pub fn faces(&self) -> Result<Vec<Face>, ServeError> {
        let crop = self.model.face_crop(0)?;
        let side_px = self.model.geometry().region_px;
        in_parallel(self.n_frames, |workspace, n| {
            let face = self.face(workspace, &crop, (Some(0), n))?;
            Ok(Face::of(&face, side_px))
        })
    }

    /// Up to `n` background frames, each as it is and as the generator draws it in silence.
    ///
    /// # Errors
    /// As [`speed`](Self::speed), of any frame.
    pub fn at_rest(&self, n: u32) -> Result<Vec<(Face, Face)>, ServeError> {
        let n_all = self.model.n_frames();
        let n = n.min(n_all);
        let (region, ring) = (
            self.model.geometry().region_px,
            self.model.geometry().ring_px,
        );
        in_parallel(usize::try_from(n).unwrap_or(0), |workspace, i| {
            let index = u32_of(i as u64 * u64::from(n_all) / u64::from(n));
            let crop = self.model.face_crop(index)?;
            let silent = SILENT_FRAME.min(self.n_frames - 1);
            let drawn = self.face(workspace, &crop, (Some(index), silent))?;
            let row = |y: usize| {
                let start = ((y + ring) * (region + 2 * ring) + ring) * 3;
                &crop.pixels()[start..start + region * 3]
            };
            let seen = (0..region).map(row).collect::<Vec<_>>().concat();
            Ok((Face::of(&seen, region), Face::of(&drawn, region)))
        })
    }

    /// How far generated pixels are from the background just outside of the mouth mask, levels on average: there the
    /// network sees what it has to draw.
    ///
    /// # Errors
    /// As [`speed`](Self::speed).
    pub fn edge_levels(&self) -> Result<f64, ServeError> {
        let crop = self.model.face_crop(0)?;
        let geometry = self.model.geometry();
        let silent = SILENT_FRAME.min(self.n_frames - 1);
        let face = self.face(&mut Workspace::new(), &crop, (Some(0), silent))?;
        let (mut sum, mut n) = (0_u32, 0_u32);
        for y in 0..geometry.region_px {
            for x in 0..geometry.region_px {
                if geometry.is_masked(x, y) {
                    continue;
                }
                let drawn = &face[(y * geometry.region_px + x) * 3..][..3];
                let (x, y) = (x + geometry.ring_px, y + geometry.ring_px);
                let seen = &crop.pixels()[(y * geometry.crop_px + x) * 3..][..3];
                for (a, b) in drawn.iter().zip(seen) {
                    sum += u32::from(a.abs_diff(*b));
                    n += 1;
                }
            }
        }
        Ok(f64::from(sum) / f64::from(n.max(1)))
    }

    /// The frames of some places of the walk, each with the sound of its place.
    ///
    /// # Errors
    /// As [`speed`](Self::speed), of any frame.
    pub fn walk(&self, places: &[usize]) -> Result<Vec<SpokenFrame>, ServeError> {
        in_parallel(places.len(), |workspace, n| {
            let place = places[n];
            let index = background_index(place as u64, self.model.n_frames());
            let background = self.model.picture(index)?;
            let crop = self.model.face_crop(index)?;
            let face = self.face(workspace, &crop, (Some(index), place))?;
            let picture = composite(&background, &crop, &face).map_err(ServeError::internal)?;
            Ok(SpokenFrame {
                background,
                picture,
                crop,
            })
        })
    }

    /// One face: what the network makes of a crop and the window of frame `n`.
    fn face(
        &self,
        workspace: &mut Workspace,
        crop: &FaceCrop,
        (frame, n): (Option<u32>, usize),
    ) -> Result<Vec<u8>, ServeError> {
        let n_floats = window_floats(self.model);
        let input = FaceInput {
            crop: crop.pixels(),
            frame,
            audio: &self.windows[n * n_floats..(n + 1) * n_floats],
        };
        let mut faces = Vec::new();
        let run = self
            .model
            .generator()
            .infer(workspace, &[input], &mut faces);
        run.map_err(ServeError::internal)?;
        Ok(faces.concat())
    }
}

/// Does `n` pieces of work on all cores, each thread with a workspace; the results are in order.
fn in_parallel<T: Send>(
    n: usize,
    work: impl Fn(&mut Workspace, usize) -> Result<T, ServeError> + Sync,
) -> Result<Vec<T>, ServeError> {
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(n));
    thread::scope(|scope| {
        for _ in 0..n_threads.min(n) {
            scope.spawn(|| {
                let mut workspace = Workspace::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= n {
                        break;
                    }
                    let result = work(&mut workspace, index);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
