//! The first bytes of a connection: which protocol its client speaks, and how one is turned away that speaks
//! another one than the port.
//!
//! Whoever takes the wrong port gets an answer in their own protocol where it has one, and the operator a line that
//! says what came and what to do.

use std::{
    io::{self, Cursor},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, join, split},
    time::timeout,
};

/// What a client of HTTP/2 says first.
const HTTP2: &[u8; MAX_HEARD] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Enough to tell all protocols apart.
const MAX_HEARD: usize = 24;
/// How load balancers announce the address of a client, in text and in bytes.
const PROXY_HEADERS: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];
/// A record of TLS that holds a handshake, and the major version of them all.
const TLS: [u8; 2] = [0x16, 3];
/// A fatal alert of TLS: the handshake failed.
pub(crate) const TLS_ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 40];

/// For the answer to whoever is turned away.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of theirs that are thrown away meanwhile.
const MAX_REST_BYTES: u64 = 64 << 10;

/// What a connection is read from and written to, encrypted or not.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for S {}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http2,
    Http1,
    Tls,
    ProxyHeader,
    Unknown,
}

/// A socket of which the first bytes were read.
pub(crate) struct Begun<S> {
    socket: S,
    heard: Vec<u8>,
    pub(crate) spoken: Spoken,
}

impl<S: Socket> Begun<S> {
    /// Reads until it is clear what is spoken; `None` where the client has gone or needs longer than `limit`.
    pub(crate) async fn hear(mut socket: S, limit: Duration) -> Option<Self> {
        let mut heard = Vec::with_capacity(MAX_HEARD);
        let listening = async {
            loop {
                if let Some(spoken) = recognise(&heard) {
                    return Ok(spoken);
                }
                let room = MAX_HEARD - heard.len();
                let mut piece = (&mut socket).take(room as u64);
                if piece.read_buf(&mut heard).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        match timeout(limit, listening).await {
            Ok(Ok(spoken)) => Some(Self {
                socket,
                heard,
                spoken,
            }),
            Ok(Err(io::Error { .. })) | Err(_) => None,
        }
    }

    /// What was heard, for the log.
    pub(crate) fn words(&self) -> String {
        String::from_utf8_lossy(&self.heard).into_owned()
    }

    /// The socket as if nobody had read from it.
    pub(crate) fn socket(self) -> impl Socket {
        let (rest, write) = split(self.socket);
        join(Cursor::new(self.heard).chain(rest), write)
    }

    /// Sends a last answer and ends. What the client is still sending is taken for a moment: with that unread,
    /// the system would take the answer back.
    pub(crate) async fn turn_away(self, answer: &[u8]) {
        let mut socket = self.socket;
        let farewell = async {
            socket.write_all(answer).await?;
            socket.shutdown().await?;
            let mut rest = socket.take(MAX_REST_BYTES);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
        };
        // Nothing depends on it.
        let _ = timeout(FAREWELL_LIMIT, farewell).await;
    }
}

/// What begins so, once that is clear.
fn recognise(heard: &[u8]) -> Option<Spoken> {
    if HTTP2.starts_with(heard) {
        return (heard.len() == HTTP2.len()).then_some(Spoken::Http2);
    }
    for header in PROXY_HEADERS {
        if heard.starts_with(header) {
            return Some(Spoken::ProxyHeader);
        }
        if header.starts_with(heard) {
            return None;
        }
    }
    if heard.starts_with(&TLS) {
        return Some(Spoken::Tls);
    }
    if TLS.starts_with(heard) {
        return None;
    }
    // A method is a word in capitals and a space.
    let end = heard.iter().position(|byte| !byte.is_ascii_uppercase());
    match end {
        Some(end) if end > 0 && heard[end] == b' ' => Some(Spoken::Http1),
        None if heard.len() < MAX_HEARD => None,
        _ => Some(Spoken::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn protocols_are_told_apart_however_the_bytes_come() {
        let cases: [(&[u8], Spoken); 10] = [
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Spoken::Http2),
            (b"GET / HTTP/1.1\r\n\r\n", Spoken::Http1),
            (b"PROPFIND /", Spoken::Http1),
            (b"PRI /a HTTP/1.1", Spoken::Http1),
            (b"\x16\x03\x01\x02\0\x01\0", Spoken::Tls),
            (b"PROXY TCP4 1.2.3.4", Spoken::ProxyHeader),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", Spoken::ProxyHeader),
            (b"SSH-2.0-OpenSSH", Spoken::Unknown),
            (b"\x16\x02", Spoken::Unknown),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Spoken::Unknown),
        ];
        for (said, spoken) in cases {
            for n_together in [1, said.len()] {
                let (mut client, server) = tokio::io::duplex(64);
                let hearing = tokio::spawn(Begun::hear(server, LIMIT));
                for piece in said.chunks(n_together) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let begun = hearing.await.unwrap().unwrap();
                assert_eq!(begun.spoken, spoken, "{said:?}");
                // Nothing is lost.
                let mut heard = vec![0; said.len()];
                let mut socket = begun.socket();
                socket.read_exact(&mut heard).await.unwrap();
                assert_eq!(heard, said);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_half_of_it_is_not_waited_for() {
        for said in [&b""[..], b"PRI * HTTP", b"GET", b"\x16", b"\r\n\r\n"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(said).await.unwrap();
            let begun = Instant::now();
            assert!(Begun::hear(server, LIMIT).await.is_none());
            assert_eq!(begun.elapsed(), LIMIT);
        }
        let (client, server) = tokio::io::duplex(64);
        drop(client);
        assert!(Begun::hear(server, LIMIT).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_farewell_ends_whatever_the_client_does() {
        // Too small for the answer, and nobody reads it.
        let (mut client, server) = tokio::io::duplex(16);
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let begun = Begun::hear(server, LIMIT).await.unwrap();
        let before = Instant::now();
        begun.turn_away(&[b'x'; 1000]).await;
        assert_eq!(before.elapsed(), FAREWELL_LIMIT);
    }
}
