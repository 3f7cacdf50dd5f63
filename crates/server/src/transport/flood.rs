//! A ceiling on HTTP/2 frames that carry nothing.
//!
//! A PING or a SETTINGS frame costs its sender a few bytes and the server an answer; a frame of SETTINGS that changes
//! the window even a walk over all streams. Nobody needs many of them: what is not a request or its data is
//! counted, what a client has to send because it reads its answers is allowed for, and a connection
//! that sends much more is closed. Long frames that carry nothing count by their length as well.

use std::io;

use lipsync_core::saturate::usize_of;
use tokio::time::Instant;

use super::tapped::{Tap, too_much};

/// Frames that carry nothing which a connection may send at once...
const BURST: u16 = 10_000;
/// ... and in every second.
const A_SECOND: u16 = 2_000;
/// A client that reads answers gives its window back, usually every few kilobytes, and measures the round trip.
const PER_WRITTEN_BYTE: f64 = 1.0 / 2048.0;
/// What a call needs besides: its window, its end.
const PER_REQUEST: f64 = 8.0;
/// Data in smaller frames is no data.
const SMALL_BYTES: u32 = 64;

/// A frame of SETTINGS costs a walk over all streams, and a client sends a few in its life.
const COST_OF_SETTINGS: f64 = 100.0;

/// Of a frame that carries nothing, so many bytes beyond the first few count as another frame.
const BYTES_OF_ONE: f64 = 256.0;

/// What a connection begins with; no frame.
const PREFACE_BYTES: u32 = 24;
const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

/// What is known of the bytes that came. They begin with the preface.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES],
    n_header: usize,
    /// Of the payload that is being read, or of the preface.
    n_rest: u32,
    allowed: f64,
    counted_at: Instant,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES],
            n_header: 0,
            n_rest: PREFACE_BYTES,
            allowed: BURST.into(),
            counted_at: Instant::now(),
        }
    }
}

/// The connection ends where there are too many.
impl Tap for Frames {
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.are_too_many(bytes) {
            return Err(too_much("too many frames that carry nothing"));
        }
        Ok(())
    }

    fn written(&mut self, n_bytes: usize) {
        let n_bytes = u32::try_from(n_bytes).map_or(f64::MAX, f64::from);
        // More than a burst is not saved up.
        self.allowed = (self.allowed + n_bytes * PER_WRITTEN_BYTE).min(BURST.into());
    }
}

impl Frames {
    /// Counts what came; whether there are too many now.
    fn are_too_many(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let n_skipped = usize_of(self.n_rest);
            let n_skipped = n_skipped.min(bytes.len());
            bytes = &bytes[n_skipped..];
            self.n_rest -= u32::try_from(n_skipped).unwrap_or(self.n_rest);
            let n_header = (HEADER_BYTES - self.n_header).min(bytes.len());
            let (header, rest) = bytes.split_at(n_header);
            self.header[self.n_header..][..n_header].copy_from_slice(header);
            self.n_header += n_header;
            bytes = rest;
            if self.n_header == HEADER_BYTES {
                self.n_header = 0;
                let [a, b, c, kind, ..] = self.header;
                self.n_rest = u32::from_be_bytes([0, a, b, c]);
                self.count(kind, self.n_rest);
            }
        }
        self.allowed < 0.0 && self.is_over()
    }

    fn count(&mut self, kind: u8, n_bytes: u32) {
        self.allowed += match kind {
            HEADERS => PER_REQUEST,
            // The stack bounds them itself.
            CONTINUATION => 0.0,
            DATA if n_bytes >= SMALL_BYTES => 0.0,
            SETTINGS => -COST_OF_SETTINGS,
            _ => -1.0 - f64::from(n_bytes.saturating_sub(SMALL_BYTES)) / BYTES_OF_ONE,
        };
    }

    /// Looked at only when all is used up: the clock is not asked for each frame.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let passed = now.duration_since(self.counted_at).as_secs_f64();
        self.counted_at = now;
        self.allowed = (self.allowed + passed * f64::from(A_SECOND)).min(BURST.into());
        self.allowed < 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, n_bytes: u32) -> Vec<u8> {
        let [_, a, b, c] = n_bytes.to_be_bytes();
        let mut frame = vec![a, b, c, kind, 0, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + n_bytes as usize, kind);
        frame
    }

    /// After the preface.
    fn frames() -> Frames {
        let mut frames = Frames::default();
        assert!(!frames.are_too_many(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_noticed_however_it_is_cut() {
        let flood = frame(PING, 8).repeat(usize::from(BURST) + 1);
        for cut in [1, 7, 17, 100_000] {
            let mut frames = Frames::default();
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            for part in preface.chunks(cut) {
                assert!(!frames.are_too_many(part));
            }
            let mut parts = flood.chunks(cut).map(|part| frames.are_too_many(part));
            assert!(parts.any(|is_over| is_over), "{cut}");
        }
        for kind in [2, 3, 4, 8, 77, DATA] {
            assert!(frames().are_too_many(&frame(kind, 0).repeat(usize::from(BURST) + 1)));
        }
        // Whatever their payload looks like, and sooner the longer they are.
        let long = frame(b'd', 4096);
        assert!(frames().are_too_many(&long.repeat(usize::from(BURST) / 16 + 1)));
        let settings = frame(SETTINGS, 6);
        assert!(!frames().are_too_many(&settings.repeat(usize::from(BURST) / 100)));
        assert!(frames().are_too_many(&settings.repeat(usize::from(BURST) / 100 + 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_clients_do_is_no_flood() {
        let mut frames = frames();
        // A minute of live sessions, a hundred on one connection, and their window updates.
        let chunk = [frame(DATA, 645), frame(8, 4)].concat();
        for _second in 0..60 {
            for _ in 0..50 * 100 {
                assert!(!frames.are_too_many(&chunk));
                frames.written(25_000);
            }
            advance(Duration::from_secs(1)).await;
        }
        // Calls as fast as they go.
        let call = [
            frame(HEADERS, 200),
            frame(DATA, 40),
            frame(8, 4),
            frame(3, 4),
        ];
        assert!(!frames.are_too_many(&call.concat().repeat(100_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_no_flood() {
        let mut frames = frames();
        // Zeros look like empty frames of data to whoever has lost the frames' beginnings.
        let mut silence = frame(DATA, 16_384);
        silence[HEADER_BYTES..].fill(0);
        assert!(!frames.are_too_many(&silence.repeat(4096)));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_at_a_steady_rate_are_answered() {
        let mut frames = frames();
        for _ in 0..1000 {
            assert!(!frames.are_too_many(&frame(PING, 8).repeat(usize::from(A_SECOND) / 10)));
            advance(Duration::from_millis(100)).await;
        }
        let mut is_over = false;
        for _ in 0..200 {
            is_over |= frames.are_too_many(&frame(PING, 8).repeat(usize::from(A_SECOND) / 5));
            advance(Duration::from_millis(100)).await;
        }
        assert!(is_over, "twice the rate is too much");
    }
}
