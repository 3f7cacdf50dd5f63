//! The service that speaks texts for the page.

use std::{fmt, time::Duration};

use http::{Uri, uri::Scheme};
use lipsync_core::Foreign;

use super::{BadValue, address::has_good_port};

const URL: &str = "operations.text_to_speech_url";
const BODY: &str = "operations.text_to_speech_body";
/// Longer addresses are none.
const MAX_URL_BYTES: usize = 2048;
/// What a body may have beside the text.
const MAX_BODY_BYTES: usize = 4096;
/// What stands for the text and for the avatar's id.
const PLACEHOLDERS: [&str; 2] = ["$text", "$model"];

/// Where texts are spoken, and what one may take.
#[derive(Clone, PartialEq, Eq)]
pub struct TextToSpeech {
    /// An address of http or https with a host; `None`: off.
    pub url: Option<Uri>,
    /// What is posted there.
    pub body: SpeechBody,
    /// What one text may take, from the connection to the last byte of its sound.
    pub timeout: Duration,
    /// Characters of one text.
    pub max_characters: usize,
    /// Bytes of one text's sound.
    pub max_audio_bytes: usize,
}

/// Without path and query of the address: there may be a secret in them.
impl fmt::Debug for TextToSpeech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextToSpeech")
            .field("host", &self.url.as_ref().and_then(Uri::host))
            .field("timeout", &self.timeout)
            .field("max_characters", &self.max_characters)
            .field("max_audio_bytes", &self.max_audio_bytes)
            .finish_non_exhaustive()
    }
}

/// How a text is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpeechBody {
    /// As it is.
    Text,
    /// In JSON, in which `$text` and `$model` stand for texts in quotes.
    Json(String),
}

impl SpeechBody {
    fn parse(written: &str) -> Result<Self, BadValue> {
        let written = written.trim();
        if written.is_empty() {
            return Ok(Self::Text);
        }
        let wrong = |reason: String| BadValue {
            key: BODY.into(),
            message: format!(
                "expected JSON with $text in place of a text, such as {{\"input\": $text}}, found {:?}: {reason}",
                Foreign(written)
            ),
        };
        if written.len() > MAX_BODY_BYTES {
            return Err(wrong(format!("it has more than {MAX_BODY_BYTES} bytes")));
        }
        if !written.contains(PLACEHOLDERS[0]) {
            return Err(wrong("there is no $text".into()));
        }
        let body = Self::Json(written.to_owned());
        let json = body.of("a text", "a-model");
        match serde_json::from_str::<serde_json::Value>(&json) {
            Ok(_) => Ok(body),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// What is posted for a text that an avatar is to say.
    #[must_use]
    pub fn of(&self, text: &str, model_id: &str) -> String {
        let Self::Json(written) = self else {
            return text.to_owned();
        };
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut body = String::with_capacity(written.len() + text.len());
        let mut rest = written.as_str();
        // What is put in is not looked at again: a text may have a placeholder in it.
        while let Some((before, after)) = rest.split_once('$') {
            body.push_str(before);
            let found = PLACEHOLDERS
                .iter()
                .zip([text, model_id])
                .find_map(|(name, value)| Some((after.strip_prefix(&name[1..])?, value)));
            match found {
                Some((after, value)) => {
                    body.push_str(&quoted(value));
                    rest = after;
                }
                None => {
                    body.push('$');
                    rest = after;
                }
            }
        }
        body.push_str(rest);
        body
    }

    /// What it is.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json(_) => "application/json",
        }
    }
}

/// The keys, as they are written, and their numbers.
pub(super) struct Written<'a> {
    pub(super) url: Option<&'a str>,
    pub(super) body: Option<&'a str>,
    pub(super) timeout_s: u64,
    pub(super) max_characters: usize,
    pub(super) max_audio_bytes: usize,
}

impl TextToSpeech {
    pub(super) fn check(written: &Written<'_>) -> Result<Self, BadValue> {
        let url = written.url.map(str::trim).filter(|url| !url.is_empty());
        Ok(Self {
            url: url.map(address).transpose()?,
            body: SpeechBody::parse(written.body.unwrap_or_default())?,
            timeout: Duration::from_secs(written.timeout_s),
            max_characters: written.max_characters,
            max_audio_bytes: written.max_audio_bytes,
        })
    }
}

/// What stands there is not repeated in the message: there may be a secret in it.
fn address(text: &str) -> Result<Uri, BadValue> {
    let wrong = |found: &str| BadValue {
        key: URL.into(),
        message: format!(
            "expected an address such as http://localhost:5000/speak, of http or https, without user and password, of up to \
             {MAX_URL_BYTES} characters, found {found}"
        ),
    };
    if text.len() > MAX_URL_BYTES {
        return Err(wrong(&format!("{} bytes", text.len())));
    }
    let Ok(url) = text.parse::<Uri>() else {
        return Err(wrong("what is no address"));
    };
    if ![Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&url.scheme()) {
        let scheme = url.scheme_str().unwrap_or("no scheme");
        return Err(wrong(&format!("{:?}", Foreign(scheme))));
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(wrong("a user"));
    }
    if url.host().is_none_or(str::is_empty) {
        return Err(wrong("no host"));
    }
    if !has_good_port(&url) {
        return Err(wrong("a port that is not 1 to 65535"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, body: &str) -> Result<TextToSpeech, BadValue> {
        TextToSpeech::check(&Written {
            url: Some(url),
            body: Some(body),
            timeout_s: 1,
            max_characters: 1,
            max_audio_bytes: 1,
        })
    }

    #[test]
    fn a_text_is_posted_as_the_service_wants_it() {
        let of = |body: &str| parse("http://a", body).unwrap().body;
        assert_eq!(of("").of("hi \"you\"", "mira"), "hi \"you\"");
        let body = of(r#"{"input": $text, "voice": $model, "price": "$5"}"#);
        assert_eq!(
            body.of("\"$model\"\n", "mira"),
            r#"{"input": "\"$model\"\n", "voice": "mira", "price": "$5"}"#
        );
        assert_eq!(body.content_type(), "application/json");
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_it() {
        for (url, words) in [
            ("ftp://secret.example", "found \"ftp\""),
            ("secret.example/x", "what is no address"),
            ("/secret", "no scheme"),
            ("http://me:secret@a/", "found a user"),
            ("http://", "what is no address"),
            (&format!("http://a/{}", "secret".repeat(400)), "bytes"),
        ] {
            let refused = parse(url, "").expect_err(url);
            assert_eq!(refused.key, URL);
            assert!(refused.message.contains(words), "{}", refused.message);
            assert!(!refused.message.contains("secret"), "{}", refused.message);
        }
        assert_eq!(parse(" ", "").unwrap().url, None, "off");
        let debug = format!("{:?}", parse("http://a/secret?key=secret", "").unwrap());
        assert!(!debug.contains("secret"), "{debug}");
    }

    #[test]
    fn a_body_that_would_be_no_json_is_refused() {
        for (body, words) in [
            ("{\"input\": $txt}", "there is no $text"),
            ("{\"input\": \"$text\"}", "expected"),
            ("{\"input\": $text", "EOF"),
        ] {
            let refused = parse("http://a", body).expect_err(body);
            assert_eq!(refused.key, BODY);
            assert!(refused.message.contains(words), "{}", refused.message);
        }
    }
}
