//! The sending half of a session.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{AudioFormat, SessionError, audio::Numbers, ledger::Ledger, shared::Shared};
use crate::v1::{
    AudioChunk, Clear, EndSegment, StreamCompositeRequest, audio_chunk,
    stream_composite_request::Message,
};

/// The sending half of a session. Dropping it finishes the session: the server makes the queued frames, then
/// the session ends.
#[derive(Debug)]
pub struct SessionSender {
    shared: Arc<Shared>,
    /// Whether a connection may come after the first one.
    can_resume: bool,
    /// What is sent after everything else over the first connection, without waiting for a place there.
    last_word: Option<oneshot::Sender<StreamCompositeRequest>>,
    format: AudioFormat,
    /// The first bytes of an incomplete sample.
    carry: Bytes,
}

impl SessionSender {
    pub(super) fn new(
        shared: Arc<Shared>,
        can_resume: bool,
        last_word: oneshot::Sender<StreamCompositeRequest>,
        format: AudioFormat,
    ) -> Self {
        Self {
            shared,
            can_resume,
            last_word: Some(last_word),
            format,
            carry: Bytes::new(),
        }
    }

    /// Sends audio in the announced format, of any length, and returns the id of its segment. The first
    /// audio begins a segment, as does the first after `end_segment` or `clear`. Ids count from 1.
    ///
    /// Samples may be cut anywhere, as they come from a pipe or a socket. An incomplete sample waits for its
    /// rest.
    ///
    /// Waits for frames to come back while the server holds as much audio as it may
    /// (`max_buffered_audio_s` of [`opened`]). So another task must take events meanwhile. A call that is
    /// dropped while it waits has sent a part of its audio; `clear` or `end_segment` may follow.
    ///
    /// # Errors
    /// [`SessionError::WrongAudio`] for parts of feature steps or windows, [`SessionError::Closed`] when the
    /// session is over.
    ///
    /// [`opened`]: super::SessionReceiver::opened
    pub async fn push_audio(&mut self, audio: impl Into<Bytes>) -> Result<u64, SessionError> {
        let audio = audio.into();
        self.check_items(&audio)?;
        if audio.is_empty() {
            drop(self.place().await?);
            return Ok(self.segment());
        }
        let mut rest = joined(std::mem::take(&mut self.carry), audio);
        let item_bytes = self.format.item_bytes();
        let carry = rest.split_off(rest.len() - rest.len() % item_bytes);
        if rest.is_empty() {
            // Nothing is sent, but a session that is over says so.
            drop(self.place().await?);
        }
        while !rest.is_empty() {
            let place = self.place().await?;
            if !self.send_some(place, &mut rest, item_bytes) {
                self.shared.room_announced().await;
            }
        }
        // A call that was dropped before this has lost its audio, and the beginning of a sample with it.
        self.carry = carry;
        Ok(self.segment())
    }

    /// [`push_audio`](Self::push_audio) of 16-bit samples.
    ///
    /// # Errors
    /// As there; [`SessionError::WrongAudio`] also when floats were announced.
    pub async fn push_samples(&mut self, samples: &[i16]) -> Result<u64, SessionError> {
        self.push_audio(self.samples(samples)?).await
    }

    /// [`push_audio`](Self::push_audio) of floats: samples, steps or windows.
    ///
    /// # Errors
    /// As there; [`SessionError::WrongAudio`] also when 16-bit samples were announced.
    pub async fn push_floats(&mut self, values: &[f32]) -> Result<u64, SessionError> {
        self.push_audio(self.floats(values)?).await
    }

    /// Ends the utterance, so that its last frames are made. Returns the id of its segment, `None` if none is
    /// open. If the audio ends inside a sample, the server warns (`audio_truncated`).
    ///
    /// # Errors
    /// [`SessionError::Closed`] when the session is over.
    pub async fn end_segment(&mut self) -> Result<Option<u64>, SessionError> {
        self.send_carry().await?;
        loop {
            let place = self.place().await?;
            let mut ledger = self.shared.ledger();
            if !place.is_of(&ledger) {
                continue;
            }
            let ended = ledger.end_segment();
            if let Some(segment_id) = ended {
                place.send(request(Message::EndSegment(EndSegment { segment_id })));
            }
            return Ok(ended);
        }
    }

    /// Interrupts: all audio and frames on their way are dropped.
    ///
    /// Returns at once. From then on the receiving half returns no interrupted frame. It returns
    /// [`Event::Cleared`](super::Event::Cleared) once the server has confirmed.
    ///
    /// # Errors
    /// [`SessionError::Closed`] when the session is over.
    pub async fn clear(&mut self) -> Result<(), SessionError> {
        loop {
            let place = self.place().await?;
            let mut ledger = self.shared.ledger();
            if !place.is_of(&ledger) {
                continue;
            }
            ledger.clear();
            place.send(request(Message::Clear(Clear { segment_id: None })));
            break;
        }
        self.carry.clear();
        Ok(())
    }

    /// Ends sending: the server makes the queued frames and ends the session. If the open segment ends inside a
    /// sample, the server warns (`audio_truncated`).
    pub fn finish(&mut self) {
        let carry = std::mem::take(&mut self.carry);
        let open_segment = self.shared.ledger().open_segment();
        if let Some(segment_id) = open_segment
            && !carry.is_empty()
            && let Some(last_word) = self.last_word.take()
        {
            // Nobody takes it where the connection is gone.
            let _ = last_word.send(self.chunk(segment_id, carry));
        }
        self.shared.finish();
    }

    /// Sends a piece of the audio, if there is room for some.
    fn send_some(&self, place: Place, rest: &mut Bytes, item_bytes: usize) -> bool {
        let mut ledger = self.shared.ledger();
        if !place.is_of(&ledger) {
            // Another connection has come meanwhile: there is a place in that.
            return true;
        }
        let Some(granted) = ledger.grant(rest.len() / item_bytes) else {
            return false;
        };
        let piece = rest.split_to(granted.n_items * item_bytes);
        ledger.say(granted.segment_id, &piece);
        place.send(self.chunk(granted.segment_id, piece));
        true
    }

    /// Fails if it would have to wait.
    pub(super) fn check_room(&self, n_bytes: usize) -> Result<(), SessionError> {
        let n_items = (self.carry.len() + n_bytes) / self.format.item_bytes();
        self.shared.ledger().check_room(n_items)
    }

    pub(super) fn samples(&self, samples: &[i16]) -> Result<Bytes, SessionError> {
        self.check_kind(Numbers::Samples16, "16-bit samples")?;
        Ok(samples.iter().flat_map(|s| s.to_le_bytes()).collect())
    }

    pub(super) fn floats(&self, values: &[f32]) -> Result<Bytes, SessionError> {
        self.check_kind(Numbers::Floats, "floats")?;
        Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn check_kind(&self, numbers: Numbers, found: &str) -> Result<(), SessionError> {
        if self.format.numbers() == numbers {
            return Ok(());
        }
        Err(SessionError::WrongAudio {
            expected: format!("of form {:?}", self.format),
            found: found.to_owned(),
        })
    }

    /// The segment that the audio pushed last belongs to.
    fn segment(&self) -> u64 {
        let ledger = self.shared.ledger();
        if self.carry.is_empty() {
            ledger.newest()
        } else {
            ledger.current()
        }
    }

    /// Sends an incomplete sample, so that the server warns and drops it.
    async fn send_carry(&mut self) -> Result<(), SessionError> {
        let open_segment = self.shared.ledger().open_segment();
        // Without a segment there is nothing that it could end.
        if let Some(segment_id) = open_segment
            && !self.carry.is_empty()
        {
            let place = self.place().await?;
            place.send(self.chunk(segment_id, self.carry.clone()));
        }
        self.carry.clear();
        Ok(())
    }

    fn check_items(&self, audio: &Bytes) -> Result<(), SessionError> {
        let item_bytes = self.format.item_bytes();
        if self.format.is_pcm() || audio.len().is_multiple_of(item_bytes) {
            return Ok(());
        }
        Err(SessionError::WrongAudio {
            expected: format!("in items of {item_bytes} bytes"),
            found: format!("{} bytes", audio.len()),
        })
    }

    fn chunk(&self, segment_id: u64, data: Bytes) -> StreamCompositeRequest {
        audio_request(self.format, segment_id, data)
    }

    /// A place in the queue to the connection. Audio that is booked after it is certain to be sent, over this connection
    /// or the next.
    async fn place(&self) -> Result<Place, SessionError> {
        loop {
            if self.shared.is_finished() || self.shared.ledger().is_over() {
                return Err(SessionError::Closed);
            }
            let connection = self.shared.ledger().connection();
            if let Some(sender) = self.shared.sender() {
                if let Ok(permit) = sender.reserve_owned().await {
                    if self.shared.ledger().is_over() {
                        return Err(SessionError::Closed);
                    }
                    return Ok(Place { permit, connection });
                }
                if !self.can_resume {
                    return Err(SessionError::Closed);
                }
            }
            // The receiving half is opening another one, or will learn that it has to.
            self.shared.room_announced().await;
        }
    }
}

/// A place in the queue to one connection.
struct Place {
    permit: mpsc::OwnedPermit<StreamCompositeRequest>,
    connection: u64,
}

impl Place {
    /// Whether that is the present one. What is sent over another one is lost.
    fn is_of(&self, ledger: &Ledger) -> bool {
        self.connection == ledger.connection()
    }

    fn send(self, message: StreamCompositeRequest) {
        self.permit.send(message);
    }
}

impl Drop for SessionSender {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A piece of a segment.
pub(super) fn audio_request(
    format: AudioFormat,
    segment_id: u64,
    data: Bytes,
) -> StreamCompositeRequest {
    let audio = match format {
        AudioFormat::Steps { .. } => audio_chunk::Audio::Steps(data),
        AudioFormat::Windows { .. } => audio_chunk::Audio::Windows(data),
        _ => audio_chunk::Audio::Pcm(data),
    };
    request(Message::Audio(AudioChunk {
        segment_id,
        audio: Some(audio),
    }))
}

pub(super) fn request(message: Message) -> StreamCompositeRequest {
    StreamCompositeRequest {
        message: Some(message),
    }
}

/// Joins the parts; copies only if there is something to join.
fn joined(carry: Bytes, audio: Bytes) -> Bytes {
    if carry.is_empty() {
        return audio;
    }
    [carry, audio].concat().into()
}
