//! `lipsync-server check-avatar`: whether an avatar speaks, judged as far as a program can, with pictures and a film for
//! the rest.
//!
//! The registry's [`check_files`](lipsync_registry::check_files) reads all files. This runs the networks: what a frame
//! costs, whether the picture fits around the mouth, and whether the mouth follows the voice. Nobody has to say what
//! is right: see [`judge`].

pub mod canvas;
mod figures;
pub mod judge;
pub mod mouth;
pub mod show;
pub mod sound;
pub mod trial;

use std::fmt;

use lipsync_registry::{Findings, Model, Severity};
use lipsync_serving::ServeError;

use figures::quantile;
use judge::{LipSync, loudness_db};
use mouth::{Face, Mouth};
use sound::Speech;
use trial::{Speed, Trial};

/// A mouth that follows its voice less than this is doubted.
const LEAST_CORRELATION: f64 = 0.3;
/// Picture and sound may be apart by so many frames.
const MOST_LAG_FRAMES: f64 = 3.0;
/// In settled silence the mouth is closed in at least this share of frames.
const LEAST_CLOSED: f64 = 0.7;
/// Levels by which the sound changes the mouth at least; compression alone makes about one.
const LEAST_LEVELS: f64 = 4.0;
/// Levels by which generated pixels may differ from those that the network sees.
const MOST_EDGE_LEVELS: f64 = 12.0;
/// Background frames whose mouth is looked at.
const REST_FRAMES: u32 = 24;
/// A mouth that moves by more than this part of its speech while it rests, talks.
const MOST_REST: f64 = 0.5;

/// How an avatar speaks.
#[derive(Debug)]
pub struct Spoken {
    /// What a frame costs.
    pub speed: Speed,
    /// How far generated pixels are from those that the network sees, levels.
    pub edge_levels: f64,
    /// Of a model that the server drives by sound.
    pub voice: Option<Voice>,
    /// Five frames of the walk to look at, from a closed mouth to an open one.
    pub places: Vec<usize>,
    /// What is doubtful.
    pub findings: Findings,
}

/// How the mouth moves with sound.
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    /// Levels by which the mouth changes between closed and open.
    pub levels: f64,
    /// How it follows.
    pub lip_sync: LipSync,
    /// How far the mouths of the background frames move, as a part of speech.
    pub rest: f64,
    /// Frames per second.
    pub fps: u32,
}

/// Has an avatar speak, and judges it. Blocks for as long as that takes.
///
/// # Errors
/// What is wrong with background frames, and what the networks report.
pub fn speak(model: &Model, trial: &Trial<'_>, speech: &Speech) -> Result<Spoken, ServeError> {
    let mut spoken = Spoken {
        speed: trial.speed()?,
        edge_levels: trial.edge_levels()?,
        voice: None,
        places: (0..5).map(|n| n * (trial.n_frames() - 1) / 4).collect(),
        findings: Findings::default(),
    };
    if trial.hears_speech {
        let faces = trial.faces()?;
        match Mouth::of(&faces) {
            Some(mouth) => {
                let opening: Vec<f64> = faces.iter().map(|face| mouth.opening(face)).collect();
                let loudness = loudness_db(&speech.mono(), faces.len());
                spoken.voice = Some(Voice {
                    levels: mouth.levels(),
                    lip_sync: LipSync::of(&opening, &loudness),
                    rest: rest(&mouth, &trial.at_rest(REST_FRAMES)?),
                    fps: model.fps().get(),
                });
                spoken.places = typical(&opening);
            }
            None => spoken.findings.add(
                Severity::Error,
                "the sound does not change the picture: the generator hears nothing, or was not trained",
            ),
        }
    }
    spoken.doubt(model.fps().get(), model.rest_faces().is_some());
    Ok(spoken)
}

/// How far the mouths of background frames are apart, beside what the generator draws on each in silence: so heads may
/// move.
fn rest(mouth: &Mouth, faces: &[(Face, Face)]) -> f64 {
    let apart = |(seen, drawn): &(Face, Face)| mouth.opening(seen) - mouth.opening(drawn);
    let mut apart: Vec<f64> = faces.iter().map(apart).collect();
    apart.sort_by(f64::total_cmp);
    quantile(&apart, 0.95) - quantile(&apart, 0.05)
}

/// Five frames from the most closed mouth to the widest.
fn typical(opening: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..opening.len()).collect();
    order.sort_by(|&a, &b| opening[a].total_cmp(&opening[b]));
    let last = order.len().saturating_sub(1);
    [2, 30, 55, 80, 98]
        .map(|percent| order[last * percent / 100])
        .to_vec()
}

impl Spoken {
    /// Adds what is doubtful about the figures. The background's own mouth does not matter where it is never shown.
    fn doubt(&mut self, fps: u32, rests_generated: bool) {
        let mut warn = |text: String| self.findings.add(Severity::Warning, text);
        let per_s = 1.0 / self.speed.again.as_secs_f64().max(1e-9);
        if per_s < f64::from(fps) {
            warn(format!(
                "one thread makes {per_s:.1} frames a second of the {fps} that are needed: live sessions will drop \
                 frames on this machine, unless `compare-precision` finds narrower numbers good enough"
            ));
        }
        if self.edge_levels > MOST_EDGE_LEVELS {
            warn(format!(
                "around the mouth the generator draws {:.0} levels beside what it sees: these frames or rectangles are \
                 of another avatar, the colours are in another order, or the network was trained with another mask",
                self.edge_levels
            ));
        }
        if let Some(voice) = self.voice {
            self.doubt_voice(voice, rests_generated);
        }
    }

    fn doubt_voice(&mut self, voice: Voice, rests_generated: bool) {
        let Voice {
            levels,
            lip_sync,
            rest,
            fps,
        } = voice;
        let mut warn = |text: String| self.findings.add(Severity::Warning, text);
        if levels < LEAST_LEVELS {
            warn(format!(
                "the sound changes the mouth by {levels:.1} levels only: the generator was hardly trained, or with \
                 other features"
            ));
        }
        if lip_sync.correlation < LEAST_CORRELATION {
            warn(format!(
                "the mouth does not follow the loudness (correlation {:.2}, and at least {LEAST_CORRELATION} is \
                 usual): is the audio encoder the one of the training?",
                lip_sync.correlation
            ));
        } else if lip_sync.lag_frames.abs() > MOST_LAG_FRAMES {
            let late = if lip_sync.lag_frames > 0.0 {
                "late"
            } else {
                "early"
            };
            warn(format!(
                "the mouth is {:.0} ms {late}: were sound and pictures of the training in step?",
                1e3 * lip_sync.lag_frames.abs() / f64::from(fps)
            ));
        }
        if lip_sync.closed_share() < LEAST_CLOSED {
            warn(format!(
                "in silence the mouth is closed in {:.0} % of the frames only: was there silence in the training?",
                100.0 * lip_sync.closed_share()
            ));
        }
        if rest > MOST_REST && !rests_generated {
            warn(format!(
                "the mouths of the background frames move by {:.0} % of what speech does: at rest the face will \
                 babble. Set rest: generated in avatar.yaml, or record a background with a closed mouth",
                100.0 * rest
            ));
        }
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "a frame takes {:.1} ms on one thread, {:.1} ms where its background was seen before\n\
             around the mouth: {:.1} levels beside the background",
            ms(self.speed.first),
            ms(self.speed.again),
            self.edge_levels
        )?;
        let Some(voice) = self.voice else {
            return Ok(());
        };
        let LipSync {
            correlation,
            lag_frames,
            silent,
            dips,
        } = voice.lip_sync;
        write!(
            f,
            "\nthe sound changes the mouth by {:.0} levels; background frames move it by {:.0} % of that\n\
             lip sync: correlation with loudness {correlation:.2}, lag {:+.0} ms, closed in {} of {} silent frames, \
             narrower at {} of {} short dips",
            voice.levels,
            100.0 * voice.rest,
            1e3 * lag_frames / f64::from(voice.fps),
            silent.1,
            silent.0,
            dips.1,
            dips.0
        )
    }
}
