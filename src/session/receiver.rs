//! The receiving half of a session.

use std::sync::Arc;

use tonic::Streaming;

use super::{
    SessionError,
    resume::{Resumer, send_again},
    shared::Shared,
};
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
    /// The connection was lost, and the session goes on over another behind the last frame that came: nothing is
    /// missing, and nothing comes twice. Only with [`resume_within`](super::SessionBuilder::resume_within). An
    /// interruption that the server had not confirmed is not confirmed any more.
    Resumed(Opened),
}

/// The receiving half of a session. Dropping it cancels the session.
#[derive(Debug)]
pub struct SessionReceiver {
    shared: Arc<Shared>,
    /// `None` once the stream has ended.
    answers: Option<Streaming<StreamCompositeResponse>>,
    opened: Opened,
    request_id: Option<String>,
    /// Where a lost session may go on.
    resumer: Option<Resumer>,
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
            resumer: None,
        }
    }

    /// One that may go on over another connection.
    pub(super) fn resuming(mut self, resumer: Option<Resumer>) -> Self {
        self.resumer = resumer;
        self
    }

    /// One that is given its messages by hand.
    #[cfg(test)]
    pub(super) fn unconnected(shared: Arc<Shared>, opened: Opened) -> Self {
        Self {
            shared,
            answers: None,
            opened,
            request_id: None,
            resumer: None,
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
        loop {
            if self.resumer.as_ref().is_some_and(Resumer::is_lost) {
                match self.resume().await {
                    Ok(Some(event)) => return Ok(Some(event)),
                    Ok(None) => continue,
                    Err(error) => {
                        self.end();
                        return Err(error);
                    }
                }
            }
            let Some(answers) = &mut self.answers else {
                return Ok(None);
            };
            let received = answers.message().await;
            let event = match received {
                Ok(Some(answer)) => self.event(answer.message),
                Ok(None) => {
                    self.end();
                    Ok(None)
                }
                Err(status) => {
                    let error = CallError::from(status).of_request(self.request_id());
                    if self.resumer.as_mut().is_some_and(|r| r.lose(&error)) {
                        self.shared.disconnect();
                        continue;
                    }
                    Err(SessionError::Server(error))
                }
            };
            match event {
                Ok(None) => {}
                Ok(Some(event)) => {
                    if let (Event::Frame(frame), Some(resumer)) = (&event, &mut self.resumer) {
                        resumer.shown(&frame.resume_token);
                    }
                    return Ok(Some(event));
                }
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        }
    }

    /// Goes on over another connection.
    async fn resume(&mut self) -> Result<Option<Event>, SessionError> {
        let Some(resumer) = &mut self.resumer else {
            return Ok(None);
        };
        let connection = resumer.connect().await?;
        let resumed = connection.opened.resumed.as_ref();
        let again = resumed.and_then(|resumed| self.shared.ledger().resume(resumed));
        let Some(again) = again else {
            return Err(SessionError::Protocol {
                what: "the session resumes where its audio is not known any more",
            });
        };
        let shared = Arc::clone(&self.shared);
        send_again(shared, connection.outgoing, resumer.format(), again);
        self.answers = Some(connection.answers);
        self.opened = connection.opened;
        self.request_id = connection.request_id;
        Ok(Some(Event::Resumed(self.opened.clone())))
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
