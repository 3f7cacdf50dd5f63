//! The first bytes of a connection, which must come soon.
//!
//! hyper waits for them for ever: whoever connects and says nothing would hold a connection without end.

use std::{io::Cursor, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, join, split},
    time::timeout,
};

/// What a client of HTTP/2 says first is 24 bytes long.
const PREFACE_BYTES: usize = 24;
/// For these bytes to arrive.
pub(super) const PREFACE_LIMIT: Duration = Duration::from_secs(10);

/// Waits for the first bytes, and gives the socket as if nobody had read them; `None` where they do not come.
/// Whether they are right is for hyper to say.
pub(super) async fn read<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    mut socket: S,
) -> Option<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    let mut preface = [0; PREFACE_BYTES];
    match timeout(PREFACE_LIMIT, socket.read_exact(&mut preface)).await {
        Ok(Ok(_)) => {
            let (rest, write) = split(socket);
            Some(join(Cursor::new(preface).chain(rest), write))
        }
        Ok(Err(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_half_of_it_is_not_waited_for() {
        for said in [&b""[..], b"PRI * HTTP"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(said).await.unwrap();
            let begun = Instant::now();
            assert!(read(server).await.is_none());
            assert_eq!(begun.elapsed(), PREFACE_LIMIT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost() {
        let (mut client, server) = tokio::io::duplex(64);
        let said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more";
        client.write_all(said).await.unwrap();
        let mut socket = read(server).await.unwrap();
        let mut heard = vec![0; said.len()];
        socket.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, said);
        socket.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }
}
