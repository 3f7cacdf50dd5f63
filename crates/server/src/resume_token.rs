//! Tokens with which a client goes on with a session that it has lost, here or at another replica.
//!
//! A token is a [`Position`], whose it is and until when it is good, signed with HMAC-SHA-256 (RFC 2104). Nothing is kept of
//! it here. It opens no door: whoever shows one comes through the same gate as everybody, with a key of its own. All that
//! it does is to say where the session is to begin.

mod keys;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use lipsync_core::{ModelId, TenantId};
use lipsync_serving::{live::AudioForm, order::PcmFormat};
use lipsync_session::{InSegment, Position};
use sha2::{Digest as _, Sha256};

use keys::MAC_BYTES;
pub use keys::{MAX_KEY_FILE_BYTES, ResumeKeys};

const VERSION: u8 = 1;
const OWNER_BYTES: usize = 16;
const WHAT_BYTES: usize = 8;
/// Version, expiry, owner, model, audio; frames, place, weight, flags; segment, frames of it, mark.
const BODY_BYTES: usize = 1 + 8 + OWNER_BYTES + 2 * WHAT_BYTES + 8 + 8 + 1 + 1 + 8 + 8 + 1;
/// What a token takes.
pub const TOKEN_BYTES: usize = BODY_BYTES + MAC_BYTES;
const IS_IDLE: u8 = 1;
const IN_SEGMENT: u8 = 2;

/// Why a token does not say where a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was made with other keys, for another tenant, or by nobody. Which of these is not told.
    #[error(
        "it was not made by this server, or one with the same session.resume_key_file, for this caller"
    )]
    Foreign,
    /// It is too old.
    #[error("it has expired (session.resume_window_s)")]
    Expired,
    /// It is for another model.
    #[error("it is for another model")]
    OtherModel,
    /// Its session had other audio.
    #[error("its session had another audio format, or another value of idle_frames")]
    OtherAudio,
    /// There are no tokens.
    #[error("resuming is off (session.resume_window_s is 0)")]
    Off,
}

/// Makes and reads the tokens of one session.
#[derive(Debug, Clone)]
pub struct Seal {
    keys: Arc<ResumeKeys>,
    window: Duration,
    owner: [u8; OWNER_BYTES],
    model: [u8; WHAT_BYTES],
    audio: [u8; WHAT_BYTES],
}

impl Seal {
    /// Of a session of this tenant with this model, whose audio comes so. Tokens are good for `window`; 0 = there are none.
    #[must_use]
    pub fn new(
        keys: Arc<ResumeKeys>,
        window: Duration,
        (tenant, model): (&TenantId, &ModelId),
        (form, shows_idle): (AudioForm, bool),
    ) -> Self {
        Self {
            keys,
            window,
            owner: digest("tenant", tenant.as_str()),
            model: digest("model", model.as_str()),
            audio: digest("audio", &audio_text(form, shows_idle)),
        }
    }

    /// A token for this position; empty where there are none.
    #[must_use]
    pub fn token(&self, position: &Position, now: SystemTime) -> Bytes {
        if self.window.is_zero() {
            return Bytes::new();
        }
        let expires = unix_s(now).saturating_add(self.window.as_secs());
        let mut token = Vec::with_capacity(TOKEN_BYTES);
        token.push(VERSION);
        token.extend(expires.to_be_bytes());
        token.extend(self.owner);
        token.extend(self.model);
        token.extend(self.audio);
        put_position(&mut token, position);
        token.extend(self.keys.sign(&token));
        token.into()
    }

    /// Where the session of this token goes on.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn position(&self, token: &[u8], now: SystemTime) -> Result<Position, Refusal> {
        if self.window.is_zero() {
            return Err(Refusal::Off);
        }
        let (body, mac) = token
            .split_at_checked(BODY_BYTES)
            .filter(|(_, mac)| mac.len() == MAC_BYTES)
            .ok_or(Refusal::Foreign)?;
        if !self.keys.verify(body, mac) {
            return Err(Refusal::Foreign);
        }
        let mut body = Reader(body);
        let read = (|| {
            let [version] = body.take()?;
            let expires = body.number()?;
            let (owner, model, audio) = (body.take()?, body.take()?, body.take()?);
            Some((version, expires, owner, model, audio, body.position()?))
        })();
        let Some((VERSION, expires, owner, model, audio, position)) = read else {
            return Err(Refusal::Foreign);
        };
        if owner != self.owner {
            return Err(Refusal::Foreign);
        }
        if unix_s(now) >= expires {
            return Err(Refusal::Expired);
        }
        if model != self.model {
            return Err(Refusal::OtherModel);
        }
        if audio != self.audio {
            return Err(Refusal::OtherAudio);
        }
        Ok(position)
    }
}

/// How audio comes, as far as the same samples must make the same frames.
fn audio_text(form: AudioForm, shows_idle: bool) -> String {
    let form = match form {
        AudioForm::Pcm(PcmFormat {
            rate_hz,
            n_channels,
            encoding,
        }) => format!("pcm {rate_hz} {n_channels} {encoding:?}"),
        AudioForm::Steps => "steps".to_owned(),
        AudioForm::Windows => "windows".to_owned(),
    };
    format!("{form} {shows_idle}")
}

/// The beginning of a digest of what a token is about.
fn digest<const N: usize>(what: &str, text: &str) -> [u8; N] {
    let digest = Sha256::new()
        .chain_update(what)
        .chain_update([0])
        .chain_update(text)
        .finalize();
    std::array::from_fn(|n| digest.get(n).copied().unwrap_or_default())
}

fn unix_s(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn put_position(token: &mut Vec<u8>, position: &Position) {
    let segment = position.segment;
    let is_idle = if position.is_idle { IS_IDLE } else { 0 };
    let in_segment = if segment.is_some() { IN_SEGMENT } else { 0 };
    token.extend(position.n_frames.to_be_bytes());
    token.extend(position.place.to_be_bytes());
    token.extend([position.weight, is_idle | in_segment]);
    token.extend(segment.map_or(0, |s| s.segment_id).to_be_bytes());
    token.extend(segment.map_or(0, |s| s.n_frames).to_be_bytes());
    token.push(segment.map_or(0, |s| s.mark));
}

/// The rest of a token.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn position(&mut self) -> Option<Position> {
        let (n_frames, place) = (self.number()?, self.number()?);
        let [weight, flags] = self.take()?;
        let (segment_id, n_shown) = (self.number()?, self.number()?);
        let [mark] = self.take()?;
        let segment = InSegment {
            segment_id,
            n_frames: n_shown,
            mark,
        };
        Some(Position {
            n_frames,
            place,
            weight,
            is_idle: flags & IS_IDLE > 0,
            segment: (flags & IN_SEGMENT > 0).then_some(segment),
        })
    }
}
