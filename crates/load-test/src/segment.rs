//! The times of one segment of a live session: when its audio is due to be sent, the earliest time at which each
//! frame can be made, and when it is due back. Pure arithmetic.

use std::time::Duration;

use crate::profile::{frames_covering, frames_time};

/// How a segment's audio is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As it is spoken: each chunk when its last sample has been spoken.
    Live,
    /// All at once.
    AtOnce,
}

/// One segment: an utterance on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// When it starts, since the start of the run.
    pub start: Duration,
    /// Frames that its audio lasts.
    pub n_frames: u64,
    /// Frames of audio in a chunk; the last chunk may be shorter. At least 1.
    pub chunk_frames: u64,
    /// Frames per second.
    pub fps: u32,
    /// Audio beyond a frame's time that the server needs before it can make the frame.
    pub look_ahead: Duration,
    /// How the audio is sent.
    pub delivery: Delivery,
}

impl Segment {
    /// Chunks of audio.
    #[must_use]
    pub fn n_chunks(&self) -> u64 {
        self.n_frames.div_ceil(self.chunk_frames)
    }

    /// Frames whose audio chunk `index` carries: first frame and count.
    #[must_use]
    pub fn chunk(&self, index: u64) -> (u64, u64) {
        let first = index * self.chunk_frames;
        (
            first,
            self.chunk_frames.min(self.n_frames.saturating_sub(first)),
        )
    }

    /// When chunk `index` is due to be sent.
    #[must_use]
    pub fn chunk_at(&self, index: u64) -> Duration {
        match self.delivery {
            Delivery::AtOnce => self.start,
            Delivery::Live => {
                let spoken = ((index + 1) * self.chunk_frames).min(self.n_frames);
                self.start + frames_time(spoken, self.fps)
            }
        }
    }

    /// When frame `n` can be made at the earliest: the due time of the chunk that completes its
    /// audio. The end of the segment, sent with the last chunk, completes the last frames.
    #[must_use]
    pub fn ready_at(&self, n: u64) -> Duration {
        let needed = (frames_time(n, self.fps) + self.look_ahead).max(frames_time(n + 1, self.fps));
        let n_chunks = frames_covering(needed, self.fps).div_ceil(self.chunk_frames);
        self.chunk_at(n_chunks.clamp(1, self.n_chunks().max(1)) - 1)
    }

    /// When frame `n` is due back from a server that sends frames as it makes them.
    ///
    /// Live: one chunk's time after it could be made, as a chunk's frames are shown while the next
    /// chunk is spoken. At once: a player that begins one chunk's time after the start shows it then.
    #[must_use]
    pub fn due_at(&self, n: u64) -> Duration {
        let chunk_time = frames_time(self.chunk_frames, self.fps);
        match self.delivery {
            Delivery::Live => self.ready_at(n) + chunk_time,
            Delivery::AtOnce => self.start + chunk_time + frames_time(n, self.fps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn segment(delivery: Delivery) -> Segment {
        Segment {
            start: ms(1000),
            n_frames: 20,
            chunk_frames: 8,
            fps: 25,
            look_ahead: ms(360),
            delivery,
        }
    }

    #[test]
    fn live_audio_is_sent_when_it_has_been_spoken() {
        let segment = segment(Delivery::Live);
        let chunks: Vec<_> = (0..segment.n_chunks()).map(|i| segment.chunk(i)).collect();
        assert_eq!(chunks, [(0, 8), (8, 8), (16, 4)]);
        assert_eq!(segment.chunk_at(0), ms(1320));
        assert_eq!(segment.chunk_at(2), ms(1800));
    }

    #[test]
    fn a_frame_waits_for_its_look_ahead() {
        let segment = segment(Delivery::Live);
        // Frame 0 needs 360 ms of audio: they are there with the second chunk.
        assert_eq!(segment.ready_at(0), ms(1640));
        assert_eq!(segment.ready_at(7), ms(1640));
        assert_eq!(segment.ready_at(8), ms(1800));
        // Look-ahead beyond the end comes with the end.
        assert_eq!(segment.ready_at(19), ms(1800));
        assert_eq!(segment.due_at(19), ms(2120));
    }

    #[test]
    fn without_look_ahead_a_frame_needs_its_own_audio() {
        let segment = Segment {
            chunk_frames: 1,
            look_ahead: Duration::ZERO,
            ..segment(Delivery::Live)
        };
        assert_eq!(segment.ready_at(0), ms(1040));
        assert_eq!(segment.ready_at(19), ms(1800));
    }

    #[test]
    fn at_once_counts_from_the_start() {
        let segment = segment(Delivery::AtOnce);
        assert_eq!(segment.chunk_at(2), ms(1000));
        assert_eq!(segment.ready_at(19), ms(1000));
        assert_eq!(segment.due_at(0), ms(1320));
        assert_eq!(segment.due_at(19), ms(2080));
    }
}
