//! What a browser's session has sent of a message that is not whole yet.
//!
//! The WebSocket library collects a message by itself. So the bytes are counted where they come out of the socket,
//! and charged to the pool of uploads as those of gRPC are, until the message that they belong to is there.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    admission::{Upload, Uploads},
    peer::Peer,
};

/// So many are not worth counting: a head of a request, a chunk of speech.
const FREE_BYTES: usize = 64 << 10;

/// Bytes that came over a connection since its last message.
#[derive(Clone)]
pub(super) struct Inflow {
    uploads: Uploads,
    peer: Peer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    n_bytes: usize,
    /// Taken when there are many.
    upload: Option<Upload>,
}

/// A socket whose bytes are counted.
pub(super) struct Counted<S> {
    pub(super) socket: S,
    pub(super) inflow: Inflow,
}

impl Inflow {
    pub(super) fn new(uploads: Uploads, peer: Peer) -> Self {
        Self {
            uploads,
            peer,
            state: Arc::default(),
        }
    }

    /// A message is there: what came belongs to it.
    pub(super) fn whole(&self) {
        *self.lock() = State::default();
    }

    /// Bytes of a message that is not whole.
    pub(super) fn n_bytes(&self) -> usize {
        self.lock().n_bytes
    }

    /// Whether there is room for so many more.
    fn takes(&self, n_bytes: usize) -> bool {
        let mut state = self.lock();
        state.n_bytes = state.n_bytes.saturating_add(n_bytes);
        if state.n_bytes <= FREE_BYTES {
            return true;
        }
        if state.upload.is_none() {
            state.upload = self.uploads.admit(self.peer);
        }
        let holds = |upload: &Upload| {
            upload.waits(true);
            upload.holds(state.n_bytes)
        };
        state.upload.as_ref().is_some_and(holds)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        if self.inflow.takes(buffer.filled().len() - n_before) {
            return Poll::Ready(Ok(()));
        }
        let text = "no room for an upload";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::QuotaExceeded, text)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
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
