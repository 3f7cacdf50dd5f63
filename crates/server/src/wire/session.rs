//! Sessions on the wire: what a client sends becomes [`Incoming`], what a session tells it becomes a response.
//!
//! gRPC and the WebSocket carry the same messages and both come in here.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use lipsync::v1::{
    self, audio_chunk, stream_composite_request::Message as Request,
    stream_composite_response::Message as Response,
};
use lipsync_core::{ModelId, saturate::u32_of};
use lipsync_serving::{
    CodedFrame, ServeError,
    live::{self, Audio, AudioForm, Broken, Incoming, Opener, Parts, SessionOrder},
};
use lipsync_session::{Frame, Notice, Opened, Outgoing, Position, Resumed, SessionStats, Warning};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::{
    config::{Hot, Output},
    core_state::Shared,
    request_layer::Arrival,
    resume_token::{ResumeKeys, Seal},
    samples,
    wire::{
        answer::{to_frame, to_warning},
        request::{
            parse_model_id, parse_output, parse_pcm_format, parse_priority, parse_start,
            unknown_value,
        },
        status,
    },
};

/// Serves a session whose client sends `requests`, and gives its responses.
pub(crate) fn serve<R>(
    shared: &Shared,
    mut arrival: Arrival,
    requests: R,
) -> impl Stream<Item = Result<v1::StreamCompositeResponse, Status>> + Send + use<R>
where
    R: Stream<Item = Result<v1::StreamCompositeRequest, Status>> + Send + Unpin + 'static,
{
    let opener = Opener {
        caller: arrival.headers.caller.clone(),
        activity: arrival.activity(),
        due: arrival.take_due(),
    };
    let tally = Arc::clone(&opener.caller.tally);
    // A session keeps the settings that it was opened with: `Opened` tells its client some of them.
    let hot = shared.hot();
    let seal = Arc::<OnceLock<Seal>>::default();
    let configured = hot.session.resume_keys.as_ref();
    let keys = configured.or(shared.own_resume_keys.as_ref());
    let edge = Edge {
        arrival,
        output: hot.output,
        max_message_bytes: shared.limits.max_message_bytes,
        resume_keys: keys.map(Arc::clone),
        resume_window: hot.session.resume_window,
        seal: Arc::clone(&seal),
    };
    let incoming = requests.map(move |request| edge.incoming(request));
    let outgoing = live::begin(parts(shared, &hot), opener, incoming);
    outgoing.map(move |message| {
        let message = message.map(|message| to_response(message, seal.get()));
        message.map_err(|error| {
            tally.fail(&error);
            status::to_status(error)
        })
    })
}

/// What a session needs of the server.
fn parts(shared: &Shared, hot: &Hot) -> Parts {
    let live = shared.live.clone();
    Parts {
        admission: Arc::clone(&shared.admission),
        registry: shared.registry.clone(),
        pipeline: shared.pipeline.clone(),
        new_intake: samples::intake,
        limits: hot.session.live(&shared.limits, &hot.requests),
        shutdown_grace: Arc::new(move || live.get().requests.shutdown_grace),
    }
}

/// What it takes to read a session's requests.
struct Edge {
    arrival: Arrival,
    /// Output defaults.
    output: Output,
    max_message_bytes: usize,
    resume_keys: Option<Arc<ResumeKeys>>,
    /// How long a token is good.
    resume_window: Duration,
    /// What makes the tokens of this session, once it is known that its client wants some.
    seal: Arc<OnceLock<Seal>>,
}

impl Edge {
    /// A broken connection is nobody's fault; an undecodable or oversize message is the client's.
    fn incoming(
        &self,
        request: Result<v1::StreamCompositeRequest, Status>,
    ) -> Result<Incoming, Broken> {
        match request {
            Ok(request) => Ok(self.message(request.message)),
            Err(error) => Err(match self.arrival.fault() {
                Some(fault) => Broken::Fault(fault.into()),
                None => status::incoming_fault(&error, self.max_message_bytes)
                    .map_or(Broken::Gone, Broken::Fault),
            }),
        }
    }

    fn message(&self, message: Option<Request>) -> Incoming {
        match message {
            Some(Request::Open(open)) => Incoming::Open(Box::new(self.order(open))),
            Some(Request::Audio(chunk)) => audio(chunk),
            Some(Request::EndSegment(end)) => Incoming::EndSegment {
                segment_id: end.segment_id,
            },
            Some(Request::Clear(clear)) => Incoming::Clear {
                segment_id: clear.segment_id,
            },
            None => Incoming::Nothing(ServeError::invalid(
                "message",
                "expected open, audio, end_segment or clear",
            )),
        }
    }

    fn order(&self, open: v1::OpenSession) -> Result<SessionOrder, ServeError> {
        let model_id = parse_model_id(&open.model_id)?;
        let headers = &self.arrival.headers;
        headers.check_model_id(&model_id)?;
        let defaults = headers.output(&model_id, &self.output);
        let priority = headers.level(&model_id, parse_priority(open.priority)?)?;
        let is_realtime = parse_pacing(open.pacing)?;
        let form = parse_form(&open)?;
        if open.audio_echo && !matches!(form, AudioForm::Pcm(_)) {
            return Err(ServeError::invalid(
                "open.audio_echo",
                "only a session of PCM has audio to echo",
            ));
        }
        let resuming = self.resuming(&open, &model_id, form)?;
        Ok(SessionOrder {
            model_id,
            form,
            output: parse_output(open.output, &defaults)?,
            priority,
            start: resuming.start,
            resumes: resuming.resumes,
            warning: resuming.warning,
            is_realtime,
            shows_idle: open.idle_frames,
            echoes_audio: open.audio_echo,
        })
    }

    /// Where the session begins: where its token says, or as one without a token.
    fn resuming(
        &self,
        open: &v1::OpenSession,
        model_id: &ModelId,
        form: AudioForm,
    ) -> Result<Resuming, ServeError> {
        let place = parse_start(open.start_frame_index)?;
        let anew = |warning| Resuming {
            start: Position::start(place, open.idle_frames),
            resumes: false,
            warning,
        };
        let wants_tokens = open.resumable || !open.resume_token.is_empty();
        let Some(keys) = self.resume_keys.as_ref().filter(|_| wants_tokens) else {
            return Ok(anew(None));
        };
        let tenant = &self.arrival.headers.caller.tenant;
        let seal = Seal::new(
            Arc::clone(keys),
            self.resume_window,
            (tenant, model_id),
            (form, open.idle_frames),
        );
        let seal = self.seal.get_or_init(|| seal);
        if open.resume_token.is_empty() {
            return Ok(anew(None));
        }
        Ok(match seal.position(&open.resume_token, SystemTime::now()) {
            Ok(start) => Resuming {
                start,
                resumes: true,
                warning: None,
            },
            Err(refusal) => anew(Some(Warning {
                code: "resume_refused",
                text: format!("open.resume_token: {refusal}; the session begins anew"),
            })),
        })
    }
}

/// How a session begins.
struct Resuming {
    start: Position,
    /// It goes on where another one has ended.
    resumes: bool,
    /// What its client should know of its token.
    warning: Option<Warning>,
}

fn audio(chunk: v1::AudioChunk) -> Incoming {
    let audio = match chunk.audio {
        Some(audio_chunk::Audio::Pcm(data)) => Audio::Pcm(data),
        Some(audio_chunk::Audio::Steps(data)) => Audio::Steps(data),
        Some(audio_chunk::Audio::Windows(data)) => Audio::Windows(data),
        None => {
            let error = ServeError::invalid("audio", "expected pcm, steps or windows");
            return Incoming::Nothing(error);
        }
    };
    Incoming::Audio {
        segment_id: chunk.segment_id,
        audio,
    }
}

fn parse_form(open: &v1::OpenSession) -> Result<AudioForm, ServeError> {
    match v1::AudioInput::try_from(open.audio_input) {
        Ok(v1::AudioInput::Unspecified | v1::AudioInput::Pcm) => {
            parse_pcm_format("open.", open.sample_rate_hz, open.channels, open.encoding)
                .map(AudioForm::Pcm)
        }
        Ok(v1::AudioInput::Steps) => Ok(AudioForm::Steps),
        Ok(v1::AudioInput::Windows) => Ok(AudioForm::Windows),
        Err(_) => Err(unknown_value("open.audio_input", open.audio_input)),
    }
}

/// Whether frames leave at their time.
fn parse_pacing(pacing: i32) -> Result<bool, ServeError> {
    match v1::Pacing::try_from(pacing) {
        Ok(v1::Pacing::Unspecified | v1::Pacing::Asap) => Ok(false),
        Ok(v1::Pacing::Realtime) => Ok(true),
        Err(_) => Err(unknown_value("open.pacing", pacing)),
    }
}

/// `seal` makes the tokens, if there are any.
fn to_response(message: Outgoing<CodedFrame>, seal: Option<&Seal>) -> v1::StreamCompositeResponse {
    let token = |position: &Position| {
        seal.map_or_else(Bytes::new, |seal| seal.token(position, SystemTime::now()))
    };
    let message = match message {
        Outgoing::Frame(frame) => {
            let token = token(&frame.position);
            Response::Frame(to_live_frame(frame, token))
        }
        Outgoing::Notice(Notice::Opened(opened)) => {
            Response::Opened(to_opened(&opened, token(&opened.position)))
        }
        Outgoing::Notice(Notice::SegmentEnd(end)) => Response::SegmentEnd(v1::SegmentEnd {
            segment_id: end.segment_id,
            n_frames: end.n_frames,
        }),
        Outgoing::Notice(Notice::Cleared(cleared)) => Response::Cleared(v1::Cleared {
            segment_id: cleared.segment_id,
            last_pts_us: cleared.last_pts_us,
            last_audio_time_us: cleared.last_audio_time_us,
        }),
        Outgoing::Notice(Notice::Warning(warning)) => Response::Warning(to_warning(warning)),
    };
    v1::StreamCompositeResponse {
        message: Some(message),
    }
}

fn to_live_frame(frame: Frame<CodedFrame>, resume_token: Bytes) -> v1::CompositedFrame {
    v1::CompositedFrame {
        frame_index: frame.place,
        pts_us: frame.pts_us,
        segment_id: frame.segment_id,
        audio_time_us: frame.audio_time_us,
        audio: frame.audio,
        resume_token,
        ..to_frame(frame.picture)
    }
}

fn to_opened(opened: &Opened, resume_token: Bytes) -> v1::Opened {
    v1::Opened {
        fps: opened.fps.get(),
        width: u32_of(opened.width),
        height: u32_of(opened.height),
        audio_kind: opened.audio_kind.to_string(),
        look_ahead_ms: opened.look_ahead_ms,
        max_buffered_audio_s: opened.max_buffered_audio_s,
        max_unsent_ms: opened.max_unsent_ms,
        frame_buffer_ms: opened.frame_buffer_ms,
        resume_token,
        resume_context_ms: opened.resume_context_ms,
        resumed: opened.resumed.map(|resumed| to_resumed(resumed, opened)),
    }
}

fn to_resumed(resumed: Resumed, opened: &Opened) -> v1::Resumed {
    let segment = resumed.segment;
    v1::Resumed {
        segment_id: segment.map_or(0, |segment| segment.segment_id),
        first_item: resumed.first_item,
        next_audio_time_us: segment.map_or(0, |segment| opened.fps.pts_us(segment.n_frames)),
        next_pts_us: opened.fps.pts_us(opened.position.n_frames),
        next_frame_index: opened.position.place,
    }
}

/// Counts of sessions as the wire has them.
pub(crate) fn stats_to_proto(stats: SessionStats) -> v1::SessionStats {
    v1::SessionStats {
        alive: stats.alive,
        opened: stats.opened,
        frames: stats.frames,
        silent_frames: stats.silent_frames,
        idle_frames: stats.idle_frames,
        skipped_frames: stats.skipped_frames,
        late_frames: stats.late_frames,
        max_late_us: stats.max_late_us,
        too_slow: stats.too_slow,
        clears: stats.clears,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lipsync_compositor::{Encoding, Yuv};
    use lipsync_core::{PixelRect, TenantId};
    use lipsync_serving::answer_limit::AROUND_A_FRAME_BYTES;
    use prost::Message as _;

    use super::*;

    #[test]
    fn nothing_around_a_frame_is_longer_than_the_limit_allows_for() {
        let data = Bytes::from_static(&[7; 300]);
        let region = PixelRect {
            x: usize::MAX,
            y: usize::MAX,
            width: usize::MAX,
            height: usize::MAX,
        };
        let form = AudioForm::Windows;
        let model = ModelId::new("mira").unwrap();
        let keys = Arc::new(ResumeKeys::random().unwrap());
        let minute = Duration::from_secs(60);
        let seal = Seal::new(keys, minute, (&TenantId::default(), &model), (form, true));
        let frame = Outgoing::Frame(Frame {
            place: u64::MAX,
            pts_us: u64::MAX,
            segment_id: u64::MAX,
            audio_time_us: Some(u64::MAX),
            audio: Bytes::new(),
            position: Position::start(u64::MAX, true),
            picture: CodedFrame {
                frame_index: u64::MAX,
                background_index: u32::MAX,
                generated: true,
                encoding: Encoding::I420(Yuv::Bt601Full),
                width: usize::MAX,
                height: usize::MAX,
                region,
                data: data.clone(),
            },
        });
        let message = to_response(frame, Some(&seal));
        let around = (message.encoded_len() - data.len()) as u64;
        // Lengths of long pictures take up to five bytes where those of this one take two.
        let around = around + 2 * 3;
        assert!(around <= AROUND_A_FRAME_BYTES, "{around}");
        assert!(around > AROUND_A_FRAME_BYTES / 2, "{around}: far too much");
    }
}
