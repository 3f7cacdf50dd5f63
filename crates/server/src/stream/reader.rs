//! The reader of a session: takes every message at once, whatever the producer is doing.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use lipsync::v1::{self, audio_chunk::Audio, stream_composite_request::Message};
use tokio::{sync::watch, task::JoinSet};
use tokio_stream::StreamExt as _;
use tonic::Status;

use super::{
    Requests,
    conversation::Conversation,
    inbox::Inbox,
    open::{AudioForm, Opening},
    outbox::Outbox,
    producer,
};
use crate::{
    core_state::Shared, error::ServeError, health::Phase, metadata::RequestHeaders,
    request::check_samples, status,
};

/// Reads until the client closes its side, an error, the drain, or idleness.
pub(super) async fn run(
    shared: Arc<Shared>,
    headers: RequestHeaders,
    mut requests: impl Requests,
    conversation: Arc<Conversation>,
) {
    // Dropped with this task, and with it the producer.
    let mut producer = JoinSet::new();
    let reading = async {
        let opening = read_open(&shared, &headers, &mut requests).await?;
        let (form, item_bytes) = (opening.form, opening.item_bytes());
        begin(&shared, &opening, &conversation);
        producer.spawn(producer::run(
            Arc::clone(&shared),
            opening,
            Arc::clone(&conversation),
        ));
        let check = |audio| check_audio(form, item_bytes, audio);
        read_rest(&shared, check, &mut requests, &conversation).await
    };
    match reading.await {
        Ok(End::HalfClose) => conversation.finish_input(),
        Ok(End::Draining) => conversation.take_leave(ServeError::Draining),
        Err(Failure::Ours(error)) => conversation.end(Some(error)),
        // The client is gone; so is the response stream.
        Err(Failure::Transport) => conversation.end(None),
    }
    while producer.join_next().await.is_some() {}
}

/// How reading ended.
enum End {
    HalfClose,
    Draining,
}

enum Failure {
    Ours(ServeError),
    Transport,
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::Ours(error)
    }
}

async fn read_open(
    shared: &Arc<Shared>,
    headers: &RequestHeaders,
    requests: &mut impl Requests,
) -> Result<Opening, Failure> {
    let limit = shared.session.idle_timeout;
    let mut phase = shared.phase.clone();
    let first = tokio::select! {
        biased;
        first = requests.try_next() => first,
        () = draining(&mut phase) => return Err(ServeError::Draining.into()),
        () = tokio::time::sleep(limit) => return Err(ServeError::SessionIdle { limit }.into()),
    };
    match transport(shared, first)?.and_then(|request| request.message) {
        Some(Message::Open(open)) => Ok(Opening::from_proto(shared, headers, open).await?),
        _ => Err(ServeError::invalid("message", "the first message must be open").into()),
    }
}

fn begin(shared: &Shared, opening: &Opening, conversation: &Conversation) {
    let session = &shared.session;
    let inbox = Inbox::new(opening.bytes_per_s(), opening.max_buffered_audio_s(session));
    let outbox = Outbox::new(opening.model.fps(), opening.start_frame_index);
    let frames = u64::from(session.max_unsent_ms) * u64::from(opening.model.fps()) / 1000;
    let max_queued_frames = usize::try_from(frames.max(1)).unwrap_or(usize::MAX);
    conversation.open(inbox, outbox, max_queued_frames, opening.opened(session));
}

async fn read_rest(
    shared: &Shared,
    check: impl Fn(Option<Audio>) -> Result<Bytes, ServeError>,
    requests: &mut impl Requests,
    conversation: &Conversation,
) -> Result<End, Failure> {
    let mut phase = shared.phase.clone();
    loop {
        let limit = shared.session.idle_timeout;
        let idle_at = conversation.last_activity() + limit;
        tokio::select! {
            biased;
            () = draining(&mut phase) => return Ok(End::Draining),
            request = requests.try_next() => match transport(shared, request)? {
                Some(request) => take(conversation, &check, request)?,
                None => return Ok(End::HalfClose),
            },
            () = tokio::time::sleep_until(idle_at.into()) => {
                if conversation.last_activity() + limit <= Instant::now() {
                    return Err(ServeError::SessionIdle { limit }.into());
                }
            }
        }
    }
}

async fn draining(phase: &mut watch::Receiver<Phase>) {
    // The sender outlives every session; its loss would mean the end as well.
    drop(phase.wait_for(|phase| *phase == Phase::Draining).await);
}

/// A broken connection is nobody's fault; an undecodable or oversize message is the client's.
fn transport(
    shared: &Shared,
    request: Result<Option<v1::StreamCompositeRequest>, Status>,
) -> Result<Option<v1::StreamCompositeRequest>, Failure> {
    request.map_err(
        |error| match status::incoming_fault(&error, shared.limits.max_message_bytes) {
            Some(fault) => Failure::Ours(fault),
            None => Failure::Transport,
        },
    )
}

fn take(
    conversation: &Conversation,
    check: impl Fn(Option<Audio>) -> Result<Bytes, ServeError>,
    request: v1::StreamCompositeRequest,
) -> Result<(), ServeError> {
    match request.message {
        Some(Message::Audio(chunk)) => {
            let data = check(chunk.audio)?;
            conversation.push_audio(chunk.segment_id, &data)
        }
        Some(Message::EndSegment(end)) => conversation.end_segment(end.segment_id),
        Some(Message::Clear(clear)) => conversation.clear(clear.segment_id),
        Some(Message::Open(_)) => Err(ServeError::invalid("open", "the session is open already")),
        None => Err(ServeError::invalid(
            "message",
            "expected open, audio, end_segment or clear",
        )),
    }
}

/// The kind that was announced, in whole items: so that it can be cut anywhere between them.
fn check_audio(
    form: AudioForm,
    item_bytes: usize,
    audio: Option<Audio>,
) -> Result<Bytes, ServeError> {
    let (field, announced, data) = match (form, audio) {
        (AudioForm::Pcm(format), Some(Audio::Pcm(data))) => {
            check_samples("audio.pcm", &data, format)?;
            return Ok(data);
        }
        (AudioForm::Steps, Some(Audio::Steps(data))) => ("audio.steps", true, data),
        (AudioForm::Windows, Some(Audio::Windows(data))) => ("audio.windows", true, data),
        (_, Some(_)) => ("audio", false, Bytes::new()),
        (_, None) => {
            return Err(ServeError::invalid(
                "audio",
                "expected pcm, steps or windows",
            ));
        }
    };
    if !announced {
        return Err(ServeError::invalid(
            field,
            "not of the kind that open.audio_input announced",
        ));
    }
    if data.is_empty() || !data.len().is_multiple_of(item_bytes) {
        return Err(ServeError::invalid(
            field,
            format!(
                "expected a multiple of {item_bytes} bytes, not empty, found {} bytes",
                data.len()
            ),
        ));
    }
    Ok(data)
}
