//! TCP connections of the operations port, each bounded in what it can hold and for how long.

use std::{io::Write as _, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::Service as _;

use super::{closed, preface};

/// For the first bytes to arrive, and again for the head of a request, counted from then or from the request before.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// After this time a connection closes as soon as its current answer is written.
const REUSE_LIMIT: Duration = Duration::from_secs(120);
/// For that answer to be read by the client.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Bytes read ahead on a connection; a longer head of a request is refused.
const MAX_BUFFER_BYTES: usize = 16 << 10;
/// Pause after a failed accept: usually the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What answers that are being written may take when the port closes.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);
/// To whoever comes when every place is taken.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 21\r\n\r\n\
    too many connections\n";

/// A connection's place among [`serve`]'s `max_connections`; a session keeps it when it takes the
/// connection over.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// Serves until the port closes.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    mut closing: watch::Receiver<()>,
) {
    let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = closed(&mut closing) => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                // Only slower without.
                let _set = socket.set_nodelay(true);
                let router = router.clone();
                let (place, closing) = (Arc::new(place), closing.clone());
                connections.spawn(converse((socket, peer), router, place, closing));
            }
            Err(_full) => refuse(socket),
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    // What is left after this is aborted with the set.
    let _ = timeout(CLOSE_LIMIT, rest).await;
}

/// One connection until its end.
async fn converse(
    (socket, peer): (
        impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        SocketAddr,
    ),
    router: Router,
    place: Place,
    mut closing: watch::Receiver<()>,
) {
    let begun = tokio::select! {
        begun = preface::read(socket, peer, HEAD_LIMIT) => begun,
        () = closed(&mut closing) => return,
    };
    let Some(socket) = begun else {
        return tracing::debug!(%peer, "a connection did not begin");
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&place));
        router.clone().call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = sleep(REUSE_LIMIT) => None,
        () = closed(&mut closing) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match timeout(ANSWER_LIMIT, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => return tracing::debug!("a client does not read its answer"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Says why, if the socket takes it at once; nobody waits here.
fn refuse(socket: TcpStream) {
    let said = socket
        .into_std()
        .and_then(|mut socket| socket.write_all(FULL));
    if let Err(error) = said {
        tracing::debug!(%error, "a connection was refused without a word");
    }
}

#[cfg(test)]
mod tests;
