//! The receiving half of a session.

use std::sync::Arc;

use tonic::Streaming;

use super::{SessionError, shared::Shared};
use crate::{
    call_error::CallError,
    v1::{
        Cleared, CompositedFrame, Opened, SegmentEnd, StreamCompositeResponse, Warning,
        stream_composite_response::Message,
    },
};

/// An event from the server.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A picture. Frames come in order, one frame duration apart.
    Frame(CompositedFrame),
    /// All frames of a segment have arrived.
    SegmentEnd(SegmentEnd),
    /// An interruption took effect: flush your buffers.
    Cleared(Cleared),
    /// A warning, not an error.
    Warning(Warning),
}

/// The receiving half of a session. Dropping it cancels the session.
#[derive(Debug)]
pub struct SessionReceiver {
    shared: Arc<Shared>,
    /// `None` once the stream has ended.
    answers: Option<Streaming<StreamCompositeResponse>>,
    opened: Opened,
    request_id: Option<String>,
}

impl SessionReceiver {
    pub(super) fn new(
        shared: Arc<Shared>,
        answers: Streaming<StreamCompositeResponse>,
        opened: Opened,
        request_id: Option<String>,
    ) -> Self {
        Self {
            shared,
            answers: Some(answers),
            opened,
            request_id,
        }
    }

    /// One that is given its messages by hand.
    #[cfg(test)]
    pub(super) fn unconnected(shared: Arc<Shared>, opened: Opened) -> Self {
        Self {
            shared,
            answers: None,
            opened,
            request_id: None,
        }
    }

    /// The server's parameters of the session: frame rate, size, look-ahead, limits.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Id of this session in the server's log.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Waits for the next event; `None` if the session has ended well.
    ///
    /// A slow reader slows the server down: it makes at most `max_unsent_ms` of frames ahead. A call may be
    /// dropped at any time without loss.
    ///
    /// # Errors
    /// [`SessionError::Server`] if the server ends the session, [`SessionError::Protocol`] if it breaks
    /// the contract. After an error comes only `None`.
    pub async fn next(&mut self) -> Result<Option<Event>, SessionError> {
        while let Some(answers) = &mut self.answers {
            let received = answers.message().await;
            let event = match received {
                Ok(Some(answer)) => self.event(answer.message),
                Ok(None) => {
                    self.end();
                    Ok(None)
                }
                Err(status) => {
                    let error = CallError::from(status).of_request(self.request_id());
                    Err(SessionError::Server(error))
                }
            };
            match event {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Books a message; `None` if it was interrupted, or if this version does not know it.
    pub(super) fn event(&self, message: Option<Message>) -> Result<Option<Event>, SessionError> {
        let mut ledger = self.shared.ledger();
        let event = match message {
            Some(Message::Frame(frame)) => {
                ledger.book_frame(&frame)?.then_some(Event::Frame(frame))
            }
            Some(Message::SegmentEnd(end)) => ledger
                .book_end(end.segment_id)
                .then_some(Event::SegmentEnd(end)),
            Some(Message::Cleared(cleared)) => {
                ledger.confirm_clear();
                Some(Event::Cleared(cleared))
            }
            Some(Message::Warning(warning)) => Some(Event::Warning(warning)),
            Some(Message::Opened(_)) => {
                return Err(SessionError::Protocol {
                    what: "the session was opened twice",
                });
            }
            None => None,
        };
        drop(ledger);
        self.shared.announce_room();
        Ok(event)
    }

    fn end(&mut self) {
        self.answers = None;
        self.shared.end();
    }
}

impl Drop for SessionReceiver {
    fn drop(&mut self) {
        self.shared.end();
    }
}
