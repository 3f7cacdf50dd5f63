//! A ceiling on encrypted bytes that carry nothing.
//!
//! A record of TLS may be empty, and costs the server as much as a short one: it has to be decrypted before anybody
//! sees that nothing is in it. What is counted inside of the encryption (frames of HTTP/2, bytes of a message) does
//! not see such records. So the bytes below the encryption are compared with those that come out of it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use lipsync_core::{saturate::u32_of, sync::lock};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::transport::tapped::too_much;

/// Bytes that may come before any comes out: a handshake with certificates, and records under way.
const BURST: u32 = 1 << 20;
/// The same, in every second.
const A_SECOND: u32 = 64 << 10;
/// For each byte that comes out: a record of one byte has 22 more, and few have one.
const PER_BYTE: f64 = 10.0;

/// What may still come. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    allowed: f64,
    counted_at: Instant,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            allowed: BURST.into(),
            counted_at: Instant::now(),
        })))
    }

    fn came(&self, n_bytes: usize) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.allowed -= f64::from(u32_of(n_bytes));
        if state.allowed < 0.0 {
            let now = Instant::now();
            let passed = now.duration_since(state.counted_at).as_secs_f64();
            state.counted_at = now;
            state.allowed = (state.allowed + passed * f64::from(A_SECOND)).min(BURST.into());
        }
        if state.allowed < 0.0 {
            return Err(too_much("too many encrypted bytes that carry nothing"));
        }
        Ok(())
    }

    fn came_out(&self, n_bytes: usize) {
        let mut state = lock(&self.0);
        let more = f64::from(u32_of(n_bytes)) * PER_BYTE;
        state.allowed = (state.allowed + more).min(BURST.into());
    }
}

/// Which side of the encryption a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Outside,
    Inside,
}

/// A socket whose bytes are counted.
#[derive(Debug)]
pub(super) struct Counted<S> {
    pub(super) socket: S,
    pub(super) allowance: Allowance,
    pub(super) side: Side,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        let n_bytes = buffer.filled().len() - n_before;
        if self.side == Side::Inside {
            self.allowance.came_out(n_bytes);
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.allowance.came(n_bytes))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_carries_something_goes_on_for_ever() {
        let allowance = Allowance::new();
        // Large records, frames of nine bytes, and single bytes now and then.
        for (outside, inside, n) in [(16_406, 16_384, 100_000), (31, 9, 1_000_000)] {
            for _ in 0..n {
                allowance.came(outside).unwrap();
                allowance.came_out(inside);
            }
        }
        for _ in 0..10_000 {
            advance(Duration::from_millis(1)).await;
            allowance.came(23).unwrap();
            allowance.came_out(1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_carries_nothing_ends() {
        let allowance = Allowance::new();
        let n = (0..1_000_000).find(|_| allowance.came(22).is_err());
        assert_eq!(n, Some((1 << 20) / 22));
        let allowance = Allowance::new();
        // Slowly it may.
        for _ in 0..100_000 {
            advance(Duration::from_millis(1)).await;
            allowance.came(60).unwrap();
        }
    }
}
