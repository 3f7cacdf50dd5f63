//! The half of a session that speaks.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{AudioFormat, SessionError, shared::Shared};
use crate::v1::{
    AudioChunk, Clear, EndSegment, StreamCompositeRequest, audio_chunk,
    stream_composite_request::Message,
};

/// The half of a session that speaks. Dropping it finishes the session well: what is queued is made,
/// then the stream ends.
#[derive(Debug)]
pub struct SessionSender {
    shared: Arc<Shared>,
    /// `None` after `finish`.
    outgoing: Option<mpsc::Sender<StreamCompositeRequest>>,
    format: AudioFormat,
}

impl SessionSender {
    pub(super) fn new(
        shared: Arc<Shared>,
        outgoing: mpsc::Sender<StreamCompositeRequest>,
        format: AudioFormat,
    ) -> Self {
        Self {
            shared,
            outgoing: Some(outgoing),
            format,
        }
    }

    /// Sends audio of the announced form, of any length, and gives the id of its segment. The first
    /// audio, and the first after `end_segment` or `clear`, begins a segment; they count from 1 on.
    ///
    /// Waits while the server holds as much audio as it may (`max_buffered_audio_s` of [`opened`]),
    /// until frames come back: so somebody must take events meanwhile. A call that is dropped while
    /// it waits has sent a part of its audio; `clear` or `end_segment` may follow.
    ///
    /// # Errors
    /// [`SessionError::WrongAudio`] for parts of items, [`SessionError::Closed`] when the session is
    /// over.
    ///
    /// [`opened`]: super::SessionReceiver::opened
    pub async fn push_audio(&mut self, audio: impl Into<Bytes>) -> Result<u64, SessionError> {
        let mut rest = self.whole_items(audio.into())?;
        let item_bytes = self.format.item_bytes();
        while !rest.is_empty() {
            let place = self.place().await?;
            let granted = self.shared.ledger().grant(rest.len() / item_bytes);
            let Some(granted) = granted else {
                drop(place);
                self.shared.room_announced().await;
                continue;
            };
            let piece = rest.split_to(granted.n_items * item_bytes);
            place.send(request(Message::Audio(AudioChunk {
                segment_id: granted.segment_id,
                audio: Some(self.wire_audio(piece)),
            })));
        }
        Ok(self.shared.ledger().newest())
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

    /// The utterance is over: its tail is made. Gives the id of its segment, `None` when there is
    /// none under way.
    ///
    /// # Errors
    /// [`SessionError::Closed`] when the session is over.
    pub async fn end_segment(&mut self) -> Result<Option<u64>, SessionError> {
        let place = self.place().await?;
        let ended = self.shared.ledger().end_segment();
        if let Some(segment_id) = ended {
            place.send(request(Message::EndSegment(EndSegment { segment_id })));
        }
        Ok(ended)
    }

    /// Interrupts: all audio and all frames that are under way are dropped.
    ///
    /// It returns at once. From then on the receiving half gives no frame of what was interrupted,
    /// and [`Event::Cleared`](super::Event::Cleared) when the server has confirmed.
    ///
    /// # Errors
    /// [`SessionError::Closed`] when the session is over.
    pub async fn clear(&mut self) -> Result<(), SessionError> {
        let place = self.place().await?;
        self.shared.ledger().clear();
        place.send(request(Message::Clear(Clear { segment_id: None })));
        Ok(())
    }

    /// Says that nothing more will be sent: the server makes what is queued and ends the stream.
    pub fn finish(&mut self) {
        self.outgoing = None;
    }

    /// Refuses what would have to wait.
    pub(super) fn check_room(&self, n_bytes: usize) -> Result<(), SessionError> {
        let n_items = n_bytes / self.format.item_bytes();
        self.shared.ledger().check_room(n_items)
    }

    pub(super) fn samples(&self, samples: &[i16]) -> Result<Bytes, SessionError> {
        self.check_kind(false, "16-bit samples")?;
        Ok(samples.iter().flat_map(|s| s.to_le_bytes()).collect())
    }

    pub(super) fn floats(&self, values: &[f32]) -> Result<Bytes, SessionError> {
        self.check_kind(true, "floats")?;
        Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn check_kind(&self, is_float: bool, found: &str) -> Result<(), SessionError> {
        if self.format.is_float() == is_float {
            return Ok(());
        }
        Err(SessionError::WrongAudio {
            expected: format!("of form {:?}", self.format),
            found: found.to_owned(),
        })
    }

    fn whole_items(&self, audio: Bytes) -> Result<Bytes, SessionError> {
        let item_bytes = self.format.item_bytes();
        if audio.len().is_multiple_of(item_bytes) {
            return Ok(audio);
        }
        Err(SessionError::WrongAudio {
            expected: format!("in items of {item_bytes} bytes"),
            found: format!("{} bytes", audio.len()),
        })
    }

    fn wire_audio(&self, data: Bytes) -> audio_chunk::Audio {
        match self.format {
            AudioFormat::PcmS16 { .. } | AudioFormat::PcmF32 { .. } => {
                audio_chunk::Audio::Pcm(data)
            }
            AudioFormat::Steps { .. } => audio_chunk::Audio::Steps(data),
            AudioFormat::Windows { .. } => audio_chunk::Audio::Windows(data),
        }
    }

    /// A place in front of the connection: what is booked after it is also sent.
    async fn place(&self) -> Result<mpsc::Permit<'_, StreamCompositeRequest>, SessionError> {
        let outgoing = self.outgoing.as_ref().ok_or(SessionError::Closed)?;
        let place = outgoing.reserve().await;
        if self.shared.ledger().is_over() {
            return Err(SessionError::Closed);
        }
        place.map_err(|_| SessionError::Closed)
    }
}

fn request(message: Message) -> StreamCompositeRequest {
    StreamCompositeRequest {
        message: Some(message),
    }
}
