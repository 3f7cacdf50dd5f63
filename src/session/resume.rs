//! How a session goes on over another connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Code;

use super::{
    AudioFormat, SessionError,
    builder::{Connection, SessionBuilder},
    sender::{audio_request, request},
    shared::Shared,
    spoken::Again,
};
use crate::{
    call_error::CallError,
    v1::{EndSegment, StreamCompositeRequest, stream_composite_request::Message},
};

/// The pause before the second attempt; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A session that was resumed, and is lost again within this time without having shown anything, has ended.
const IN_VAIN: Duration = Duration::from_secs(5);

/// What it takes to open a lost session again.
#[derive(Debug)]
pub(super) struct Resumer {
    builder: SessionBuilder,
    /// The last one that came.
    token: Bytes,
    /// Since when the session runs again that has not shown anything.
    unproved_since: Option<Instant>,
    lost: Option<Lost>,
}

/// A session that is lost.
#[derive(Debug)]
struct Lost {
    error: CallError,
    since: Instant,
    pause: Duration,
}

impl Resumer {
    pub(super) fn new(builder: SessionBuilder, token: Bytes) -> Self {
        Self {
            builder,
            token,
            unproved_since: None,
            lost: None,
        }
    }

    /// How audio is sent.
    pub(super) fn format(&self) -> AudioFormat {
        self.builder.format
    }

    /// A frame came, with this token.
    pub(super) fn shown(&mut self, token: &Bytes) {
        self.unproved_since = None;
        if !token.is_empty() {
            self.token = token.clone();
        }
    }

    /// The session has ended so. Whether it may go on.
    pub(super) fn lose(&mut self, error: &CallError) -> bool {
        let is_cut = matches!(
            error.code,
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
        );
        let is_in_vain = self.unproved_since.is_some_and(|s| s.elapsed() < IN_VAIN);
        if !is_cut || is_in_vain || self.token.is_empty() {
            return false;
        }
        self.lost = Some(Lost {
            error: error.clone(),
            since: Instant::now(),
            pause: Duration::ZERO,
        });
        true
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Opens the session again, as often as there is time. May be dropped at any time and asked again.
    ///
    /// # Errors
    /// Why the session was lost, where no server goes on with it.
    pub(super) async fn connect(&mut self) -> Result<Connection, SessionError> {
        let within = self.builder.resume_within;
        loop {
            let Some(lost) = &mut self.lost else {
                return Err(SessionError::Closed);
            };
            let left = within.saturating_sub(lost.since.elapsed());
            if left <= lost.pause {
                return Err(self.give_up());
            }
            tokio::time::sleep(lost.pause).await;
            lost.pause = FIRST_PAUSE.max(2 * lost.pause);
            let opening = self.builder.connect(self.token.clone());
            match tokio::time::timeout(left, opening).await {
                Ok(Ok(connection)) if connection.opened.resumed.is_some() => {
                    self.lost = None;
                    self.unproved_since = Some(Instant::now());
                    self.token = connection.opened.resume_token.clone();
                    return Ok(connection);
                }
                // It would begin anew.
                Ok(Ok(_)) => return Err(self.give_up()),
                Ok(Err(SessionError::Server(error))) if is_final(&error) => {
                    return Err(self.give_up());
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    fn give_up(&mut self) -> SessionError {
        let lost = self.lost.take();
        lost.map_or(SessionError::Closed, |lost| {
            SessionError::Server(lost.error)
        })
    }
}

/// Whether it makes no sense to ask again.
fn is_final(error: &CallError) -> bool {
    matches!(
        error.code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}

/// Sends again what was sent and not shown, then lets new messages follow.
pub(super) fn send_again(
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<StreamCompositeRequest>,
    format: AudioFormat,
    again: Vec<Again>,
) {
    tokio::spawn(async move {
        for segment in again {
            let segment_id = segment.segment_id;
            let pieces = segment.pieces.into_iter();
            let audio = pieces.map(|piece| audio_request(format, segment_id, piece));
            let end = request(Message::EndSegment(EndSegment { segment_id }));
            for message in audio.chain(segment.is_ended.then_some(end)) {
                // The connection may be gone again: the receiving half learns that.
                if outgoing.send(message).await.is_err() {
                    return;
                }
            }
        }
        shared.connect(outgoing);
    });
}
