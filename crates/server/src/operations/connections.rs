//! TCP connections of the operations port, each bounded in what it can hold and for how long.

use std::{io::Write as _, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use lipsync_serving::admission::Uploads;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tower::Service as _;

use super::{inflow::Inflow, pace::Pace, preface};
use crate::{
    first_bytes::Socket,
    telemetry::Traffic,
    transport::{Door, Protocol, Seat, closed, tapped::Tapped},
};

/// For the first bytes to arrive, and again for the head of a request, counted from then or from the request before.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// The age of connections at most: then one closes as soon as its current answer is written.
pub(super) const REUSE_LIMIT: Duration = Duration::from_secs(120);
/// For that answer to be read by the client.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Bytes read ahead on a connection; a longer head of a request is refused.
const MAX_BUFFER_BYTES: usize = 16 << 10;
/// What answers that are being written may take when the port closes.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);
/// To whoever comes when every place is taken.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 21\r\n\r\n\
    too many connections\n";

/// What all connections share.
#[derive(Clone)]
struct Http {
    router: Router,
    uploads: Uploads,
    /// The age of connections, at most [`REUSE_LIMIT`].
    reuse_limit: Duration,
    traffic: Arc<Traffic>,
}

/// Serves until the port closes.
pub(super) async fn serve(
    door: Door,
    router: Router,
    uploads: Uploads,
    reuse_limit: Duration,
    closing: watch::Receiver<()>,
) {
    let http = Http {
        router,
        uploads,
        reuse_limit,
        traffic: Arc::clone(&door.traffic),
    };
    let mut connections = door.accept(http, closing).await;
    let rest = async { while connections.join_next().await.is_some() {} };
    // What is left after this is aborted with the set.
    let _ = timeout(CLOSE_LIMIT, rest).await;
}

impl Protocol for Http {
    /// The bytes are counted as they are when nothing encrypts them.
    async fn converse(self, socket: impl Socket, seat: Seat, closing: watch::Receiver<()>) {
        let inflow = Inflow::new(self.uploads, seat.peer);
        let socket = Tapped {
            socket,
            tap: inflow.clone(),
            traffic: self.traffic,
        };
        let through = (inflow, self.reuse_limit);
        converse(socket, self.router, seat, through, closing).await;
    }

    /// Sends the reason if the socket takes it at once; never waits.
    fn refuse(&self, socket: TcpStream) {
        let said = socket
            .into_std()
            .and_then(|mut socket| socket.write_all(FULL));
        if let Err(error) = said {
            tracing::debug!(%error, "a connection was refused without a word");
        }
    }
}

/// One connection until its end.
async fn converse(
    socket: impl Socket,
    router: Router,
    seat: Seat,
    (inflow, reuse_limit): (Inflow, Duration),
    mut closing: watch::Receiver<()>,
) {
    let place = Arc::clone(&seat.place);
    let address = seat.address;
    let reading = preface::read(socket, address, HEAD_LIMIT);
    let Some(begun) = seat.unless_over(closing.clone(), reading).await else {
        return;
    };
    let Some(socket) = begun else {
        return tracing::debug!(%address, "a connection did not begin");
    };
    let pace = Arc::<Pace>::default();
    let service = service_fn(move |mut request: Request<Incoming>| {
        inflow.whole();
        request.extensions_mut().insert(seat.clone());
        request.extensions_mut().insert(inflow.clone());
        let (mut router, pace, activity) =
            (router.clone(), Arc::clone(&pace), seat.activity.clone());
        async move {
            pace.wait().await;
            // Until the answer is made. A client that does not read it gives way to others.
            let _busy = activity.begin();
            let answer = router.call(request.map(Body::new)).await;
            if let Ok(answer) = &answer {
                pace.answered(answer);
            }
            answer
        }
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
        () = place.withdrawn() => return,
        () = sleep(reuse_limit) => None,
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

#[cfg(test)]
mod tests;
