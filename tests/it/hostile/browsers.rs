//! The operations port.

use std::sync::Arc;

use anyhow::{Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use super::fake_server;
use crate::support::{Http, PATIENCE, Socket};

#[tokio::test(flavor = "multi_thread")]
async fn pings_without_end_end_the_connection() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let mut socket = Socket::connect(&server).await?;
    let mut n_sent = 0;
    let flood = async {
        while socket
            .0
            .feed(Message::Ping(vec![0; 100].into()))
            .await
            .is_ok()
        {
            if socket.0.flush().await.is_err() {
                break;
            }
            n_sent += 1;
            ensure!(n_sent < 1_000_000, "it is never ended");
        }
        Ok(())
    };
    timeout(PATIENCE, flood).await??;
    assert!(n_sent > 50, "some are answered: {n_sent}");
    assert_eq!(Http::get(&server, "/livez").await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_is_refused_by_what_it_claims() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let mut socket = Socket::connect(&server).await?;
    let mut head = vec![0x82, 0x80 | 127];
    head.extend((49_u64 << 20).to_be_bytes());
    head.extend([0; 4]);
    socket.0.get_mut().write_all(&head).await?;
    let (_, code, reason) = socket.rest().await?;
    assert_eq!(code, 4008, "{reason}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_fragments_without_end_end_the_connection() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let mut socket = Socket::connect(&server).await?;
    let tcp = socket.0.get_mut();
    // A message of no bytes begins, and goes on with no bytes.
    tcp.write_all(&[0x02, 0x80, 0, 0, 0, 0]).await?;
    let many = [0x00, 0x80, 0, 0, 0, 0].repeat(10_000);
    let mut n_sent = 0;
    let flood = async {
        while tcp.write_all(&many).await.is_ok() {
            n_sent += many.len();
            ensure!(n_sent < 100 << 20, "it is never ended");
        }
        Ok(())
    };
    timeout(PATIENCE, flood).await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_is_counted_until_its_connection_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let shared = Arc::clone(server.running().shared());
    let mut socket = Socket::connect(&server).await?;
    let mut head = vec![0x82, 0x80 | 127];
    head.extend((3_u64 << 20).to_be_bytes());
    head.extend([0; 4]);
    let tcp = socket.0.get_mut();
    tcp.write_all(&head).await?;
    tcp.write_all(&vec![0; 2 << 20]).await?;
    while shared.admission.n_upload_bytes() < 2 << 20 {
        tokio::task::yield_now().await;
    }
    // It does not go on, and is given up.
    let ended = async { while let Some(Ok(_)) = socket.0.next().await {} };
    timeout(PATIENCE, ended).await?;
    while shared.admission.n_upload_bytes() > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Beginning a session and ending it at once costs much more than being told to come later.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_address_begin_at_a_rate() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let mut n_begun = 0;
    let begin = async {
        loop {
            match Socket::connect(&server).await {
                Ok(_socket) => n_begun += 1,
                Err(refused) => return refused,
            }
        }
    };
    let refused = timeout(PATIENCE, begin).await?;
    assert!(refused.to_string().contains("429"), "{refused}");
    assert!(n_begun >= 100, "{n_begun}");
    assert_eq!(Http::get(&server, "/readyz").await?.status, 200);
    Ok(())
}

/// Where its frames begin would not be known.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_begins_with_the_answer() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let host = server.operations()?;
    let mut tcp = TcpStream::connect(&host).await?;
    let head = format!(
        "GET /session HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let early = [head.as_bytes(), &[0x82, 0x80, 0, 0, 0, 0]].concat();
    tcp.write_all(&early).await?;
    let mut answer = vec![0; 12];
    timeout(PATIENCE, tcp.read_exact(&mut answer)).await??;
    assert_eq!(answer, b"HTTP/1.1 400");
    Ok(())
}
