//! A connection in memory and in virtual time.

use std::{convert::Infallible, future::Ready};

use futures_util::stream;
use h2::client::SendRequest;
use http::{Request, Response};
use lipsync_serving::peer::Peer;
use tokio::{
    io::duplex,
    sync::{Semaphore, watch},
    time::sleep,
};

use super::*;
use crate::transport::{Grpc, Protocol as _, Seat, places, protocol};

const LIMIT: Duration = Duration::from_secs(20);
/// The client's, of each stream.
const WINDOW: u32 = 65_535;
/// More than the client's window.
const PIECE_BYTES: usize = 100_000;

/// Answers `/silent` with nothing for an hour, `/large` with large pieces without end, and everything else
/// with small ones.
#[derive(Clone)]
struct Pieces {
    /// Held by every body.
    bodies: Arc<()>,
}

impl tower::Service<Request<Body>> for Pieces {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_silent = request.uri().path() == "/silent";
        let is_large = request.uri().path() == "/large";
        let n_bytes = if is_large { 8 << 20 } else { PIECE_BYTES };
        let pieces = stream::unfold(Arc::clone(&self.bodies), move |held| async move {
            if is_silent {
                sleep(Duration::from_secs(3600)).await;
            }
            let piece = Bytes::from(vec![0; n_bytes]);
            Some((Ok::<_, Status>(piece), held))
        });
        let body = Body::new(axum::body::Body::from_stream(pieces));
        std::future::ready(Ok(Response::new(body)))
    }
}

struct Client {
    send: SendRequest<Bytes>,
    bodies: Arc<()>,
    _close: watch::Sender<()>,
}

impl Client {
    async fn connect(window: u32) -> Self {
        let (ours, theirs) = duplex(1 << 16);
        let bodies = Arc::new(());
        let (close, closing) = watch::channel(());
        let pieces = Pieces {
            bodies: Arc::clone(&bodies),
        };
        let place = places(1, 100).take(Peer::UNKNOWN, 1).unwrap();
        let seat = Seat::new(place, ([127, 0, 0, 1], 1).into());
        let grpc = Grpc {
            protocol: protocol(Arc::new(|| LIMIT)),
            calls: pieces,
            lingering: Arc::new(Semaphore::new(1)),
            age: crate::config::MaxAge::default(),
            traffic: Arc::default(),
        };
        tokio::spawn(grpc.converse(theirs, seat, closing));
        // What one stream does not read must not be the window of all.
        let client = h2::client::Builder::new()
            .initial_connection_window_size(1 << 20)
            .initial_window_size(window)
            .handshake(ours);
        let (send, connection) = client.await.unwrap();
        tokio::spawn(async move { connection.await.unwrap() });
        Self {
            send,
            bodies,
            _close: close,
        }
    }

    async fn get(&mut self, path: &str) -> h2::RecvStream {
        let request = Request::get(format!("http://a{path}")).body(()).unwrap();
        let (response, _) = self.send.send_request(request, true).unwrap();
        response.await.unwrap().into_body()
    }
}

/// Takes a small piece's worth of bytes.
async fn read(body: &mut h2::RecvStream) {
    read_bytes(body, PIECE_BYTES).await;
}

async fn read_bytes(body: &mut h2::RecvStream, n_wanted: usize) {
    let mut n_bytes = 0;
    while n_bytes < n_wanted {
        let data = body.data().await.unwrap().unwrap();
        n_bytes += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_is_reset_and_the_others_go_on() {
    let mut client = Client::connect(WINDOW).await;
    let n_before = Arc::strong_count(&client.bodies);
    let mut unread = client.get("/unread").await;
    let began = Instant::now();
    for _ in 0..4 {
        let mut other = client.get("/other").await;
        read(&mut other).await;
    }
    // Its window's worth came, and then the end.
    let reset = loop {
        match unread.data().await.unwrap() {
            Ok(_not_released) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(reset.reason(), Some(h2::Reason::CANCEL));
    assert!(began.elapsed() >= LIMIT && began.elapsed() < LIMIT + Duration::from_secs(1));
    let mut later = client.get("/later").await;
    read(&mut later).await;
    drop(later);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        Arc::strong_count(&client.bodies),
        n_before,
        "nothing is left"
    );
}

#[tokio::test(start_paused = true)]
async fn who_reads_now_and_then_or_waits_for_the_server_is_left_alone() {
    let mut client = Client::connect(WINDOW).await;
    let mut silent = client.get("/silent").await;
    let mut slow = client.get("/slow").await;
    for _ in 0..10 {
        sleep(LIMIT - Duration::from_secs(1)).await;
        read(&mut slow).await;
    }
    read(&mut silent).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_has_a_window_is_reset() {
    let mut client = Client::connect(0).await;
    let n_before = Arc::strong_count(&client.bodies);
    let began = Instant::now();
    let mut unread = client.get("/unread").await;
    let end = unread.data().await.unwrap().unwrap_err();
    assert_eq!(end.reason(), Some(h2::Reason::CANCEL));
    assert!(began.elapsed() >= LIMIT && began.elapsed() < LIMIT + Duration::from_secs(1));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&client.bodies), n_before);
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_large_message_slowly_is_reading() {
    let mut client = Client::connect(WINDOW).await;
    let mut large = client.get("/large").await;
    for _ in 0..8 {
        sleep(LIMIT - Duration::from_secs(1)).await;
        read_bytes(&mut large, super::PIECE_BYTES).await;
    }
}
