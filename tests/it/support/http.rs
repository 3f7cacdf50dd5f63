//! Requests over HTTP, byte by byte.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{PATIENCE, TestServer};

/// An answer over HTTP.
#[derive(Debug)]
pub struct Http {
    pub status: u16,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Http {
    /// `GET path`.
    pub async fn get(server: &TestServer, path: &str) -> Result<Self> {
        Self::request(server, &format!("GET {path}"), "").await
    }

    /// `POST path` with a body; `more` are further lines of its head.
    pub async fn post(server: &TestServer, path: &str, more: &str, body: &[u8]) -> Result<Self> {
        let more = format!("content-length: {}\r\n{more}", body.len());
        Self::send(server, &format!("POST {path}"), &more, body).await
    }

    /// One request on a connection of its own; `more` are further lines of its head.
    pub async fn request(server: &TestServer, verb_and_path: &str, more: &str) -> Result<Self> {
        Self::send(server, verb_and_path, more, &[]).await
    }

    async fn send(
        server: &TestServer,
        verb_and_path: &str,
        more: &str,
        body: &[u8],
    ) -> Result<Self> {
        let host = server.operations()?;
        let mut socket = TcpStream::connect(&host).await?;
        let head =
            format!("{verb_and_path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\r\n");
        socket.write_all(&[head.as_bytes(), body].concat()).await?;
        let mut all = Vec::new();
        timeout(PATIENCE, socket.read_to_end(&mut all)).await??;
        let end = all.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.context("no end of the head")?;
        let head = std::str::from_utf8(&all[..end])?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|l| l.split(' ').nth(1));
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        Ok(Self {
            status: status.context("no status")?.parse()?,
            headers: lines.filter_map(header).collect(),
            body: all[end + 4..].to_vec(),
        })
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body, if it is text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("")
    }
}
