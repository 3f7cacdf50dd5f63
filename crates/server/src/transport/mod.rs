//! The gRPC port: TCP connections, and HTTP/2 on each of them.
//!
//! hyper under tonic's router, and not tonic's own server: that gives no hold on the task of a stream,
//! and only the end of that task frees the stream of a client that never reads ([`unread`]).

mod accept;
mod age;
mod flood;
mod preface;
mod seat;
pub(crate) mod tapped;
mod unread;

use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tonic::body::Body;
use tower::Service;

pub(crate) use accept::{Door, Protocol};
use flood::Frames;
pub(crate) use seat::{Seat, closed, max_files, places};
use tapped::Tapped;
pub(crate) use unread::UnreadLimit;
use unread::{Answer, Streams};

use crate::{config::MaxAge, first_bytes::Socket, telemetry::Traffic};

/// Calls in flight on one connection. A client with more waits, or opens another connection.
const MAX_STREAMS: u32 = 100;
/// Bytes of the headers of a request; a longer one is refused. They are small, but for ids and keys.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// An idle connection that gives way to another closes within this time.
const LINGER: Duration = Duration::from_millis(250);
/// So many may do that at a time; others are cut.
const MAX_LINGERING: usize = 64;
/// What a client may send ahead of a stream's reader, bytes. A session's reader takes everything at once,
/// and what a unary call sends ahead of its turn waits here: windows of features take 0.8 MB/s, so this is enough
/// for a round trip of a second.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection: what one connection can make the server hold. At a round trip
/// of 100 ms it lets 40 MB/s in, a thousand live voices.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A peer that vanished without a word is noticed after this and [`KEEPALIVE_TIMEOUT`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// See [`KEEPALIVE_INTERVAL`].
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most connections at a time, whatever the system allows.
const MAX_CONNECTIONS: u64 = 4096;
/// Of the files that the process may open, connections take this part at most: models, packs and the
/// operations port need some, too.
const FILES_SHARE: u64 = 2;

/// What serves requests; there is one for all connections, and each call gets a clone.
pub(crate) trait Calls:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> Calls for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// Serves until the port closes (see [`closed`]), then until the calls under way are answered. A stream whose client
/// does not take what waits for it is reset after `unread`, and a connection gets as old as `age` says.
pub(crate) async fn serve(
    door: Door,
    calls: impl Calls,
    unread: UnreadLimit,
    age: MaxAge,
    closing: watch::Receiver<()>,
) {
    let grpc = Grpc {
        protocol: protocol(unread),
        calls,
        lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
        age,
        traffic: Arc::clone(&door.traffic),
    };
    let mut connections = door.accept(grpc, closing).await;
    while connections.join_next().await.is_some() {}
}

/// How many connections the files that the process may open are enough for.
pub(crate) fn max_connections() -> usize {
    let share = max_files() / FILES_SHARE;
    usize::try_from(share.clamp(1, MAX_CONNECTIONS)).unwrap_or(1)
}

fn protocol(unread_limit: UnreadLimit) -> http2::Builder<Streams> {
    let mut protocol = http2::Builder::new(Streams::new(unread_limit));
    protocol
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    protocol
}

/// What all connections of the gRPC port share.
#[derive(Clone)]
struct Grpc<C> {
    protocol: http2::Builder<Streams>,
    calls: C,
    lingering: Arc<Semaphore>,
    age: MaxAge,
    traffic: Arc<Traffic>,
}

/// Why a connection is closed.
enum End {
    Closing,
    Withdrawn,
    Aged,
}

impl<C: Calls> Protocol for Grpc<C> {
    async fn converse(self, socket: impl Socket, seat: Seat, mut closing: watch::Receiver<()>) {
        let Self {
            protocol,
            calls,
            lingering,
            age,
            traffic,
        } = self;
        let reading = preface::read(socket, seat.address);
        let Some(begun) = seat.unless_over(closing.clone(), reading).await else {
            return;
        };
        let Some(socket) = begun else {
            return tracing::debug!(address = %seat.address, "a connection did not begin");
        };
        let place = Arc::clone(&seat.place);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(seat.peer);
            request.extensions_mut().insert(seat.activity.clone());
            if let Some(client) = &seat.client {
                request.extensions_mut().insert(client.clone());
            }
            let mut calls = calls.clone();
            async move {
                poll_fn(|context| calls.poll_ready(context)).await?;
                let answer = calls.call(request.map(Body::new)).await?;
                Ok::<_, Infallible>(Answer::of(answer))
            }
        });
        let socket = TokioIo::new(Tapped {
            socket,
            tap: Frames::default(),
            traffic,
        });
        let mut connection = pin!(protocol.serve_connection(socket, service));
        let end = tokio::select! {
            ended = connection.as_mut() => return tell(ended),
            () = closed(&mut closing) => End::Closing,
            () = place.withdrawn() => End::Withdrawn,
            () = age::over(age) => End::Aged,
        };
        let (limit, _lingers) = match end {
            End::Closing => (None, None),
            End::Aged => (age.grace, None),
            // A call that is on its way right now is answered, if not too many do this at once.
            End::Withdrawn => match lingering.try_acquire() {
                Ok(lingers) => (Some(LINGER), Some(lingers)),
                Err(_full) => return,
            },
        };
        connection.as_mut().graceful_shutdown();
        match limit {
            None => tell(connection.await),
            Some(limit) => {
                let ended = timeout(limit, connection).await;
                ended.map_or_else(|_| tracing::debug!("a connection was cut"), tell);
            }
        }
    }
}

fn tell(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
