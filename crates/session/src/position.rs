//! Where a session is between two frames: what another session needs to go on from there.

use crate::fade::FULL;

/// The place of a session after the frames that it has sent.
///
/// It is small and holds no audio: a session that resumes hears the audio around its next frame again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Frames sent so far. It is the number of the next frame, from which its presentation time follows.
    pub n_frames: u64,
    /// Place of the next frame on the avatar's timeline.
    pub place: u64,
    /// The network's weight in the last frame, of [`FULL`].
    pub weight: u8,
    /// The last frame belonged to no segment.
    pub is_idle: bool,
    /// Where it is in a segment; `None` between segments.
    pub segment: Option<InSegment>,
}

/// Where a session is in the segment that it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InSegment {
    /// Which segment.
    pub segment_id: u64,
    /// Frames of it that were sent: the number of its next frame.
    pub n_frames: u64,
    /// What the maker of slots has to know at its next frame; see [`Slot::mark`](crate::Slot::mark).
    pub mark: u8,
}

impl Position {
    /// The position of a session that begins at `place` on the timeline.
    #[must_use]
    pub fn start(place: u64, shows_idle: bool) -> Self {
        Self {
            n_frames: 0,
            place,
            weight: if shows_idle { 0 } else { FULL },
            is_idle: shows_idle,
            segment: None,
        }
    }

    /// The segment whose audio the session waits for, if the last frame left it in the middle of one.
    pub(super) fn speaking(&self) -> Option<u64> {
        self.segment.map(|segment| segment.segment_id)
    }
}
