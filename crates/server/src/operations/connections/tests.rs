use std::{path::Path, time::Duration};

use axum::routing::get;
use lipsync_serving::{admission::Admission, peer::Peer, phase::Phase};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::TcpListener,
    sync::mpsc,
    time::Instant,
};

use super::*;
use crate::{Config, transport::places};

/// The client's end of a connection to a server with one page of `n_bytes`. Time is virtual: it
/// jumps to the next timer when nobody can do anything.
fn connect(n_bytes: usize) -> (DuplexStream, watch::Sender<()>, tokio::task::JoinHandle<()>) {
    let (ours, theirs) = duplex(1024);
    let (close, closing) = watch::channel(());
    let router = Router::new().route("/", get(move || async move { "x".repeat(n_bytes) }));
    let place = places(1, 100).take(Peer::UNKNOWN, 1).unwrap();
    let seat = Seat::new(place, ([127, 0, 0, 1], 1).into());
    let inflow = Inflow::new(uploads(), Peer::UNKNOWN);
    let task = tokio::spawn(converse(
        theirs,
        router,
        seat,
        (inflow, REUSE_LIMIT),
        closing,
    ));
    (ours, close, task)
}

fn uploads() -> Uploads {
    let config = Config::parse("", Path::new("c"), []).unwrap();
    let (_phase, seen) = watch::channel(Phase::Serving);
    let admission = Admission::new(config.admission(), seen);
    admission.uploads().clone()
}

async fn read_all(mut socket: DuplexStream) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_or_half_a_word_is_cut() {
    for said in ["", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let (mut socket, _close, task) = connect(1);
        let begun = Instant::now();
        socket.write_all(said.as_bytes()).await.unwrap();
        task.await.unwrap();
        assert!(begun.elapsed() < HEAD_LIMIT + Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_refused() {
    let (mut socket, _close, task) = connect(1);
    socket.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let mut n_sent = 0;
    while socket.write_all(&[b'y'; 512]).await.is_ok() {
        n_sent += 512;
        assert!(n_sent < 2 * MAX_BUFFER_BYTES + 4096, "it is not bounded");
    }
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_is_cut() {
    let (mut socket, _close, task) = connect(1 << 20);
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let begun = Instant::now();
    task.await.unwrap();
    assert!(begun.elapsed() <= REUSE_LIMIT + ANSWER_LIMIT + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_closing_port_lets_an_answer_end() {
    let (mut socket, close, task) = connect(100_000);
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut first = [0; 12];
    socket.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(close);
    assert!(read_all(socket).await.len() > 100_000);
    task.await.unwrap();
}

#[tokio::test]
async fn one_too_many_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closing) = watch::channel(());
    // A request that is never answered: its connection is busy.
    let (begun, mut begins) = mpsc::channel(1);
    let waiting = get(async move || {
        begun.send(()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let router = Router::new().route("/", waiting);
    let door = Door {
        listener,
        tls: None,
        places: places(1, 100),
        traffic: Arc::default(),
    };
    let serving = tokio::spawn(serve(door, router, uploads(), REUSE_LIMIT, closing));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    let mut text = String::new();
    silent.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "", "it has given way");
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    busy.write_all(request).await.unwrap();
    begins.recv().await.unwrap();
    let mut refused = TcpStream::connect(address).await.unwrap();
    let mut text = String::new();
    refused.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 503") && text.ends_with("connections\n"));
    drop(close);
    serving.await.unwrap();
}
