//! `/api/speech`: a text becomes speech, for the page's text box. The service that
//! `operations.text_to_speech_url` names speaks it; the page sends the sound into its session like any other.
//!
//! The server stands in between because browsers let a page fetch nothing from elsewhere, and because the service has no
//! gate of its own. Here a text has a place, and its sound has room, as all that clients ask for.

use std::time::{Duration, Instant};

use axum::{
    Extension,
    body::{Body, to_bytes},
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use http::header;
use lipsync_core::{ModelId, saturate::u64_of};
use lipsync_serving::{ServeError, admission::Work, caller::Caller};
use serde::Serialize;
use tokio::time::timeout;

use super::{
    api::json,
    backgrounds::refused,
    context::{Context, FRESH},
    origin,
    spoken::{self, Mute, Sound},
    unwritten,
    visitor::{self, Visitor},
};
use crate::{transport::Seat, wire::headers::RequestHeaders};

/// For a text to arrive.
const TEXT_LIMIT: Duration = Duration::from_secs(10);
/// UTF-8 takes up to this many for a character.
const BYTES_A_CHARACTER: usize = 4;

/// What texts may be.
#[derive(Serialize)]
struct Limits {
    /// Characters; 0 where nothing speaks them.
    max_characters: usize,
}

/// Why a text is not spoken.
enum Fault {
    /// By this server.
    Refused(ServeError),
    /// By the service.
    Mute(Mute),
    /// It is no text, or too long.
    Text(StatusCode, String),
}

impl From<ServeError> for Fault {
    fn from(error: ServeError) -> Self {
        Self::Refused(error)
    }
}

/// Whether texts are spoken, and how long they may be.
pub(super) async fn limits(State(context): State<Context>, visitor: Visitor) -> Response {
    if let Err(refusal) = visitor::tenant(&context, &visitor) {
        return *refusal;
    }
    let service = &context.text_to_speech;
    let is_on = service.url.is_some();
    json(&Limits {
        max_characters: if is_on { service.max_characters } else { 0 },
    })
}

/// Speaks the text of the body. `?model_id=` names the avatar that will say it.
pub(super) async fn speak(
    State(context): State<Context>,
    Extension(seat): Extension<Seat>,
    RawQuery(query): RawQuery,
    mut visitor: Visitor,
    body: Body,
) -> Response {
    // Any page may post a text without asking first.
    if origin::check(&visitor.headers, &context.allowed_origins).is_err() {
        let text = "texts of other pages are not spoken\n";
        return (StatusCode::FORBIDDEN, FRESH, text).into_response();
    }
    let tenant = match visitor::tenant(&context, &visitor) {
        Ok(tenant) => tenant,
        Err(refusal) => return *refusal,
    };
    // A proxy's own, or the key, which has been looked at.
    visitor.headers.remove(header::AUTHORIZATION);
    let headers = RequestHeaders::read(&visitor.headers, &tenant, seat.peer, Instant::now());
    let query = query.unwrap_or_default();
    match answer(&context, &headers, &seat, (&query, body)).await {
        Ok(response) => response,
        Err(Fault::Refused(error)) => refused(error),
        Err(Fault::Text(status, text)) => (status, FRESH, text).into_response(),
        Err(Fault::Mute(mute)) => silent(&mute),
    }
}

async fn answer(
    context: &Context,
    headers: &RequestHeaders,
    seat: &Seat,
    (query, body): (&str, Body),
) -> Result<Response, Fault> {
    let caller = &headers.checked()?.caller;
    let service = &context.text_to_speech;
    if service.url.is_none() {
        return Err(Fault::Mute(Mute::Off));
    }
    let model_id = model_of(caller, query)?;
    let admission = &context.shared.admission;
    // A full server says so before it reads; a place is taken when the text is there.
    admission.expect(caller, Work::Speech)?;
    let text = text_of(body, service.max_characters).await?;
    let _place = admission.admit(caller, Work::Speech)?;
    let room = admission.reserve(caller, u64_of(service.max_audio_bytes))?;
    let speaking = spoken::speak(service, &text, model_id.as_str());
    let Sound { content_type, data } = admission
        .unless_draining(speaking)
        .await?
        .map_err(Fault::Mute)?;
    admission.resize(caller, &room, data.len())?;
    let sound = unwritten::holding(room, data, seat);
    let types = [(header::CONTENT_TYPE, content_type)];
    Ok((FRESH, types, Body::from(sound)).into_response())
}

/// The avatar, which must be one that the caller may use.
fn model_of(caller: &Caller, query: &str) -> Result<ModelId, ServeError> {
    let id = query.strip_prefix("model_id=").unwrap_or_default();
    let wrong = |error| ServeError::invalid("model_id", format!("{error}"));
    let id = ModelId::new(id).map_err(wrong)?;
    caller.check_model(&id)?;
    Ok(id)
}

/// The text of a body.
async fn text_of(body: Body, max_characters: usize) -> Result<String, Fault> {
    let too_long = || {
        let text = format!("the text is too long: expected at most {max_characters} characters\n");
        Fault::Text(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let reading = to_bytes(body, max_characters.saturating_mul(BYTES_A_CHARACTER));
    let Ok(read) = timeout(TEXT_LIMIT, reading).await else {
        let text = format!(
            "the text did not arrive within {} s\n",
            TEXT_LIMIT.as_secs()
        );
        return Err(Fault::Text(StatusCode::REQUEST_TIMEOUT, text));
    };
    // Or its client is gone, and hears nothing of this.
    let bytes = read.map_err(|_too_long| too_long())?;
    let wrong = |text: &str| Fault::Text(StatusCode::BAD_REQUEST, text.to_owned());
    let text = str::from_utf8(&bytes).map_err(|_| wrong("the text is not in UTF-8\n"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(wrong("the text is empty\n"));
    }
    if text.chars().count() > max_characters {
        return Err(too_long());
    }
    Ok(text.to_owned())
}

/// What the service's failure is to a client.
fn silent(mute: &Mute) -> Response {
    let status = match mute {
        Mute::Off => StatusCode::NOT_FOUND,
        Mute::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        Mute::Unreachable(_) | Mute::Status(_) | Mute::NoSound | Mute::TooLarge { .. } => {
            StatusCode::BAD_GATEWAY
        }
    };
    if !matches!(mute, Mute::Off) {
        let cause = std::error::Error::source(mute).map(ToString::to_string);
        tracing::warn!(error = %mute, cause, "a text was not spoken");
    }
    (status, FRESH, format!("{mute}\n")).into_response()
}
