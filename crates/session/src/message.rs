//! What a session tells its client: frames and notices, in the session's own words.

use bytes::Bytes;
use lipsync_core::{AudioKind, Fps};

use crate::{InSegment, Position};

/// A message on its way to the client, with a coded picture `P` in frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing<P> {
    /// A picture, and what belongs to it.
    Frame(Frame<P>),
    /// Anything else.
    Notice(Notice),
}

/// A frame: a picture with its place, its time and the audio under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<P> {
    /// Place on the avatar's timeline.
    pub place: u64,
    /// Presentation time, µs; known when the frame leaves, 0 before.
    pub pts_us: u64,
    /// The segment that it belongs to; 0 for idle frames.
    pub segment_id: u64,
    /// Its time in its segment, µs; `None` for idle frames.
    pub audio_time_us: Option<u64>,
    /// The audio under it, as it came; empty unless the session asked for echo.
    pub audio: Bytes,
    /// Where the session is after it; known when the frame leaves.
    pub position: Position,
    /// The coded picture, which a session only carries.
    pub picture: P,
}

/// A message without a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The session has begun.
    Opened(Opened),
    /// All frames of a segment have been sent.
    SegmentEnd(SegmentEnd),
    /// The answer to an interruption.
    Cleared(Cleared),
    /// Something that the client should know.
    Warning(Warning),
}

/// What a client learns when its session begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Frames per second.
    pub fps: Fps,
    /// Width of the avatar's frames, px.
    pub width: usize,
    /// Height of the avatar's frames, px.
    pub height: usize,
    /// The features that the network takes.
    pub audio_kind: AudioKind,
    /// Audio that must be there beyond a frame's own time before it can be made, ms.
    pub look_ahead_ms: u32,
    /// Audio that may wait, seconds.
    pub max_buffered_audio_s: u32,
    /// Video that may wait, ms.
    pub max_unsent_ms: u32,
    /// How long a paced frame waits after it could leave, ms; 0 in sessions that are not paced.
    pub frame_buffer_ms: u32,
    /// Where the session begins.
    pub position: Position,
    /// Audio before the next frame of a segment that a session needs to resume there, ms.
    pub resume_context_ms: u32,
    /// What a session that resumes expects; `None` in one that begins.
    pub resumed: Option<Resumed>,
}

/// What a session that resumes expects of its client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Where it is in a segment; `None` between segments.
    pub segment: Option<InSegment>,
    /// The first item of that segment (sample, step or window) that must be sent again.
    pub first_item: u64,
}

/// The end of a segment, behind its last frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentEnd {
    /// Which one.
    pub segment_id: u64,
    /// Frames that were made of its audio.
    pub n_frames: u64,
}

/// The answer to an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleared {
    /// The segment that was cleared; `None` for all.
    pub segment_id: Option<u64>,
    /// Presentation time of the last frame sent, µs.
    pub last_pts_us: Option<u64>,
    /// Its time in its segment, µs.
    pub last_audio_time_us: Option<u64>,
}

/// Something that the client should know, and that does not end the session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warning {
    /// What it is about, for programs.
    pub code: &'static str,
    /// The same for people.
    pub text: String,
}
