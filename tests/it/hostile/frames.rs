//! HTTP/2 frames, as bytes on a socket.

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::fake_server;
use crate::support::{PATIENCE, speech::windows_request};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS without any.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
}

/// Bytes that a flood of one frame may bring before its connection ends, at the most.
async fn ends_within(preface: &[&[u8]], flood: &[u8]) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let socket = TcpStream::connect(server.address()).await?;
    let (mut reading, mut writing) = socket.into_split();
    // So that nothing waits for the client.
    let drained = tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 16];
        while reading.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    });
    for part in preface {
        writing.write_all(part).await?;
        writing.flush().await?;
    }
    let many = flood.repeat((64 << 10) / flood.len() + 1);
    let mut n_sent = 0;
    let flooding = async {
        while writing.write_all(&many).await.is_ok() {
            n_sent += many.len();
            ensure!(n_sent < 400 << 20, "it is never ended");
        }
        Ok(())
    };
    timeout(PATIENCE, flooding).await??;
    drained.abort();
    Ok(n_sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_carry_nothing_end_the_connection_whatever_is_in_them() -> Result<()> {
    // What the sockets of both ends hold comes on top.
    const BUFFERS: usize = 12 << 20;
    for byte in [0, b'd', 0xff] {
        let long = frame(10, &[byte; 4096]);
        let n_sent = ends_within(&[PREFACE, SETTINGS], &long).await?;
        assert!(n_sent < BUFFERS, "{byte}: {n_sent}");
    }
    // However the preface is cut.
    let ping = frame(6, b"dddddddd");
    for preface in [
        &[PREFACE, SETTINGS][..],
        &[&PREFACE[..3], &PREFACE[3..], SETTINGS],
        &[&PREFACE[..20], &PREFACE[20..], SETTINGS],
    ] {
        let n_sent = ends_within(preface, &ping).await?;
        assert!(n_sent < BUFFERS, "{n_sent}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_taken_on_one_connection_however_much_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = fake_server(folder.path(), "").await?;
    let client = server.client().await?;
    let mut n_sent = 0;
    while n_sent < 24 << 20 {
        let request = windows_request("a", &[0.0; 16]);
        n_sent += prost::Message::encoded_len(&request);
        client.infer_batch_composite(request).await?;
    }
    Ok(())
}
