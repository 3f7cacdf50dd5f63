//! The gRPC port: TCP connections, and HTTP/2 on each of them.
//!
//! hyper under tonic's router, and not tonic's own server: that gives no hold on the task of a stream,
//! and only who ends that task can take the stream back from a client that never reads ([`unread`]).

mod preface;
mod unread;

use std::{
    convert::Infallible, future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::sleep,
};
use tonic::body::Body;
use tower::Service;

use unread::{Answer, Streams};

/// Calls in flight on one connection; the stack's own default is 200.
const MAX_STREAMS: u32 = 1024;
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
/// Pause after a failed accept: usually the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// Serves until the port closes (see [`closed`]), then until the calls under way are answered.
///
/// A stream whose client does not take what waits for it is reset after `unread_limit`.
pub(crate) async fn serve(
    listener: TcpListener,
    calls: impl Calls,
    unread_limit: Duration,
    mut closing: watch::Receiver<()>,
) {
    let protocol = protocol(unread_limit);
    let places = Arc::new(Semaphore::new(max_connections()));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = closed(&mut closing) => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::warn!(%peer, "too many connections: one more is closed");
                    continue;
                };
                // Only slower without.
                let _set = socket.set_nodelay(true);
                let (protocol, closing) = (protocol.clone(), closing.clone());
                let calls = calls.clone();
                connections.spawn(async move {
                    converse(protocol, (socket, peer), calls, closing).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// How many connections the files that the process may open are enough for.
fn max_connections() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let share = files.map_or(MAX_CONNECTIONS, |files| files / FILES_SHARE);
    usize::try_from(share.clamp(1, MAX_CONNECTIONS)).unwrap_or(1)
}

/// Returns when a port closes: its sender is dropped.
pub(crate) async fn closed(closing: &mut watch::Receiver<()>) {
    // Nothing is ever sent: it ends when the sender is gone.
    while closing.changed().await.is_ok() {}
}

fn protocol(unread_limit: Duration) -> http2::Builder<Streams> {
    let mut protocol = http2::Builder::new(Streams::new(unread_limit));
    protocol
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    protocol
}

/// One connection until its end.
async fn converse(
    protocol: http2::Builder<Streams>,
    (socket, peer): (
        impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        SocketAddr,
    ),
    calls: impl Calls,
    mut closing: watch::Receiver<()>,
) {
    let begun = tokio::select! {
        begun = preface::read(socket, peer) => begun,
        () = closed(&mut closing) => return,
    };
    let Some(socket) = begun else {
        return tracing::debug!(%peer, "a connection did not begin");
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let mut calls = calls.clone();
        async move {
            poll_fn(|context| calls.poll_ready(context)).await?;
            let answer = calls.call(request.map(Body::new)).await?;
            Ok::<_, Infallible>(answer.map(Answer::new))
        }
    });
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(socket), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
