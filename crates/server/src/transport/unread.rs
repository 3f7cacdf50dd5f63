//! Streams whose client takes nothing of what waits for it.
//!
//! A client's window keeps a stream's task waiting for as long as the connection lives, and with it all
//! that the answer holds. Its body is not asked for more meanwhile, so that it could not end the stream;
//! the task is ended instead, which resets the stream and leaves the others of the connection alone.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use lipsync_core::sync::lock;
use lipsync_serving::gate::Ticket;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tonic::{Status, body::Body};

tokio::task_local! {
    /// Of the stream whose task this is.
    static READER: Arc<Reader>;
}

/// Runs the tasks of streams.
#[derive(Clone)]
pub(super) struct Streams {
    unread_limit: UnreadLimit,
}

/// After how long a stream is reset whose client reads nothing. Each stream asks once, when it begins.
pub(crate) type UnreadLimit = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The state of a stream's client.
#[derive(Debug, Default)]
struct Reader {
    /// Since when data has been waiting for it.
    waiting: Mutex<Option<Instant>>,
    /// A unary answer's room, which may have to give way to others.
    room: OnceLock<Arc<Ticket>>,
    has_room: Notify,
}

/// The body of an answer, in pieces, so that a slow reader can be told from one that has stopped reading.
pub(super) struct Answer {
    body: Body,
    /// Of its last frame.
    rest: Bytes,
    reader: Option<Arc<Reader>>,
}

/// Who takes less than this in the time does not read.
const PIECE_BYTES: usize = 1 << 20;
/// The most time for a piece of a unary answer: a megabyte in it is 28 kB/s. What a session has for a slow client is
/// bounded by itself; unary answers all wait in one pool.
const UNARY_LIMIT: Duration = Duration::from_secs(37);

impl Streams {
    /// Tasks that end when their client has read nothing for this long.
    pub(super) fn new(unread_limit: UnreadLimit) -> Self {
        Self { unread_limit }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let reader = Arc::<Reader>::default();
        let (watched, limit) = (Arc::clone(&reader), (self.unread_limit)());
        tokio::spawn(READER.scope(reader, async move {
            tokio::select! {
                biased;
                () = stream => {}
                () = watched.gone(limit) => tracing::debug!("a client does not read: its stream is reset"),
            }
        }));
    }
}

impl Reader {
    fn set(&self, waiting: Option<Instant>) {
        *self.lock() = waiting;
    }

    /// Returns when something has waited for this long, or must wait no longer.
    async fn gone(&self, limit: Duration) {
        loop {
            let has_room = self.has_room.notified();
            let room = self.room.get();
            let limit = if room.is_some() {
                limit.min(UNARY_LIMIT)
            } else {
                limit
            };
            let waiting = *self.lock();
            let now = Instant::now();
            let over = waiting.unwrap_or(now) + limit;
            if over <= now {
                return;
            }
            let withdrawn = async {
                match room {
                    Some(room) => room.withdrawn().await,
                    None => has_room.await,
                }
            };
            tokio::select! {
                () = sleep_until(over) => {}
                () = withdrawn => {
                    if room.is_some() {
                        return;
                    }
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        lock(&self.waiting)
    }
}

impl Answer {
    /// The answer of the stream whose task this is.
    pub(super) fn of(response: Response<Body>) -> Response<Self> {
        let room = response.extensions().get::<Arc<Ticket>>().cloned();
        response.map(|body| Self::new(body, room))
    }

    fn new(body: Body, room: Option<Arc<Ticket>>) -> Self {
        let answer = Self {
            body,
            rest: Bytes::new(),
            reader: READER.try_with(Arc::clone).ok(),
        };
        if let (Some(reader), Some(room)) = (&answer.reader, room) {
            // It is the only answer of its stream.
            let _ = reader.room.set(room);
            reader.has_room.notify_one();
        }
        // A body is not asked before there is a window.
        answer.waits(Some(Instant::now()));
        answer
    }

    fn waits(&self, waiting: Option<Instant>) {
        if let Some(reader) = &self.reader {
            reader.set(waiting);
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // Being asked means that all before was taken.
        self.waits(None);
        let mut frame = None;
        if self.rest.is_empty() {
            frame = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?;
        }
        self.waits(Some(Instant::now()));
        match frame.map(Frame::into_data) {
            None if self.rest.is_empty() => return Poll::Ready(None),
            None => {}
            Some(Ok(data)) => self.rest = data,
            Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
        }
        let n_bytes = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(n_bytes);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests;
