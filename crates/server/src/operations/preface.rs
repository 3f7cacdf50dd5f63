//! The first bytes of a connection to the operations port: clients of gRPC and of TLS are told where they are.

use std::{net::SocketAddr, time::Duration};

use crate::first_bytes::{Begun, Socket, Spoken, TLS_ALERT};

/// The refusal for HTTP/2 clients.
const WRONG_PORT: &[u8] = b"this port speaks HTTP/1.1; gRPC is on server.port, 50051 by default";
/// HTTP/2's own word for that.
const HTTP_1_1_REQUIRED: u8 = 0xd;

/// Waits at most for `limit` and returns the socket with its bytes unread. `None` if nothing comes that could be
/// HTTP/1.1.
pub(super) async fn read<S: Socket>(
    socket: S,
    peer: SocketAddr,
    limit: Duration,
) -> Option<impl Socket> {
    let begun = Begun::hear(socket, limit).await?;
    match begun.spoken {
        // hyper refuses what is not HTTP/1.1.
        Spoken::Http1 | Spoken::Unknown => return Some(begun.socket()),
        Spoken::Http2 => {
            tracing::warn!(
                %peer,
                "a client of gRPC or HTTP/2 came to the operations port, which speaks HTTP/1.1: gRPC is on \
                 server.port"
            );
            begun.turn_away(&go_away()).await;
        }
        Spoken::Tls => {
            tracing::warn!(
                %peer,
                "a TLS client came to the operations port, which has no TLS: set operations.tls, use http://, or \
                 put a proxy that ends TLS in front"
            );
            begun.turn_away(TLS_ALERT).await;
        }
        Spoken::ProxyHeader => {
            tracing::warn!(
                %peer,
                "a PROXY protocol header came to the operations port, which does not support it: turn it off in \
                 the load balancer"
            );
        }
    }
    None
}

/// Empty settings, which HTTP/2 wants first, and the end of the connection.
fn go_away() -> Vec<u8> {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // After the head: no stream was looked at, and why.
    let head_and_reason = [
        0,
        0,
        0,
        7,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        HTTP_1_1_REQUIRED,
    ];
    let mut frames = [&settings[..], &head_and_reason, WRONG_PORT].concat();
    // Its length is one byte of three: the text is short.
    frames[settings.len() + 2] = u8::try_from(8 + WRONG_PORT.len()).unwrap_or(u8::MAX);
    frames
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PEER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    #[tokio::test(start_paused = true)]
    async fn a_client_of_http2_is_told_by_its_own_means() {
        let (client, server) = tokio::io::duplex(4096);
        let turned_away = tokio::spawn(async move {
            let limit = Duration::from_secs(10);
            read(server, PEER, limit).await.is_none()
        });
        let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
        let request = http::Request::get("http://a/").body(()).unwrap();
        let sent = requests.send_request(request, true);
        let ended = connection.await.unwrap_err();
        assert_eq!(
            ended.reason(),
            Some(h2::Reason::HTTP_1_1_REQUIRED),
            "{ended}"
        );
        assert!(ended.to_string().contains("gRPC is on"), "{ended}");
        drop((sent, requests));
        assert!(turned_away.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn tls_is_refused_and_http1_is_not_touched() {
        let limit = Duration::from_secs(10);
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(b"\x16\x03\x01\x02\0\x01\0").await.unwrap();
        let talk = async {
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            drop(client);
            heard
        };
        let (socket, heard) = tokio::join!(read(server, PEER, limit), talk);
        assert!(socket.is_none());
        assert_eq!(heard, TLS_ALERT);

        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let mut socket = read(server, PEER, limit).await.unwrap();
        let mut heard = [0; 16];
        socket.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"GET / HTTP/1.1\r\n");
    }
}
