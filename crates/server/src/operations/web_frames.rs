//! A ceiling on WebSocket frames that carry next to nothing.
//!
//! A frame of a few bytes costs the server as much work as one of a kilobyte, and the library joins the fragments of
//! a message without end. So the heads of frames are looked at as they come out of the socket, as those of HTTP/2
//! are on the other port: small ones are counted, and a connection that sends many more than any voice does ends.

use lipsync_core::saturate::{u64_of, usize_of};
use tokio::time::Instant;

/// Small frames that a connection may send at once...
const BURST: u16 = 1_000;
/// ... and in every second. A voice sends 100 chunks a second at most, and few of them are small.
const A_SECOND: u16 = 500;
/// A frame with less is small.
const SMALL_BYTES: u64 = 64;
/// The longest head: two bytes, eight of a length, four of a mask.
const MAX_HEAD: usize = 14;

/// What is known of the frames that came.
#[derive(Debug)]
pub(super) struct WebFrames {
    head: [u8; MAX_HEAD],
    n_head: usize,
    /// Of the payload that is being read.
    n_rest: u64,
    allowed: f64,
    counted_at: Instant,
}

impl WebFrames {
    /// Of a connection that has just become a WebSocket: the next byte is the first of a frame.
    pub(super) fn new() -> Self {
        Self {
            head: [0; MAX_HEAD],
            n_head: 0,
            n_rest: 0,
            allowed: BURST.into(),
            counted_at: Instant::now(),
        }
    }

    /// Counts what came; whether there are too many small frames now.
    pub(super) fn are_too_many(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let n_skipped = usize_of(self.n_rest).min(bytes.len());
            bytes = &bytes[n_skipped..];
            self.n_rest -= u64_of(n_skipped);
            let n_wanted = head_bytes(&self.head[..self.n_head]);
            let n_more = n_wanted.saturating_sub(self.n_head).min(bytes.len());
            let (more, rest) = bytes.split_at(n_more);
            self.head[self.n_head..][..n_more].copy_from_slice(more);
            self.n_head += n_more;
            bytes = rest;
            let head = &self.head[..self.n_head];
            if self.n_head >= 2 && self.n_head == head_bytes(head) {
                self.n_rest = payload_bytes(head);
                self.n_head = 0;
                self.allowed -= f64::from(u8::from(self.n_rest < SMALL_BYTES));
            }
        }
        self.allowed < 0.0 && self.is_over()
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

/// Bytes of a head that begins so.
fn head_bytes(head: &[u8]) -> usize {
    let Some(&second) = head.get(1) else {
        return 2;
    };
    let n_length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let n_mask = if second & 0x80 == 0 { 0 } else { 4 };
    2 + n_length + n_mask
}

/// Bytes that follow a whole head.
fn payload_bytes(head: &[u8]) -> u64 {
    let bytes = match head[1] & 0x7f {
        126 => &head[2..4],
        127 => &head[2..10],
        short => return short.into(),
    };
    bytes.iter().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match payload {
            0..=125 => frame.push(0x80 | u8::try_from(payload).unwrap()),
            126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend(u64_of(payload).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(vec![0; payload]);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn small_frames_are_counted_however_they_come() {
        // The last ones are large, and their payload looks like small frames.
        let some = [
            frame(0x82, 63),
            frame(0x02, 0),
            frame(0x80, 1),
            frame(0x82, 64),
            frame(0x82, 700),
            frame(0x82, 70_000),
        ];
        let some = some.concat();
        for cut in [1, 2, 3, 7, 1000, some.len()] {
            let mut frames = WebFrames::new();
            for piece in some.chunks(cut) {
                assert!(!frames.are_too_many(piece));
            }
            assert_eq!(f64::from(BURST) - frames.allowed, 3.0, "{cut}");
            assert_eq!((frames.n_head, frames.n_rest), (0, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_voice_sends_is_too_much() {
        let mut frames = WebFrames::new();
        let tiny = frame(0x00, 1);
        let n = (0..).find(|_| frames.are_too_many(&tiny)).unwrap();
        assert_eq!(n, u32::from(BURST));
        let mut frames = WebFrames::new();
        // Five milliseconds of telephone sound at a time, for a minute.
        let voice = frame(0x82, 46);
        for _ in 0..200 * 60 {
            advance(Duration::from_millis(5)).await;
            assert!(!frames.are_too_many(&voice));
        }
    }
}
