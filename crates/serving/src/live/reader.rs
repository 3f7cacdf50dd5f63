//! The reader of a session: takes every message at once, whatever the producer is doing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lipsync_session::SessionCounters;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::StreamExt as _;

use super::{
    Audio, AudioForm, Broken, Incoming, Parts, Requests,
    conversation::{Conversation, Session},
    open::Opening,
    producer,
    watch::watch,
};
use crate::{
    activity::Activity, admission::Work, caller::Caller, due::Due, error::ServeError, talk::Talk,
    telemetry::SessionClock,
};

/// Who opens a session.
#[derive(Debug)]
pub struct Opener {
    /// The caller.
    pub caller: Caller,
    /// What goes on in its connection.
    pub activity: Option<Activity>,
    /// What the drain waits for.
    pub due: Arc<Due>,
}

/// Who opens a session says at once what it is.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Reads until the client closes its side or an error, then waits for the producer; ends what the watch
/// finds to last too long.
pub(super) async fn run(
    parts: Parts,
    opener: Opener,
    mut requests: impl Requests,
    conversation: Arc<Conversation>,
) {
    // Dropped with this task, and with it the producer.
    let mut producer = JoinSet::new();
    let mut talk = parts
        .admission
        .talk(&opener.caller, parts.pipeline.takes_turns_by_peer);
    let working = async {
        let reading = async {
            talk.opens().await;
            let opening = read_open(&parts, &opener, &mut requests, &conversation);
            let opening = Arc::new(opening.await?);
            begin(&parts, &opener.caller, &opening, &conversation);
            producer.spawn(producer::run(
                parts.clone(),
                Arc::clone(&opening),
                Arc::clone(&conversation),
            ));
            read_rest(&opening, &mut requests, &conversation, &mut talk).await
        };
        match reading.await {
            // Before `open` there is nothing to finish; that case is an error.
            Ok(()) => drop(conversation.receive(|session, now| {
                session.finish_input(now);
                Ok(())
            })),
            Err(Broken::Fault(error)) => conversation.end(Some(error)),
            // The client is gone; so is the response stream.
            Err(Broken::Gone) => conversation.end(None),
        }
        while producer.join_next().await.is_some() {}
    };
    tokio::select! {
        () = working => {}
        error = watch(&parts, &conversation) => {
            conversation.end(Some(error));
        }
    }
}

async fn read_open(
    parts: &Parts,
    opener: &Opener,
    requests: &mut impl Requests,
    conversation: &Conversation,
) -> Result<Opening, Broken> {
    let limit = OPEN_LIMIT.min(parts.limits.idle_timeout);
    let Some(Incoming::Open(order)) = first_message(requests, limit).await? else {
        return Err(ServeError::invalid("message", "the first message must be open").into());
    };
    let caller = &opener.caller;
    let admitted = parts.admission.admit(caller, Work::Session)?;
    conversation.admit(admitted, opener.activity.as_ref().map(Activity::begin));
    Ok(Opening::load((*order)?, caller, parts).await?)
}

async fn first_message(
    requests: &mut impl Requests,
    limit: Duration,
) -> Result<Option<Incoming>, Broken> {
    let first = timeout(limit, requests.try_next()).await;
    first.map_err(|_| ServeError::SessionIdle { limit })?
}

fn begin(parts: &Parts, caller: &Caller, opening: &Opening, conversation: &Conversation) {
    let limits = &parts.limits;
    let rules = opening.rules(limits);
    let book = &parts.pipeline.book;
    let figures = book.model(&opening.model_id, &caller.tenant);
    let above = vec![Arc::clone(&book.sessions), Arc::clone(&figures.sessions)];
    let counters = Arc::new(SessionCounters::below(above));
    caller.tally.opened(Arc::clone(&counters));
    let now = Instant::now().into_std();
    let session = Session::new(
        rules,
        opening.inbox(limits, parts.new_intake),
        counters,
        now,
    );
    let clock = SessionClock::new(figures, opening.shows_idle).traced(caller.tally.witness());
    conversation.open(session, clock, opening.opened(limits));
    if let Some(warning) = &opening.warning {
        conversation.warn(warning.clone());
    }
}

async fn read_rest(
    opening: &Opening,
    requests: &mut impl Requests,
    conversation: &Conversation,
    talk: &mut Talk,
) -> Result<(), Broken> {
    let (form, item_bytes) = (opening.form, opening.item_bytes());
    let check = |audio| check_audio(form, item_bytes, audio);
    while let Some(message) = requests.try_next().await? {
        talk.listens().await;
        take(conversation, check, message)?;
    }
    Ok(())
}

fn take(
    conversation: &Conversation,
    check: impl Fn(Audio) -> Result<Bytes, ServeError>,
    message: Incoming,
) -> Result<(), ServeError> {
    match message {
        Incoming::Audio { segment_id, audio } => {
            let data = check(audio)?;
            conversation.heard(segment_id);
            conversation.receive(|session, now| session.push_audio(segment_id, &data, now))
        }
        Incoming::EndSegment { segment_id } => {
            conversation.receive(|session, now| session.end_segment(segment_id, now))
        }
        Incoming::Clear { segment_id } => {
            conversation.receive(|session, _now| session.clear(segment_id))
        }
        Incoming::Open(_) => Err(ServeError::invalid("open", "the session is open already")),
        Incoming::Nothing(error) => Err(error),
    }
}

/// The kind that was announced; steps and windows in whole ones, so that they can be cut anywhere between them.
fn check_audio(form: AudioForm, item_bytes: usize, audio: Audio) -> Result<Bytes, ServeError> {
    let (field, announced, data) = match (form, audio) {
        // Cut anywhere: the session's intake joins what belongs together.
        (AudioForm::Pcm(_), Audio::Pcm(data)) => return Ok(data),
        (AudioForm::Steps, Audio::Steps(data)) => ("audio.steps", true, data),
        (AudioForm::Windows, Audio::Windows(data)) => ("audio.windows", true, data),
        _ => ("audio", false, Bytes::new()),
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
        assert!(matches!(
            first,
            Err(Broken::Fault(ServeError::SessionIdle { .. }))
        ));
        assert_eq!(began.elapsed(), OPEN_LIMIT);
        let end = Incoming::EndSegment { segment_id: 7 };
        let mut requests = tokio_stream::iter([Ok(end)]);
        let first = first_message(&mut requests, OPEN_LIMIT).await;
        assert!(matches!(
            first,
            Ok(Some(Incoming::EndSegment { segment_id: 7 }))
        ));
    }
}
