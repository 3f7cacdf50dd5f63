//! `StreamComposite`: one live conversation.
//!
//! Four parts share a [`Conversation`]: the *reader* takes every message as it comes, so that an
//! interruption never queues behind audio; the *producer* turns the audio of one segment after the
//! other into frames; the *response stream* sends what is ready, when its time has come; the *watch*
//! ends what lasts too long. Reader, producer and watch are tasks that end with the response stream: a
//! client that vanishes takes everything with it.
//!
//! What they do is decided in [`session`], a state machine without a lock, a task or a clock of its
//! own: `intake` (chunks become whole samples), `inbox` (audio that came), `plan` (frames whose audio is there), `outbox` (frames made), `pace`
//! (when they leave), `lag` (whether they can). `segment` makes slots of audio, `fade` mixes faces where speech and rest meet.

mod conversation;
mod counters;
mod fade;
mod inbox;
mod intake;
mod lag;
mod late;
mod open;
mod outbox;
mod pace;
mod plan;
mod producer;
mod reader;
mod segment;
mod session;
mod watch;

pub use counters::SessionCounters;

use std::{sync::Arc, time::Instant};

use lipsync::v1;
use tokio::{task::JoinSet, time::timeout_at};
use tokio_stream::Stream;
use tonic::Status;

use crate::{
    core_state::Shared, error::ServeError, request_layer::Arrival, wire::headers::RequestHeaders,
};
use conversation::Conversation;
use reader::Caller;

/// What a client sends, from whatever transport: gRPC or a WebSocket. A `Status` in it is a message that
/// could not be read, or a broken connection.
pub(crate) trait Requests:
    Stream<Item = Result<v1::StreamCompositeRequest, Status>> + Send + Unpin
{
}

impl<T> Requests for T where
    T: Stream<Item = Result<v1::StreamCompositeRequest, Status>> + Send + Unpin
{
}

/// Begins a session and gives its response stream. It takes its place when its first message is there. Everything after this, errors included, travels
/// in the stream: a client may wait for the response's headers before it sends its first message.
pub(crate) fn begin<R: Requests + 'static>(
    shared: Arc<Shared>,
    headers: RequestHeaders,
    arrival: Arrival,
    requests: R,
) -> impl Stream<Item = Result<v1::StreamCompositeResponse, Status>> + Send + use<R> {
    let deadline = headers.caller.deadline;
    let counters = Arc::clone(&shared.sessions);
    let conversation = Arc::new(Conversation::new(counters));
    let mut tasks = JoinSet::new();
    let caller = Caller { headers, arrival };
    let reading = reader::run(shared, caller, requests, Arc::clone(&conversation));
    tasks.spawn(until(deadline, reading, Arc::clone(&conversation)));
    let responses = Responses {
        conversation,
        _tasks: tasks,
    };
    futures_util::stream::unfold(Some(responses), |responses| async move {
        let responses = responses?;
        match responses.conversation.next_response().await? {
            Ok(message) => {
                let response = v1::StreamCompositeResponse {
                    message: Some(message),
                };
                Some((Ok(response), Some(responses)))
            }
            Err(error) => Some((Err(error.into()), None)),
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

/// Ends a stream that has not been ended properly when its task does.
struct EndOnDrop(Arc<Conversation>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end_if_open();
    }
}
