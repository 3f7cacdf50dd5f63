//! From the audio of a segment to its slots: windows, verdicts of the silence gate, audio to echo.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use lipsync_audio::{
    FPS, FeatureStream, SilenceGate, WindowStream,
    cuts::frame_sample,
    decode_pcm,
    features::decode_features,
    windows::{STEP_FLOATS, frames_of_steps},
};
use lipsync_core::{
    frames_in,
    saturate::{u64_of, usize_of},
};
use lipsync_session::{Planned, SegmentEnd, Slot, Warning};

use super::{AudioForm, open::Opening};
use crate::{
    clip::{StepsNeeded, encode, window_floats},
    error::ServeError,
    levels::Levels,
    order::PcmFormat,
};

/// A segment being listened to.
pub(super) struct Segment {
    id: u64,
    opening: Arc<Opening>,
    features: Features,
    n_planned: u64,
    levels: Levels,
}

/// How windows come about.
enum Features {
    Pcm(Box<Voice>),
    Steps(WindowStream),
    Windows,
}

/// What is made of samples.
struct Voice {
    format: PcmFormat,
    n_samples: u64,
    /// `None` after the end.
    windows: Option<FeatureStream>,
    /// Only where silence is shown.
    gate: Option<SilenceGate>,
    /// Its verdicts on the frames whose windows are not complete.
    verdicts: VecDeque<bool>,
    /// Only where audio is echoed.
    echo: Option<Echo>,
}

/// Audio that has not been echoed.
#[derive(Default)]
struct Echo {
    bytes: BytesMut,
    n_samples_out: u64,
}

impl Segment {
    pub(super) fn begin(id: u64, opening: &Arc<Opening>) -> Result<Self, ServeError> {
        let features = match opening.form {
            AudioForm::Pcm(format) => Features::Pcm(Box::new(Voice::new(format, opening)?)),
            AudioForm::Steps => Features::Steps(WindowStream::new(0)),
            AudioForm::Windows => Features::Windows,
        };
        Ok(Self {
            id,
            opening: Arc::clone(opening),
            features,
            n_planned: 0,
            levels: Levels::default(),
        })
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
        match &mut self.features {
            Features::Pcm(voice) => {
                let encoder = StepsNeeded::with_encoder(model, "audio.pcm")?;
                let mono = voice.decode(data)?;
                self.levels.hear(data, &mono, voice.format);
                voice.push(&mono, |patches| encode(encoder, patches), &mut windows)?;
            }
            Features::Steps(stream) => {
                let steps = decode_features(data, STEP_FLOATS, "steps")
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
        match &mut self.features {
            Features::Pcm(voice) => {
                let encoder = StepsNeeded::with_encoder(&self.opening.model, "audio.pcm")?;
                voice.finish(|patches| encode(encoder, patches), &mut windows)?;
            }
            Features::Steps(stream) => {
                let stream = std::mem::replace(stream, WindowStream::new(0));
                let n_frames = frames_of_steps(stream.n_steps());
                stream.finish(n_frames, &mut windows);
            }
            Features::Windows => {}
        }
        let mut planned = self.slots(&windows);
        planned.push(Planned::End(SegmentEnd {
            segment_id: self.id,
            n_frames: self.n_planned,
        }));
        Ok(planned)
    }

    fn slots(&mut self, windows: &[f32]) -> Vec<Planned> {
        let windows = windows.chunks_exact(window_floats(&self.opening.model));
        let slots = windows.map(|window| {
            let n = self.n_planned;
            self.n_planned += 1;
            let (speaks, audio) = match &mut self.features {
                Features::Pcm(voice) => (voice.next_verdict(), voice.echo(n)),
                Features::Steps(_) | Features::Windows => (true, Bytes::new()),
            };
            Planned::Frame(Slot::new(self.id, n, window.into(), speaks, audio))
        });
        slots.collect()
    }
}

impl Voice {
    fn new(format: PcmFormat, opening: &Opening) -> Result<Self, ServeError> {
        let gate = opening.shows_idle.then(|| SilenceGate::new(format.rate_hz));
        Ok(Self {
            format,
            n_samples: 0,
            windows: Some(FeatureStream::new(format.rate_hz, 0)?),
            gate: gate.transpose()?,
            verdicts: VecDeque::new(),
            echo: opening.echoes_audio.then(Echo::default),
        })
    }

    /// Samples as they came to mono ones; what is echoed is kept.
    fn decode(&mut self, data: &Bytes) -> Result<Vec<f32>, ServeError> {
        let mono = decode_pcm(data, self.format.encoding, self.format.n_channels)
            .map_err(|e| ServeError::invalid("audio.pcm", e.to_string()))?;
        if let Some(echo) = &mut self.echo {
            echo.bytes.extend_from_slice(data);
        }
        Ok(mono)
    }

    fn push(
        &mut self,
        mono: &[f32],
        encode: impl FnMut(&[f32]) -> Result<Vec<f32>, ServeError>,
        windows: &mut Vec<f32>,
    ) -> Result<(), ServeError> {
        self.n_samples += u64_of(mono.len());
        if let Some(gate) = &mut self.gate {
            let mut verdicts = Vec::new();
            gate.push(mono, &mut verdicts);
            self.verdicts.extend(verdicts);
        }
        match &mut self.windows {
            Some(stream) => stream.push(mono, encode, windows),
            None => Err(ServeError::internal("audio after the end of a segment")),
        }
    }

    fn finish(
        &mut self,
        encode: impl FnMut(&[f32]) -> Result<Vec<f32>, ServeError>,
        windows: &mut Vec<f32>,
    ) -> Result<(), ServeError> {
        if let Some(gate) = self.gate.take() {
            let mut verdicts = Vec::new();
            let n_frames = frames_in(self.n_samples, self.format.rate_hz, FPS);
            gate.finish(n_frames, &mut verdicts);
            self.verdicts.extend(verdicts);
        }
        match self.windows.take() {
            Some(stream) => stream.finish(encode, windows),
            None => Ok(()),
        }
    }

    /// Without a gate everything is speech.
    fn next_verdict(&mut self) -> bool {
        self.verdicts.pop_front().unwrap_or(true)
    }

    /// The samples under frame `n`, as they came.
    fn echo(&mut self, n: u64) -> Bytes {
        let Some(echo) = &mut self.echo else {
            return Bytes::new();
        };
        let end = frame_sample(n + 1, self.format.rate_hz).min(self.n_samples);
        let n_samples = usize_of(end - echo.n_samples_out);
        echo.n_samples_out = end;
        let n_bytes = n_samples.saturating_mul(self.format.item_bytes());
        echo.bytes.split_to(n_bytes.min(echo.bytes.len())).freeze()
    }
}
