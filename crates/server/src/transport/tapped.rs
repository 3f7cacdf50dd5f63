//! A socket with an observer of its bytes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use lipsync_core::saturate::u64_of;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::telemetry::Traffic;

/// What looks at the bytes of a connection.
pub(crate) trait Tap {
    /// These came.
    ///
    /// # Errors
    /// Ends the connection.
    fn read(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// So many were sent.
    fn written(&mut self, _n_bytes: usize) {}
}

/// A socket and its observer.
#[derive(Debug)]
pub(crate) struct Tapped<S, T> {
    pub(crate) socket: S,
    pub(crate) tap: T,
    /// Where the bytes of all connections are counted.
    pub(crate) traffic: Arc<Traffic>,
}

/// How a connection ends that brings more than it may.
pub(crate) fn too_much(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, text)
}

impl<S: AsyncRead + Unpin, T: Tap + Unpin> AsyncRead for Tapped<S, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        let came = &buffer.filled()[n_before..];
        self.traffic.received.add(u64_of(came.len()));
        Poll::Ready(self.tap.read(came))
    }
}

impl<S: AsyncWrite + Unpin, T: Tap + Unpin> AsyncWrite for Tapped<S, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n_bytes = ready!(Pin::new(&mut self.socket).poll_write(context, bytes))?;
        self.traffic.sent.add(u64_of(n_bytes));
        self.tap.written(n_bytes);
        Poll::Ready(Ok(n_bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n_bytes = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, slices))?;
        self.traffic.sent.add(u64_of(n_bytes));
        self.tap.written(n_bytes);
        Poll::Ready(Ok(n_bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
