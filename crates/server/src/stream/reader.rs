//! The reader of a session: takes every message at once, whatever the producer is doing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lipsync::v1::{self, audio_chunk::Audio, stream_composite_request::Message};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::StreamExt as _;
use tonic::Status;

use super::{
    Requests,
    conversation::Conversation,
    inbox::Inbox,
    open::{AudioForm, Opening},
    producer,
    session::Session,
    watch::watch,
};
use crate::{
    admission::Work,
    core_state::Shared,
    error::ServeError,
    request_layer::Arrival,
    wire::{headers::RequestHeaders, status},
};

/// Who opens a session says at once what it is.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Who opens a session.
pub(super) struct Caller {
    pub(super) headers: RequestHeaders,
    pub(super) arrival: Arrival,
}

/// Reads until the client closes its side or an error, then waits for the producer; ends what the watch
/// finds to last too long.
pub(super) async fn run(
    shared: Arc<Shared>,
    caller: Caller,
    mut requests: impl Requests,
    conversation: Arc<Conversation>,
) {
    // Dropped with this task, and with it the producer.
    let mut producer = JoinSet::new();
    let working = async {
        let reading = async {
            let opening = read_open(&shared, &caller, &mut requests, &conversation);
            let opening = Arc::new(opening.await?);
            begin(&shared, &opening, &conversation);
            producer.spawn(producer::run(
                Arc::clone(&shared),
                Arc::clone(&opening),
                Arc::clone(&conversation),
            ));
            read_rest(&shared, &caller, &opening, &mut requests, &conversation).await
        };
        match reading.await {
            // Before `open` there is nothing to finish; that case is an error.
            Ok(()) => drop(conversation.receive(|session, now| {
                session.finish_input(now);
                Ok(())
            })),
            Err(Failure::Ours(error)) => conversation.end(Some(error)),
            // The client is gone; so is the response stream.
            Err(Failure::Transport) => conversation.end(None),
        }
        while producer.join_next().await.is_some() {}
    };
    tokio::select! {
        () = working => {}
        error = watch(&shared, &conversation) => conversation.end(Some(error)),
    }
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
    caller: &Caller,
    requests: &mut impl Requests,
    conversation: &Conversation,
) -> Result<Opening, Failure> {
    let limit = OPEN_LIMIT.min(shared.session.idle_timeout);
    let first = first_message(requests, limit).await?;
    match transport(shared, caller, first)?.and_then(|request| request.message) {
        Some(Message::Open(open)) => {
            let ticket = shared
                .admission
                .admit(&caller.headers.caller, Work::Session)?;
            conversation.admit(ticket, caller.arrival.busy());
            Ok(Opening::from_proto(shared, &caller.headers, open).await?)
        }
        _ => Err(ServeError::invalid("message", "the first message must be open").into()),
    }
}

async fn first_message(
    requests: &mut impl Requests,
    limit: Duration,
) -> Result<Result<Option<v1::StreamCompositeRequest>, Status>, ServeError> {
    let first = timeout(limit, requests.try_next()).await;
    first.map_err(|_| ServeError::SessionIdle { limit })
}

fn begin(shared: &Shared, opening: &Opening, conversation: &Conversation) {
    let limits = &shared.session;
    let inbox = Inbox::new(opening.bytes_per_s(), opening.max_buffered_audio_s(limits))
        .with_intake(opening.intake());
    let rules = opening.rules(limits, shared.limits.max_batch_frames);
    let counters = Arc::clone(&shared.sessions);
    let session = Session::new(rules, inbox, counters, Instant::now());
    conversation.open(session, opening.opened(limits));
}

async fn read_rest(
    shared: &Shared,
    caller: &Caller,
    opening: &Opening,
    requests: &mut impl Requests,
    conversation: &Conversation,
) -> Result<(), Failure> {
    let (form, item_bytes) = (opening.form, opening.item_bytes());
    let check = |audio| check_audio(form, item_bytes, audio);
    while let Some(request) = transport(shared, caller, requests.try_next().await)? {
        take(conversation, check, request)?;
    }
    Ok(())
}

/// A broken connection is nobody's fault; an undecodable or oversize message is the client's.
fn transport(
    shared: &Shared,
    caller: &Caller,
    request: Result<Option<v1::StreamCompositeRequest>, Status>,
) -> Result<Option<v1::StreamCompositeRequest>, Failure> {
    request.map_err(|error| {
        if let Some(fault) = caller.arrival.fault() {
            return Failure::Ours(fault.into());
        }
        match status::incoming_fault(&error, shared.limits.max_message_bytes) {
            Some(fault) => Failure::Ours(fault),
            None => Failure::Transport,
        }
    })
}

fn take(
    conversation: &Conversation,
    check: impl Fn(Option<Audio>) -> Result<Bytes, ServeError>,
    request: v1::StreamCompositeRequest,
) -> Result<(), ServeError> {
    match request.message {
        Some(Message::Audio(chunk)) => {
            let data = check(chunk.audio)?;
            conversation.receive(|session, now| session.push_audio(chunk.segment_id, &data, now))
        }
        Some(Message::EndSegment(end)) => {
            conversation.receive(|session, now| session.end_segment(end.segment_id, now))
        }
        Some(Message::Clear(clear)) => {
            conversation.receive(|session, _now| session.clear(clear.segment_id))
        }
        Some(Message::Open(_)) => Err(ServeError::invalid("open", "the session is open already")),
        None => Err(ServeError::invalid(
            "message",
            "expected open, audio, end_segment or clear",
        )),
    }
}

/// The kind that was announced; steps and windows in whole ones, so that they can be cut anywhere between them.
fn check_audio(
    form: AudioForm,
    item_bytes: usize,
    audio: Option<Audio>,
) -> Result<Bytes, ServeError> {
    let (field, announced, data) = match (form, audio) {
        // Cut anywhere: the session's intake joins what belongs together.
        (AudioForm::Pcm(_), Some(Audio::Pcm(data))) => return Ok(data),
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
    if !data.len().is_multiple_of(item_bytes) {
        return Err(ServeError::invalid(
            field,
            format!(
                "expected a multiple of {item_bytes} bytes, found {} bytes",
                data.len()
            ),
        ));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_that_says_nothing_is_ended_soon() {
        let began = Instant::now();
        let first = first_message(&mut tokio_stream::pending(), OPEN_LIMIT).await;
        assert!(matches!(first, Err(ServeError::SessionIdle { .. })));
        assert_eq!(began.elapsed(), OPEN_LIMIT);
        let open = v1::StreamCompositeRequest::default();
        let mut requests = tokio_stream::iter([Ok(open.clone())]);
        let first = first_message(&mut requests, OPEN_LIMIT).await;
        assert_eq!(first.unwrap().unwrap(), Some(open));
    }
}
