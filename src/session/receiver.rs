//! The half of a session that sees.

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

/// Something that the server sent.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A picture. Frames come in order, one frame duration apart.
    Frame(CompositedFrame),
    /// All frames of a segment have come.
    SegmentEnd(SegmentEnd),
    /// An interruption took effect: flush what you have buffered.
    Cleared(Cleared),
    /// Something to know, not an error.
    Warning(Warning),
}

/// The half of a session that sees. Dropping it cancels the session.
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

    /// What the server said when it opened the session: frame rate, size, look-ahead, limits.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// What the server's log calls this session.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Waits for what the server sends next; `None` when the session has ended well.
    ///
    /// Taking events slowly slows the server down: it makes `max_unsent_ms` of frames ahead and no
    /// more. A call may be dropped at any time; nothing is lost.
    ///
    /// # Errors
    /// [`SessionError::Server`] when the server ends the session, [`SessionError::Protocol`] when it
    /// breaks the contract. After an error there is nothing more: `None`.
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

    /// Books a message; `None` for what was interrupted, and for what this version does not know.
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
