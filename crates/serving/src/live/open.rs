//! A session that was ordered, with its model.

use std::sync::Arc;

use lipsync_audio::{SilenceGate, SpeechForm, cuts::mel_look_ahead_ms};
use lipsync_compositor::Encoding;
use lipsync_core::{
    Fps, ModelId,
    family::WindowSource,
    saturate::{u32_of, u64_of, usize_of},
};
use lipsync_registry::Model;
use lipsync_session::{FRAME_BUFFER, InSegment, Inbox, Opened, Position, Resumed, Rules, Warning};
use lipsync_worker_pool::Work;

use super::{
    AudioForm, Limits, NewIntake, Parts, SessionOrder, rest,
    resume::{SegmentCut, context_frames},
};
use crate::{
    caller::Caller,
    clip::window_floats,
    ear::{Ear, StepsNeeded},
    error::ServeError,
    models::model_for,
    order::OutputSpec,
    pipeline::{Urgency, estimated_bytes, walk},
    rates::Booking,
    residents::InUse,
};

/// Bytes of audio that may wait in one session, whatever its form.
const MAX_BUFFERED_BYTES: usize = 32 << 20;
/// Bytes of finished frames that may wait in one session, whatever their format, unless two frames are more.
const MAX_UNSENT_BYTES: u64 = 32 << 20;
/// Video that is made ahead of its time in a paced session: one batch and what it takes to make it.
pub const MAX_PACED_MS: u32 = 320;

/// A session that may begin.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) model_id: ModelId,
    /// Pinned for the session's life.
    pub(super) model: Arc<Model>,
    pub(super) form: AudioForm,
    /// How windows are made, unless they come whole.
    speech: Option<SpeechForm>,
    pub(super) output: OutputSpec,
    pub(super) urgency: Urgency,
    /// Whose frames are counted.
    pub(super) caller: Caller,
    /// Frames a second that are booked for it, where they are counted and it is paced.
    _booking: Option<Booking>,
    _in_use: Option<InUse>,
    start: Position,
    /// It goes on where another one has ended.
    resumes: bool,
    /// What the client is told before its first frame.
    pub(super) warning: Option<Warning>,
    /// Frames leave at their time.
    pub(super) is_realtime: bool,
    /// Silence and pauses show the face at rest.
    pub(super) shows_idle: bool,
    pub(super) echoes_audio: bool,
    /// What a frame takes, roughly.
    frame_bytes: u64,
}

impl Opening {
    /// Loads the model and checks what depends on it.
    pub(super) async fn load(
        order: SessionOrder,
        caller: &Caller,
        parts: &Parts,
    ) -> Result<Self, ServeError> {
        let (registry, answers) = (&parts.registry, parts.limits.answers);
        let SessionOrder { form, output, .. } = order;
        parts.admission.check_shed(order.priority)?;
        let used = model_for(caller, &order.model_id, registry, &parts.admission).await?;
        let model = used.lease.model;
        let speech = match form {
            AudioForm::Pcm(_) => Some(Ear::of(&model, "open.audio_input")?.form()),
            AudioForm::Steps => Some(StepsNeeded::given(&model, "open.audio_input")?),
            AudioForm::Windows => None,
        };
        rest::prepare(&model, &parts.pipeline.cpu).await?;
        // The size of a coded frame is known, and checked, when it is made.
        let is_raw = matches!(output.encoding, Encoding::Rgb | Encoding::I420(_));
        if is_raw && !output.region_only {
            let n_bytes = output.estimated_bytes(model.width(), model.height());
            answers.check(n_bytes)?;
        }
        let booking = if order.is_realtime {
            parts.admission.book(caller, model.fps())?
        } else {
            None
        };
        let first = walk(&model, order.start.place, 1);
        let frame_bytes = estimated_bytes(&model, &first, output)?;
        Ok(Self {
            model_id: order.model_id,
            model,
            form,
            speech,
            output,
            urgency: parts.pipeline.urgency(caller, order.priority, Work::Live),
            caller: caller.clone(),
            _booking: booking,
            _in_use: used.in_use,
            start: order.start,
            resumes: order.resumes,
            warning: order.warning,
            is_realtime: order.is_realtime,
            shows_idle: order.shows_idle,
            echoes_audio: order.echoes_audio,
            frame_bytes,
        })
    }

    /// What the client is told.
    pub(super) fn opened(&self, limits: &Limits) -> Opened {
        let look_ahead_ms = match (self.form, self.speech) {
            (AudioForm::Pcm(format), _) => self.sound_look_ahead_ms(format.rate_hz),
            // The step of the frame's own time and those after it.
            (AudioForm::Steps, Some(speech)) => {
                (speech.step_context_right() + 1) * 1000 / u64::from(self.model.fps())
            }
            _ => 0,
        };
        let context = self.context_frames();
        let resume_context_ms = context * 1000 / u64::from(self.model.fps());
        Opened {
            fps: self.model.fps(),
            width: self.model.width(),
            height: self.model.height(),
            audio_kind: self.model.audio_kind(),
            look_ahead_ms: u32_of(look_ahead_ms),
            max_buffered_audio_s: self.max_buffered_audio_s(limits),
            max_unsent_ms: self.max_unsent_ms(limits),
            frame_buffer_ms: if self.is_realtime {
                u32_of(FRAME_BUFFER.as_millis())
            } else {
                0
            },
            position: self.start,
            resume_context_ms: u32_of(resume_context_ms),
            resumed: self.resumes.then(|| self.resumed()),
        }
    }

    /// How far the frames of sound look ahead: their windows, or the silence gate where that needs more.
    fn sound_look_ahead_ms(&self, rate_hz: u32) -> u64 {
        let is_mel = self.model.audio_form().source == WindowSource::Mel;
        let of_windows = if is_mel {
            mel_look_ahead_ms(rate_hz)
        } else {
            self.speech().look_ahead_ms(rate_hz)
        };
        let of_gate = if self.shows_idle {
            SilenceGate::LOOK_AHEAD_MS
        } else {
            0
        };
        of_windows.max(of_gate)
    }

    /// What the client of a session that resumes must send.
    fn resumed(&self) -> Resumed {
        let segment = self.start.segment;
        let cut = |segment: InSegment| self.cut(segment.n_frames);
        Resumed {
            segment,
            first_item: segment.map_or(0, |segment| cut(segment).item),
        }
    }

    /// Where audio is cut whose next frame is `next`.
    fn cut(&self, next: u64) -> SegmentCut {
        SegmentCut::before(next, (self.form, self.speech()), self.shows_idle)
    }

    /// The form of what is not sent as windows; what windows are made of does not matter.
    fn speech(&self) -> SpeechForm {
        self.speech.unwrap_or(SpeechForm::AVE)
    }

    /// The most frames that lie between a cut and the next frame.
    fn context_frames(&self) -> u64 {
        context_frames((self.form, self.speech()), self.shows_idle)
    }

    /// Where the session resumes in this segment, and the cut of its audio; `None` for all others.
    pub(super) fn resumes_in(&self, segment_id: u64) -> Option<(InSegment, SegmentCut)> {
        let segment = self.start.segment?;
        let is_it = segment.segment_id == segment_id;
        is_it.then(|| (segment, self.cut(segment.n_frames)))
    }

    /// What the session's parts have to know of it.
    pub(super) fn rules(&self, limits: &Limits) -> Rules {
        let fps = self.model.fps();
        let n_frames = n_frames_in(self.max_unsent_ms(limits), fps);
        Rules {
            fps,
            start: self.start,
            is_realtime: self.is_realtime,
            shows_idle: self.shows_idle,
            max_queued_frames: usize_of(n_frames),
            max_batch_frames: limits.max_batch_frames,
            max_lag: limits.lag_timeout,
        }
    }

    /// `session.max_unsent_ms`, or less where frames wait for their time, as an interruption drops them, or
    /// where that would be more bytes than one session may hold.
    fn max_unsent_ms(&self, limits: &Limits) -> u32 {
        let fps = self.model.fps();
        let echo_bytes = if self.echoes_audio {
            u64_of(self.bytes_per_s()) / u64::from(fps)
        } else {
            0
        };
        let max_ms = unsent_ms(self.frame_bytes.saturating_add(echo_bytes), fps);
        let max_ms = max_ms.min(limits.max_unsent_ms);
        if self.is_realtime {
            max_ms.min(MAX_PACED_MS)
        } else {
            max_ms
        }
    }

    /// `session.max_buffered_audio_s`, or less where that would be more bytes than one session may
    /// hold: whole windows take up to 13 MB a second.
    fn max_buffered_audio_s(&self, limits: &Limits) -> u32 {
        let n_s = (MAX_BUFFERED_BYTES / self.bytes_per_s()).max(1);
        limits.max_buffered_audio_s.min(u32_of(n_s))
    }

    /// Where its audio waits. Steps and windows come whole, and are checked where they come in.
    pub(super) fn inbox(&self, limits: &Limits, new_intake: NewIntake) -> Inbox<ServeError> {
        // What is heard again comes on top of what the client held when it lost its session.
        let context = self.context_frames();
        let context_s = u32_of(context.div_ceil(u64::from(self.model.fps())));
        let context_s = if self.resumes { context_s } else { 0 };
        let limit_s = self.max_buffered_audio_s(limits).saturating_add(context_s);
        let inbox = Inbox::new(self.bytes_per_s(), limit_s);
        match self.form {
            AudioForm::Pcm(format) => inbox.with_intake(new_intake(format, self.model.fps())),
            AudioForm::Steps | AudioForm::Windows => inbox,
        }
    }

    /// Bytes of a second of audio in this form; whole items, at least one.
    fn bytes_per_s(&self) -> usize {
        let items_per_s = match self.form {
            AudioForm::Pcm(format) => format.rate_hz,
            AudioForm::Steps | AudioForm::Windows => self.model.fps().get(),
        };
        let items_per_s = usize_of(items_per_s).max(1);
        self.item_bytes().saturating_mul(items_per_s)
    }

    /// Bytes of a sample of each channel, a step or a window.
    pub(super) fn item_bytes(&self) -> usize {
        match self.form {
            AudioForm::Pcm(format) => format.item_bytes(),
            AudioForm::Steps => self.speech().step_floats() * size_of::<f32>(),
            AudioForm::Windows => window_floats(&self.model) * size_of::<f32>(),
        }
    }
}

/// The most video that may wait, ms, where a frame takes so many bytes.
fn unsent_ms(frame_bytes: u64, fps: Fps) -> u32 {
    let n_frames = (MAX_UNSENT_BYTES / frame_bytes.max(1)).max(2);
    let ms = (n_frames * 1000).div_ceil(u64::from(fps));
    u32_of(ms)
}

/// Whole frames in so much video; at least one.
fn n_frames_in(ms: u32, fps: Fps) -> u64 {
    (u64::from(ms) * u64::from(fps) / 1000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_frames_wait_in_small_numbers() {
        let rgb_720p = 1280 * 720 * 3;
        assert_eq!(unsent_ms(rgb_720p, Fps::at_least_1(25)), 12 * 40);
        for fps in (1..=120).map(Fps::at_least_1) {
            for frame_bytes in [0, 1, 80_000, rgb_720p, 4 * rgb_720p, 1 << 40] {
                let n_frames = n_frames_in(unsent_ms(frame_bytes, fps), fps);
                assert!(n_frames == 2 || n_frames * frame_bytes <= MAX_UNSENT_BYTES);
                let one_more = (n_frames + 1).saturating_mul(frame_bytes);
                let is_unlimited = frame_bytes < 2;
                assert!(
                    is_unlimited || one_more > MAX_UNSENT_BYTES,
                    "{frame_bytes} {fps}"
                );
            }
        }
    }
}
