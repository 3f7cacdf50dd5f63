//! What the text-to-speech service makes of one text.

use std::{future::poll_fn, io, pin::Pin};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use thiserror::Error;

use crate::{
    config::TextToSpeech,
    http_post::{PostError, post},
};

/// The sound of a text.
#[derive(Debug)]
pub(super) struct Sound {
    /// A type of sound.
    pub(super) content_type: HeaderValue,
    pub(super) data: Vec<u8>,
}

/// Why there is no sound. The texts are for clients: they have no address in them.
#[derive(Debug, Error)]
pub(super) enum Mute {
    /// It is switched off.
    #[error("text to speech is off: operations.text_to_speech_url is not set")]
    Off,
    /// Nobody answers there, or not in HTTP.
    #[error("the text-to-speech service does not answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It takes too long.
    #[error("the text-to-speech service took longer than {limit_s} s")]
    TimedOut { limit_s: u64 },
    /// It refuses.
    #[error("the text-to-speech service answered {0}")]
    Status(StatusCode),
    /// It answers something else.
    #[error(
        "the text-to-speech service answered something that is no sound: its type is not audio/..."
    )]
    NoSound,
    /// The sound is too long.
    #[error("the sound of the text has more than {limit} bytes; try a shorter text")]
    TooLarge { limit: usize },
}

impl Mute {
    fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unreachable(error.into())
    }
}

/// Has a text spoken for an avatar.
pub(super) async fn speak(
    service: &TextToSpeech,
    text: &str,
    model_id: &str,
) -> Result<Sound, Mute> {
    let url = service.url.as_ref().ok_or(Mute::Off)?;
    let body = service.body.of(text, model_id);
    let content = (service.body.content_type(), Bytes::from(body));
    let limit = service.max_audio_bytes;
    let take = |answer| async move { Ok(sound(answer, limit).await) };
    match post(url, content, service.timeout, take).await {
        Ok(spoken) => spoken,
        Err(PostError::TooSlow(limit)) => Err(Mute::TimedOut {
            limit_s: limit.as_secs(),
        }),
        Err(error) => Err(Mute::unreachable(error)),
    }
}

/// The sound in an answer.
async fn sound(answer: Response<Incoming>, limit: usize) -> Result<Sound, Mute> {
    let status = answer.status();
    if status != StatusCode::OK {
        return Err(Mute::Status(status));
    }
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.filter(|value| is_sound(value)).cloned();
    let content_type = content_type.ok_or(Mute::NoSound)?;
    let mut body = answer.into_body();
    let mut data = Vec::new();
    while let Some(piece) = next(&mut body).await? {
        if piece.len() > limit - data.len() {
            return Err(Mute::TooLarge { limit });
        }
        data.extend_from_slice(&piece);
    }
    if data.is_empty() {
        return Err(Mute::unreachable(io::Error::other("an empty sound")));
    }
    Ok(Sound { content_type, data })
}

/// Sound, and nothing that a browser would take for a page.
fn is_sound(value: &HeaderValue) -> bool {
    const SOUND: &[u8] = b"audio/";
    let value = value.as_bytes();
    value.len() > SOUND.len() && value[..SOUND.len()].eq_ignore_ascii_case(SOUND)
}

/// The next piece of a body that has bytes in it.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Mute> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame.transpose().map_err(Mute::unreachable)? {
            None => return Ok(None),
            Some(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
