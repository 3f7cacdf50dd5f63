//! The first bytes of a connection to the gRPC port, which must come soon and be those of HTTP/2.
//!
//! hyper waits for them for ever: whoever connects and says nothing would hold a connection without end. And
//! whoever speaks something else would learn nothing from it.

use std::{net::SocketAddr, time::Duration};

use crate::first_bytes::{Begun, Socket, Spoken, TLS_ALERT};
use lipsync_core::Foreign;

/// For these bytes to arrive.
pub(super) const PREFACE_LIMIT: Duration = Duration::from_secs(10);

/// To HTTP/1.1.
const WRONG_PORT: &str = "this port speaks gRPC (HTTP/2); the page and the probes are on operations.port, \
    8080 by default\n";

/// Waits for the first bytes and returns the socket with these bytes unread. `None` if they do not come, or are not
/// those of HTTP/2.
pub(super) async fn read<S: Socket>(socket: S, peer: SocketAddr) -> Option<impl Socket> {
    let begun = Begun::hear(socket, PREFACE_LIMIT).await?;
    match begun.spoken {
        Spoken::Http2 => return Some(begun.socket()),
        Spoken::Http1 => {
            tracing::warn!(
                %peer,
                "an HTTP/1.1 request came to the gRPC port, which speaks HTTP/2 only: the page and the probes \
                 are on operations.port; make a proxy speak HTTP/2 (h2c) to this port"
            );
            begun.turn_away(wrong_port().as_bytes()).await;
        }
        Spoken::Tls => {
            tracing::warn!(
                %peer,
                "a TLS client came to the gRPC port, which has no TLS: set server.tls, use http:// (an insecure \
                 channel), or put a proxy that ends TLS in front"
            );
            begun.turn_away(TLS_ALERT).await;
        }
        Spoken::ProxyHeader => {
            tracing::warn!(
                %peer,
                "a PROXY protocol header came to the gRPC port, which does not support it: turn it off in the \
                 load balancer"
            );
        }
        Spoken::Unknown => {
            let words = begun.words();
            tracing::warn!(%peer, words = ?Foreign(&words), "a client of the gRPC port does not speak HTTP/2");
        }
    }
    None
}

fn wrong_port() -> String {
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{WRONG_PORT}",
        WRONG_PORT.len()
    )
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    const PEER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_half_of_it_is_not_waited_for() {
        for said in [&b""[..], b"PRI * HTTP"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(said).await.unwrap();
            let begun = Instant::now();
            assert!(read(server, PEER).await.is_none());
            assert_eq!(begun.elapsed(), PREFACE_LIMIT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost() {
        let (mut client, server) = tokio::io::duplex(64);
        let said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more";
        client.write_all(said).await.unwrap();
        let mut socket = read(server, PEER).await.unwrap();
        let mut heard = vec![0; said.len()];
        socket.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, said);
        socket.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }

    #[tokio::test(start_paused = true)]
    async fn other_protocols_are_answered_at_once() {
        let cases: [(&[u8], &[u8]); 4] = [
            (b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n", b"HTTP/1.1 400 "),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", TLS_ALERT),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", b""),
            (b"SSH-2.0-OpenSSH_9.6\r\n", b""),
        ];
        for (said, answer) in cases {
            let (mut client, server) = tokio::io::duplex(4096);
            client.write_all(said).await.unwrap();
            let begun = Instant::now();
            let talk = async {
                let mut heard = Vec::new();
                client.read_to_end(&mut heard).await.unwrap();
                drop(client);
                heard
            };
            let (socket, heard) = tokio::join!(read(server, PEER), talk);
            assert!(socket.is_none());
            assert_eq!(heard[..answer.len()], *answer);
            assert_eq!(begun.elapsed(), Duration::ZERO);
        }
        let answer = wrong_port();
        assert!(answer.ends_with(WRONG_PORT) && answer.contains("gRPC (HTTP/2)"));
    }
}
