//! From the audio of a unary request to the windows of the frames that it asks for.
//!
//! Blocking: runs on the cpu pool. Only the audio under the wanted frames is decoded and encoded,
//! however long the clip is; that this changes no bit is the audio crate's promise (see
//! `lipsync_audio::cuts`).

use std::{borrow::Cow, sync::Arc};

use lipsync_audio::{
    AudioError, SpeechForm, WindowStream, cuts::frame_sample, decode_pcm, features::decode_features,
};
use lipsync_core::{
    Fps,
    family::WindowSource,
    frames_in,
    saturate::{u64_of, usize_of},
};
use lipsync_registry::Model;
use lipsync_session::Warning;

use crate::{
    ear::{Ear, StepsNeeded},
    error::ServeError,
    levels::Levels,
    order::{Clip, Cut, PcmFormat},
};

/// The windows of some frames.
#[derive(Debug)]
pub struct ClipWindows {
    /// `[n_frames, C, H, W]`.
    pub data: Arc<[f32]>,
    /// How many.
    pub n_frames: usize,
    /// The first one's place in its clip.
    pub first_frame: u64,
    /// What was odd about the audio.
    pub warnings: Vec<Warning>,
}

/// Frames beyond those that rows of steps cover that may be asked for by count: the clip's audio may
/// be so much longer than its steps.
const STEPS_SURPLUS_FRAMES: u64 = 2;
/// More than the frames at the end of steps that go on whose windows are not complete.
const MAX_OPEN_FRAMES: u64 = 16;
/// Steps are handed to the window maker in pieces of so many, for the same reason as samples.
const STEPS_AT_ONCE: usize = 64;
/// Samples are handed to the front-end in pieces of this duration, so that it can stop when enough
/// windows have come out.
const PIECE_FRAMES: u64 = 25;

/// The windows that a clip gives for the frames wanted; all that it covers when `n_wanted` is `None`.
///
/// # Errors
/// [`ServeError::Invalid`] when values are not finite, the clip does not cover the frames, or they
/// are more than `max_frames`.
pub fn windows_of_clip(
    model: &Model,
    clip: &Clip,
    n_wanted: Option<usize>,
    max_frames: usize,
) -> Result<ClipWindows, ServeError> {
    // Whatever protocol it came by.
    if let Some(n) = n_wanted.filter(|&n| n > max_frames) {
        let text = format!("at most {max_frames} (server.max_batch_frames), found {n}");
        return Err(ServeError::invalid("frame_count", text));
    }
    let wanted = Wanted {
        n_frames: n_wanted.map(|n| n as u64),
        max_frames: max_frames as u64,
    };
    let mut warnings = Vec::new();
    let (data, first_frame) = match clip {
        Clip::Windows { data } => (given_windows(model, data, &wanted)?, 0),
        Clip::OneWindow { data } => (repeated_window(model, data, &wanted)?, 0),
        Clip::Steps { data, cut } => (
            windows_of_steps(model, data, *cut, &wanted)?,
            cut.first_frame as u64,
        ),
        Clip::Pcm {
            samples,
            format,
            cut,
            warning,
        } => {
            let samples = lengthened(samples, (*format, model.fps()), *cut, n_wanted);
            let mut levels = Levels::default();
            let mut pcm = |samples: &[u8]| decoded(samples, *format, &mut levels);
            let data = windows_of_pcm(model, (&samples, *format), *cut, &wanted, &mut pcm)?;
            warnings.extend(warning.clone());
            warnings.extend(levels.warning());
            (data, cut.first_frame as u64)
        }
    };
    let n_frames = data.len() / window_floats(model);
    Ok(ClipWindows {
        data: data.into(),
        n_frames,
        first_frame,
        warnings,
    })
}

/// Frames that surely come of a clip, told without listening to it.
pub(crate) fn least_frames(model: &Model, clip: &Clip, n_wanted: Option<usize>) -> usize {
    let covered = |n_all: u64, cut: Cut, n_open: u64| {
        let n_covered = n_all.saturating_sub(cut.first_frame as u64);
        // Of speech that goes on, the last frames wait for more of it.
        let n_open = if cut.end_of_utterance { 0 } else { n_open };
        n_covered.saturating_sub(n_open)
    };
    let n_frames = match clip {
        Clip::Windows { data } => {
            (data.len() / size_of::<f32>() / window_floats(model).max(1)) as u64
        }
        // As many as are wanted.
        Clip::OneWindow { .. } => u64::MAX,
        Clip::Steps { data, cut } => {
            covered(frames_of_steps(model, data.len()), *cut, MAX_OPEN_FRAMES)
        }
        Clip::Pcm {
            samples,
            format,
            cut,
            ..
        } => {
            let n_samples = (samples.len() / format.item_bytes()) as u64;
            let n_all = frames_in(n_samples, format.rate_hz, model.fps().get());
            covered(n_all, *cut, open_frames(model, format.rate_hz))
        }
    };
    let n_frames = usize::try_from(n_frames).unwrap_or(usize::MAX);
    n_wanted.map_or(n_frames, |n| n.min(n_frames))
}

/// What a request says about the number of frames.
struct Wanted {
    n_frames: Option<u64>,
    max_frames: u64,
}

impl Wanted {
    /// The frames to make of a clip that has `n_covered` from the first wanted one on, and can give
    /// `n_possible` if asked.
    fn of(&self, n_covered: u64, n_possible: u64) -> Result<u64, ServeError> {
        match self.n_frames {
            Some(n) if n > n_possible => Err(ServeError::invalid(
                "frame_count",
                format!(
                    "the audio covers {n_possible} frames from first_frame on, {n} were asked for"
                ),
            )),
            Some(n) => Ok(n),
            None if n_covered > self.max_frames => Err(ServeError::invalid(
                "frame_count",
                format!(
                    "the audio covers {n_covered} frames, at most {} (server.max_batch_frames) are made in one call",
                    self.max_frames
                ),
            )),
            None => Ok(n_covered),
        }
    }

    /// The frames to look for in a clip that goes on: one more than allowed is enough to know that
    /// it is too many.
    fn most_final(&self) -> u64 {
        self.n_frames.unwrap_or(self.max_frames + 1)
    }
}

/// More than the frames at the end of speech that goes on whose windows are not complete.
fn open_frames(model: &Model, rate_hz: u32) -> u64 {
    let WindowSource::Steps(step) = model.audio_form().source else {
        return MAX_OPEN_FRAMES;
    };
    let form = SpeechForm::new(step, model.audio_shape());
    let ahead = form.look_ahead_ms(rate_hz) * u64::from(form.fps());
    ahead.div_ceil(1000) + 1
}

/// Frames of so many bytes of feature steps; 0 of a model that takes none.
#[must_use]
pub fn frames_of_steps(model: &Model, n_bytes: usize) -> u64 {
    let WindowSource::Steps(step) = model.audio_form().source else {
        return 0;
    };
    let form = SpeechForm::new(step, model.audio_shape());
    form.frames_of_steps(u64_of(n_bytes / size_of::<f32>() / form.step_floats()))
}

/// Floats of one window of the model.
#[must_use]
pub fn window_floats(model: &Model) -> usize {
    model.audio_shape().iter().product()
}

fn given_windows(model: &Model, data: &[u8], wanted: &Wanted) -> Result<Vec<f32>, ServeError> {
    let windows =
        decode_features(data, window_floats(model), "windows").map_err(in_field("windows.data"))?;
    let n_frames = (windows.len() / window_floats(model)) as u64;
    if wanted.n_frames.is_some_and(|n| n != n_frames) {
        return Err(ServeError::invalid(
            "frame_count",
            format!("expected 0 or the number of windows, {n_frames}"),
        ));
    }
    wanted.of(n_frames, n_frames)?;
    Ok(windows)
}

/// As many copies as frames are wanted.
fn repeated_window(model: &Model, data: &[u8], wanted: &Wanted) -> Result<Vec<f32>, ServeError> {
    let window = decode_features(data, window_floats(model), "audio_features");
    let window = window.map_err(in_field("audio_features"))?;
    if window.len() != window_floats(model) {
        let n_windows = window.len() / window_floats(model);
        let text = format!("expected one window, found {n_windows}");
        return Err(ServeError::invalid("audio_features", text));
    }
    let n_frames = wanted.of(1, wanted.max_frames)?;
    Ok(window.repeat(usize::try_from(n_frames).unwrap_or(usize::MAX)))
}

fn windows_of_steps(
    model: &Model,
    data: &[u8],
    cut: Cut,
    wanted: &Wanted,
) -> Result<Vec<f32>, ServeError> {
    let form = StepsNeeded::given(model, "steps")?;
    let step_bytes = form.step_floats() * size_of::<f32>();
    if !data.len().is_multiple_of(step_bytes) {
        return Err(ServeError::invalid(
            "steps.data",
            format!(
                "expected steps of {step_bytes} bytes, found {} bytes",
                data.len()
            ),
        ));
    }
    let first_frame = cut.first_frame as u64;
    let n_all = frames_of_steps(model, data.len());
    let n_covered = check_first_frame("steps.first_frame", first_frame, n_all)?;
    let n_most = if cut.end_of_utterance {
        wanted.of(n_covered, n_covered + STEPS_SURPLUS_FRAMES)?
    } else {
        wanted.most_final()
    };
    let mut stream = WindowStream::new(form, first_frame);
    let mut windows = Vec::new();
    let n_floats = floats_of(model, n_most);
    // A window repeats each step 16 times: those of a whole message could take a gigabyte.
    for piece in data.chunks(STEPS_AT_ONCE * step_bytes) {
        if windows.len() >= n_floats {
            break;
        }
        let steps =
            decode_features(piece, form.step_floats(), "steps").map_err(in_field("steps.data"))?;
        stream
            .push(&steps, &mut windows)
            .map_err(in_field("steps.data"))?;
    }
    if cut.end_of_utterance {
        if windows.len() < n_floats {
            stream.finish(first_frame + n_most, &mut windows);
        }
        truncate(model, &mut windows, n_most);
    } else {
        truncate_final(model, &mut windows, wanted)?;
    }
    Ok(windows)
}

fn windows_of_pcm(
    model: &Model,
    (samples, format): (&[u8], PcmFormat),
    cut: Cut,
    wanted: &Wanted,
    decode: &mut impl FnMut(&[u8]) -> Result<Vec<f32>, ServeError>,
) -> Result<Vec<f32>, ServeError> {
    let ear = Ear::of(model, "pcm")?;
    let form = ear.form();
    let rate_hz = format.rate_hz;
    let first_frame = cut.first_frame as u64;
    let n_samples = (samples.len() / format.item_bytes()) as u64;
    let n_all = frames_in(n_samples, rate_hz, form.fps().get());
    let n_covered = check_first_frame("pcm.first_frame", first_frame, n_all)?;
    let n_most = if cut.end_of_utterance {
        wanted.of(n_covered, n_covered)?
    } else {
        wanted.most_final()
    };
    // Everything before the context of the first frame changes nothing.
    let alignment = form.cut_alignment_frames(rate_hz);
    let context = form.context_left_frames();
    let n_skipped = first_frame.saturating_sub(context) / alignment * alignment;
    let piece = |from_frame: u64| {
        let at = |frame: u64| {
            let sample = frame_sample(frame, (rate_hz, form.fps())).min(n_samples);
            usize_of(sample).saturating_mul(format.item_bytes())
        };
        &samples[at(from_frame)..at(from_frame + PIECE_FRAMES)]
    };
    let mut stream = ear
        .stream(rate_hz, first_frame - n_skipped)
        .map_err(in_field("pcm"))?;
    let mut windows = Vec::new();
    let n_floats = floats_of(model, n_most);
    let mut frame = n_skipped;
    while windows.len() < n_floats && !piece(frame).is_empty() {
        let mono = decode(piece(frame))?;
        stream.push(&mono, |patches| ear.encode(patches), &mut windows)?;
        frame += PIECE_FRAMES;
    }
    if cut.end_of_utterance {
        if windows.len() < n_floats {
            stream.finish(|patches| ear.encode(patches), &mut windows)?;
        }
        truncate(model, &mut windows, n_most);
    } else {
        truncate_final(model, &mut windows, wanted)?;
    }
    Ok(windows)
}

/// The samples, and silence behind them where that was ordered. Silence is zeros in the encodings that may ask for it.
fn lengthened<'a>(
    samples: &'a [u8],
    (format, fps): (PcmFormat, Fps),
    cut: Cut,
    n_wanted: Option<usize>,
) -> Cow<'a, [u8]> {
    // Whoever asks for frames far behind the end of a clip is refused, and gets no silence up to there.
    let Some(n_frames) = n_wanted.filter(|_| cut.silence_follows && cut.first_frame == 0) else {
        return Cow::Borrowed(samples);
    };
    let end = cut.first_frame.saturating_add(n_frames);
    let n_samples = frame_sample(u64_of(end), (format.rate_hz, fps));
    let n_bytes = usize_of(n_samples).saturating_mul(format.item_bytes());
    if samples.len() >= n_bytes {
        return Cow::Borrowed(samples);
    }
    let mut longer = samples.to_vec();
    longer.resize(n_bytes, 0);
    Cow::Owned(longer)
}

fn decoded(samples: &[u8], format: PcmFormat, levels: &mut Levels) -> Result<Vec<f32>, ServeError> {
    let mono = decode_pcm(samples, format.encoding, format.n_channels);
    let mono = mono.map_err(in_field("pcm.samples"))?;
    levels.hear(samples, &mono, format);
    Ok(mono)
}

/// Frames from `first_frame` on, of `n_all`.
fn check_first_frame(field: &str, first_frame: u64, n_all: u64) -> Result<u64, ServeError> {
    n_all.checked_sub(first_frame).filter(|&n| n > 0).ok_or_else(|| {
        ServeError::invalid(
            field,
            format!("the audio covers {n_all} frames, so the first is at most {}, found {first_frame}", n_all.saturating_sub(1)),
        )
    })
}

/// Without the utterance's end only final windows count, and `frame_count` is an upper bound.
fn truncate_final(
    model: &Model,
    windows: &mut Vec<f32>,
    wanted: &Wanted,
) -> Result<(), ServeError> {
    let n_made = (windows.len() / window_floats(model)) as u64;
    let n_frames = match wanted.n_frames {
        Some(n) => n.min(n_made),
        None => wanted.of(n_made, n_made)?,
    };
    truncate(model, windows, n_frames);
    Ok(())
}

fn truncate(model: &Model, windows: &mut Vec<f32>, n_frames: u64) {
    windows.truncate(floats_of(model, n_frames));
}

fn floats_of(model: &Model, n_frames: u64) -> usize {
    usize_of(n_frames).saturating_mul(window_floats(model))
}

fn in_field(field: &'static str) -> impl Fn(AudioError) -> ServeError {
    move |error| ServeError::invalid(field, error.to_string())
}
