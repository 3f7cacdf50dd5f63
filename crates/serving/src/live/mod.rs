//! Live sessions as they run: tasks, a lock and waiting around the state machine of [`lipsync_session`].
//!
//! Four parts share a `Conversation`: the *reader* takes every message as it comes, so that an
//! interruption never queues behind audio; the *producer* turns the audio of one segment after the
//! other into frames; the *response stream* sends what is ready, when its time has come; the *watch*
//! ends what lasts too long. Reader, producer and watch are tasks that end with the response stream: a
//! client that vanishes takes everything with it. What a draining server waits for is a session's [`Due`](crate::due::Due).
//!
//! What they do is decided in [`lipsync_session`]. Here, `segment` makes slots of audio, and `blend` mixes faces
//! where speech and rest meet; `rest` makes the faces of silence. What comes in is an [`Incoming`], what leaves an [`Outgoing`]: how they travel is for
//! the edges to know.

mod blend;
mod conversation;
mod incoming;
mod open;
mod parts;
mod producer;
mod reader;
mod rest;
mod resume;
mod segment;
mod watch;

pub use incoming::{Audio, AudioForm, Broken, Incoming, Requests, SessionOrder};
pub use open::MAX_PACED_MS;
pub use parts::{Limits, NewIntake, Parts};
pub use reader::Opener;

use std::{sync::Arc, time::Instant};

use lipsync_session::Outgoing;
use tokio::{task::JoinSet, time::timeout_at};
use tokio_stream::Stream;

use crate::{coding::CodedFrame, error::ServeError};
use conversation::{Conversation, EndOnDrop};

/// Begins a session and gives what it tells its client. It takes its place when its first message is there.
/// Everything after this, errors included, travels in the stream: a client may wait for the response's headers
/// before it sends its first message.
pub fn begin<R: Requests + 'static>(
    parts: Parts,
    opener: Opener,
    requests: R,
) -> impl Stream<Item = Result<Outgoing<CodedFrame>, ServeError>> + Send + use<R> {
    let (deadline, phase) = (opener.caller.deadline, parts.admission.phase());
    let sessions = &parts.pipeline.book.sessions;
    let conversation = Arc::new(Conversation::new(sessions, Arc::clone(&opener.due)));
    let mut tasks = JoinSet::new();
    let reading = reader::run(parts, opener, requests, Arc::clone(&conversation));
    let reading = until(deadline, reading, Arc::clone(&conversation));
    tasks.spawn(reading);
    conversation.let_go(phase);
    let responses = Responses {
        conversation,
        _tasks: tasks,
    };
    futures_util::stream::unfold(Some(responses), |responses| async move {
        let responses = responses?;
        match responses.conversation.next_response().await? {
            Ok(message) => Some((Ok(message), Some(responses))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// What lives as long as the response stream.
struct Responses {
    conversation: Arc<Conversation>,
    /// Aborted on drop; the producer is a child of the reader.
    _tasks: JoinSet<()>,
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.conversation.release();
    }
}

/// Reads, at most until the client's deadline: the gate holds it only against the response's headers.
async fn until(
    deadline: Option<Instant>,
    reading: impl Future<Output = ()>,
    conversation: Arc<Conversation>,
) {
    // Should a task panic, nothing else would end the stream.
    let _guard = EndOnDrop(Arc::clone(&conversation));
    let Some(deadline) = deadline else {
        return reading.await;
    };
    if timeout_at(deadline.into(), reading).await.is_err() {
        conversation.end(Some(ServeError::DeadlineExceeded));
    }
}
