//! Audio that may have to be sent again, to a server that goes on with a lost session. Pure bookkeeping.
//!
//! Of the audio that was shown it keeps as much as such a server must hear again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::AudioFormat;
use crate::v1::{CompositedFrame, Opened, Resumed};

/// The audio of segments whose frames have not all come.
#[derive(Debug)]
pub(super) struct Spoken {
    item_bytes: u64,
    items_per_s: u64,
    fps: u64,
    /// Items before the next frame that are kept.
    n_context: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
}

#[derive(Debug)]
struct Segment {
    id: u64,
    /// Oldest first; the first piece begins at item `n_dropped` of the segment.
    pieces: VecDeque<Bytes>,
    n_dropped: u64,
    is_ended: bool,
}

/// A segment to be sent again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) segment_id: u64,
    /// The item with which it begins.
    pub(super) first_item: u64,
    pub(super) pieces: Vec<Bytes>,
    pub(super) is_ended: bool,
}

impl Spoken {
    pub(super) fn new(format: AudioFormat, opened: &Opened) -> Self {
        let items_per_s = u64::from(format.items_per_s(opened.fps)).max(1);
        let context = u64::from(opened.resume_context_ms) * items_per_s;
        Self {
            item_bytes: format.item_bytes() as u64,
            items_per_s,
            fps: u64::from(opened.fps).max(1),
            n_context: context.div_ceil(1000),
            segments: VecDeque::new(),
        }
    }

    /// Keeps whole items of a segment, the newest one.
    pub(super) fn say(&mut self, segment_id: u64, piece: Bytes) {
        if self.segments.back().is_none_or(|s| s.id != segment_id) {
            self.segments.push_back(Segment {
                id: segment_id,
                pieces: VecDeque::new(),
                n_dropped: 0,
                is_ended: false,
            });
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.pieces.push_back(piece);
        }
    }

    /// The newest segment has ended.
    pub(super) fn end(&mut self) {
        if let Some(segment) = self.segments.back_mut() {
            segment.is_ended = true;
        }
    }

    pub(super) fn clear(&mut self) {
        self.segments.clear();
    }

    /// Forgets the audio of a segment whose frames have all come, and of those before it.
    pub(super) fn ended(&mut self, segment_id: u64) {
        while self.segments.front().is_some_and(|s| s.id <= segment_id) {
            self.segments.pop_front();
        }
    }

    /// Forgets the audio that lies far behind a frame.
    pub(super) fn shown(&mut self, frame: &CompositedFrame) {
        let Some(audio_time_us) = frame.audio_time_us else {
            return;
        };
        while self
            .segments
            .front()
            .is_some_and(|s| s.id < frame.segment_id)
        {
            self.segments.pop_front();
        }
        let first = self.segments.front_mut();
        let Some(segment) = first.filter(|s| s.id == frame.segment_id) else {
            return;
        };
        // The nearest frame: its time is rounded to microseconds.
        let n_frames = (u128::from(audio_time_us) * u128::from(self.fps) + 500_000) / 1_000_000 + 1;
        let n_shown = n_frames * u128::from(self.items_per_s) / u128::from(self.fps);
        let n_shown = u64::try_from(n_shown).unwrap_or(u64::MAX);
        let wanted = n_shown.saturating_sub(self.n_context);
        // Whole pieces: they are a second at most.
        while let Some(piece) = segment.pieces.front() {
            let after = segment.n_dropped + piece.len() as u64 / self.item_bytes;
            if after > wanted {
                break;
            }
            segment.n_dropped = after;
            segment.pieces.pop_front();
        }
    }

    /// What a server must hear that goes on so; `None` where that is not here any more.
    pub(super) fn again(&self, resumed: &Resumed) -> Option<Vec<Again>> {
        let again = self.segments.iter().map(|segment| {
            let first_item = match segment.id == resumed.segment_id {
                true => resumed.first_item,
                false => 0,
            };
            let mut skip = first_item.checked_sub(segment.n_dropped)? * self.item_bytes;
            let mut pieces = Vec::new();
            for piece in &segment.pieces {
                let n_skipped = usize::try_from(skip).map_or(piece.len(), |n| n.min(piece.len()));
                skip -= n_skipped as u64;
                if n_skipped < piece.len() {
                    pieces.push(piece.slice(n_skipped..));
                }
            }
            Some(Again {
                segment_id: segment.id,
                first_item,
                pieces,
                is_ended: segment.is_ended,
            })
        });
        again.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_shown_and_its_context_can_be_said_again() {
        let opened = Opened {
            fps: 25,
            resume_context_ms: 400,
            ..Opened::default()
        };
        // 1 kHz, a byte a sample.
        let format = AudioFormat::PcmMulaw {
            rate_hz: 1_000,
            n_channels: 1,
        };
        let mut spoken = Spoken::new(format, &opened);
        let audio: Bytes = (0..=255).cycle().take(2_000).collect();
        for n in 0..20 {
            spoken.say(3, audio.slice(n * 100..(n + 1) * 100));
        }
        spoken.end();
        spoken.say(4, Bytes::from_static(b"next"));
        let frame = CompositedFrame {
            segment_id: 3,
            audio_time_us: Some(24 * 40_000),
            ..CompositedFrame::default()
        };
        spoken.shown(&frame);
        let resumed = |first_item| Resumed {
            segment_id: 3,
            first_item,
            ..Resumed::default()
        };
        let again = spoken.again(&resumed(640)).expect("it is there");
        assert_eq!((again[0].first_item, again[0].is_ended), (640, true));
        assert_eq!(again[0].pieces.concat(), audio[640..]);
        assert_eq!((again[1].first_item, again[1].is_ended), (0, false));
        assert!(spoken.again(&resumed(600)).is_some());
        assert!(spoken.again(&resumed(599)).is_none(), "it was dropped");
        spoken.ended(3);
        assert_eq!(spoken.again(&resumed(600)).expect("it is there").len(), 1);
    }
}
