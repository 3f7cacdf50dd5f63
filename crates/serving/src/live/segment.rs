//! From the audio of a segment to its slots: windows, verdicts of the silence gate, audio to echo.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use lipsync_audio::{
    FeatureStream, SilenceGate, SpeechForm, Verdict, WindowStream, cuts::frame_sample, decode_pcm,
    features::decode_features,
};
use lipsync_core::{
    frames_in,
    saturate::{u64_of, usize_of},
};
use lipsync_session::{Planned, SegmentEnd, Slot, Warning};

use super::{AudioForm, open::Opening, resume::SegmentCut};
use crate::{
    clip::window_floats,
    ear::{Ear, StepsNeeded},
    error::ServeError,
    levels::Levels,
    order::PcmFormat,
};

/// A segment being listened to.
pub(super) struct Segment {
    id: u64,
    opening: Arc<Opening>,
    place: Place,
    /// `None` before its first audio: what that needs takes a while to make.
    features: Option<Features>,
    n_planned: u64,
    levels: Levels,
}

/// How windows come about.
enum Features {
    Pcm(Box<Voice>),
    Steps(SpeechForm, WindowStream),
    Windows,
}

/// Where the audio of a segment begins that is heard from somewhere in it on.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    cut: SegmentCut,
    /// Frames from there to the first one that is made.
    skipped: u64,
    /// The silence gate's mark at that one.
    mark: u8,
}

/// What is made of samples.
struct Voice {
    form: SpeechForm,
    format: PcmFormat,
    /// Samples so far, counted from the start of the segment.
    n_samples: u64,
    /// The sample from which on audio is heard.
    first_sample: u64,
    /// `None` after the end.
    windows: Option<FeatureStream>,
    /// Only where silence is shown.
    gate: Option<SilenceGate>,
    /// Its verdicts on the frames whose windows are not complete.
    verdicts: VecDeque<Verdict>,
    /// Windows that wait for a verdict, no more than a verdict looks ahead.
    waiting: Vec<f32>,
    window_floats: usize,
    /// Only where audio is echoed.
    echo: Option<Echo>,
}

/// Audio that has not been echoed.
struct Echo {
    bytes: BytesMut,
    /// Samples to come that were echoed by the session before this one.
    n_skipped: u64,
    n_samples_out: u64,
}

/// Without a gate everything is speech.
const SPEECH: Verdict = Verdict {
    speaks: true,
    mark: 0,
};

impl Echo {
    /// Keeps whole items to echo.
    fn take(&mut self, data: &[u8], item_bytes: usize) {
        let n_items = u64_of(data.len() / item_bytes.max(1));
        let n_skipped = self.n_skipped.min(n_items);
        self.n_skipped -= n_skipped;
        let rest = data.get(usize_of(n_skipped).saturating_mul(item_bytes)..);
        self.bytes.extend_from_slice(rest.unwrap_or_default());
    }
}

impl Segment {
    pub(super) fn begin(id: u64, opening: &Arc<Opening>) -> Self {
        let resumes = opening.resumes_in(id);
        let n_planned = resumes.map_or(0, |(segment, _)| segment.n_frames);
        let place = resumes.map_or_else(Place::default, |(segment, cut)| Place {
            cut,
            skipped: segment.n_frames.saturating_sub(cut.frame),
            mark: segment.mark,
        });
        Self {
            id,
            opening: Arc::clone(opening),
            place,
            features: None,
            n_planned,
            levels: Levels::default(),
        }
    }

    /// Whether there is nothing to make of it, as no audio came before its end.
    pub(super) fn is_empty(&self) -> bool {
        self.features.is_none() && self.place == Place::default()
    }

    /// What is odd about its audio so far.
    pub(super) fn warning(&self) -> Option<Warning> {
        self.levels.warning()
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Takes audio and gives the slots that it completes. Blocking.
    pub(super) fn push(&mut self, data: &Bytes) -> Result<Vec<Planned>, ServeError> {
        let model = &self.opening.model;
        let mut windows = Vec::new();
        match Features::begun(&mut self.features, &self.opening, self.place)? {
            Features::Pcm(voice) => {
                let ear = Ear::of(model, "audio.pcm")?;
                let mono = voice.decode(data)?;
                self.levels.hear(data, &mono, voice.format);
                voice.push(&mono, ear)?;
                windows = voice.judged_windows();
            }
            Features::Steps(form, stream) => {
                let steps = decode_features(data, form.step_floats(), "steps")
                    .map_err(|e| ServeError::invalid("audio.steps", e.to_string()))?;
                stream.push(&steps, &mut windows)?;
            }
            Features::Windows => {
                windows = decode_features(data, window_floats(model), "windows")
                    .map_err(|e| ServeError::invalid("audio.windows", e.to_string()))?;
            }
        }
        Ok(self.slots(&windows))
    }

    /// Ends the audio and gives the last slots and the end. Blocking.
    pub(super) fn finish(mut self) -> Result<Vec<Planned>, ServeError> {
        let mut windows = Vec::new();
        match Features::begun(&mut self.features, &self.opening, self.place)? {
            Features::Pcm(voice) => {
                let ear = Ear::of(&self.opening.model, "audio.pcm")?;
                voice.finish(ear)?;
                windows = voice.judged_windows();
            }
            Features::Steps(form, stream) => {
                let stream = std::mem::replace(stream, WindowStream::new(*form, 0));
                let n_frames = form.frames_of_steps(stream.n_steps());
                stream.finish(n_frames, &mut windows);
            }
            Features::Windows => {}
        }
        let mut planned = self.slots(&windows);
        planned.push(self.end());
        Ok(planned)
    }

    /// The end alone, of one that is empty.
    pub(super) fn end(&self) -> Planned {
        Planned::End(SegmentEnd {
            segment_id: self.id,
            n_frames: self.n_planned,
        })
    }

    fn slots(&mut self, windows: &[f32]) -> Vec<Planned> {
        let windows = windows.chunks_exact(window_floats(&self.opening.model));
        let slots = windows.map(|window| {
            let n = self.n_planned;
            self.n_planned += 1;
            let (verdict, audio) = match &mut self.features {
                Some(Features::Pcm(voice)) => (voice.next_verdict(), voice.echo(n)),
                _ => (SPEECH, Bytes::new()),
            };
            let slot = Slot::new(self.id, n, window.into(), verdict.speaks, audio);
            Planned::Frame(slot.marked(verdict.mark))
        });
        slots.collect()
    }
}

impl Features {
    /// Those of a segment, which begin when they are first needed.
    fn begun<'a>(
        features: &'a mut Option<Self>,
        opening: &Opening,
        place: Place,
    ) -> Result<&'a mut Self, ServeError> {
        Ok(match features {
            Some(begun) => begun,
            none => none.insert(Self::of(opening, place)?),
        })
    }

    /// What the session's audio becomes windows with.
    fn of(opening: &Opening, place: Place) -> Result<Self, ServeError> {
        Ok(match opening.form {
            AudioForm::Pcm(format) => Self::Pcm(Box::new(Voice::new(format, opening, place)?)),
            AudioForm::Steps => {
                let form = StepsNeeded::given(&opening.model, "audio.steps")?;
                Self::Steps(form, WindowStream::new(form, place.skipped))
            }
            AudioForm::Windows => Self::Windows,
        })
    }
}

impl Voice {
    fn new(format: PcmFormat, opening: &Opening, place: Place) -> Result<Self, ServeError> {
        let ear = Ear::of(&opening.model, "audio.pcm")?;
        let form = ear.form();
        let (rate_hz, first_sample) = (format.rate_hz, place.cut.item);
        let rates = (rate_hz, form.fps());
        let gate = opening.shows_idle.then(|| match place.cut.item {
            // It hears everything again.
            0 => SilenceGate::from_frame(rates, place.skipped),
            _ => SilenceGate::resumed(rates, place.skipped, place.mark),
        });
        let n_echoed = frame_sample(place.cut.frame + place.skipped, rates);
        Ok(Self {
            form,
            format,
            n_samples: first_sample,
            first_sample,
            windows: Some(ear.stream(rate_hz, place.skipped)?),
            gate: gate.transpose()?,
            verdicts: VecDeque::new(),
            waiting: Vec::new(),
            window_floats: window_floats(&opening.model),
            echo: opening.echoes_audio.then(|| Echo {
                n_skipped: n_echoed - first_sample,
                n_samples_out: n_echoed,
                bytes: BytesMut::new(),
            }),
        })
    }

    /// Samples as they came to mono ones; what is echoed is kept.
    fn decode(&mut self, data: &Bytes) -> Result<Vec<f32>, ServeError> {
        let mono = decode_pcm(data, self.format.encoding, self.format.n_channels)
            .map_err(|e| ServeError::invalid("audio.pcm", e.to_string()))?;
        if let Some(echo) = &mut self.echo {
            echo.take(data, self.format.item_bytes());
        }
        Ok(mono)
    }

    fn push(&mut self, mono: &[f32], ear: Ear<'_>) -> Result<(), ServeError> {
        self.n_samples += u64_of(mono.len());
        if let Some(gate) = &mut self.gate {
            let mut verdicts = Vec::new();
            gate.push(mono, &mut verdicts);
            self.verdicts.extend(verdicts);
        }
        match &mut self.windows {
            Some(stream) => stream.push(mono, |patches| ear.encode(patches), &mut self.waiting),
            None => Err(ServeError::internal("audio after the end of a segment")),
        }
    }

    fn finish(&mut self, ear: Ear<'_>) -> Result<(), ServeError> {
        if let Some(gate) = self.gate.take() {
            let mut verdicts = Vec::new();
            let n_heard = self.n_samples - self.first_sample;
            let n_frames = frames_in(n_heard, self.format.rate_hz, self.form.fps().get());
            gate.finish(n_frames, &mut verdicts);
            self.verdicts.extend(verdicts);
        }
        match self.windows.take() {
            Some(stream) => stream.finish(|patches| ear.encode(patches), &mut self.waiting),
            None => Ok(()),
        }
    }

    /// The windows whose frames were judged: all of them where nobody judges, or after the end.
    fn judged_windows(&mut self) -> Vec<f32> {
        let n_floats = match self.gate {
            Some(_) => self.verdicts.len().saturating_mul(self.window_floats),
            None => self.waiting.len(),
        };
        let rest = self.waiting.split_off(n_floats.min(self.waiting.len()));
        std::mem::replace(&mut self.waiting, rest)
    }

    /// Without a gate everything is speech.
    fn next_verdict(&mut self) -> Verdict {
        self.verdicts.pop_front().unwrap_or(SPEECH)
    }

    /// The samples under frame `n`, as they came.
    fn echo(&mut self, n: u64) -> Bytes {
        let Some(echo) = &mut self.echo else {
            return Bytes::new();
        };
        let end = frame_sample(n + 1, (self.format.rate_hz, self.form.fps())).min(self.n_samples);
        let n_samples = usize_of(end.saturating_sub(echo.n_samples_out));
        echo.n_samples_out = end.max(echo.n_samples_out);
        let n_bytes = n_samples.saturating_mul(self.format.item_bytes());
        echo.bytes.split_to(n_bytes.min(echo.bytes.len())).freeze()
    }
}
