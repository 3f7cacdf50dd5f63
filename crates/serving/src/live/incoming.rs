//! What comes into a session, in the server's own words; the wire's are at the edge.

use bytes::Bytes;
use lipsync_core::{ModelId, Priority};
use lipsync_session::{Position, Warning};
use tokio_stream::Stream;

use crate::{
    error::ServeError,
    order::{OutputSpec, PcmFormat},
};

/// What clients send, from whatever transport.
pub trait Requests: Stream<Item = Result<Incoming, Broken>> + Send + Unpin {}

impl<T> Requests for T where T: Stream<Item = Result<Incoming, Broken>> + Send + Unpin {}

/// A message of a client.
#[derive(Debug)]
pub enum Incoming {
    /// What the session is to be. What is wrong with it is told after the session has its place: a full
    /// server refuses first.
    Open(Box<Result<SessionOrder, ServeError>>),
    /// Audio of a segment.
    Audio {
        /// Which one.
        segment_id: u64,
        /// Its audio.
        audio: Audio,
    },
    /// A segment has no more audio.
    EndSegment {
        /// Which one.
        segment_id: u64,
    },
    /// An interruption.
    Clear {
        /// Of which segment; `None` for all.
        segment_id: Option<u64>,
    },
    /// A message that says nothing, and what is told to a client that sends it in an open session.
    Nothing(ServeError),
}

/// Audio as it came.
#[derive(Debug)]
pub enum Audio {
    /// Samples.
    Pcm(Bytes),
    /// f32 LE feature steps.
    Steps(Bytes),
    /// f32 LE windows.
    Windows(Bytes),
}

/// What a client wants of its session; checked, but the model is not yet known to be configured.
#[derive(Debug)]
pub struct SessionOrder {
    /// The model asked for.
    pub model_id: ModelId,
    /// How audio comes.
    pub form: AudioForm,
    /// What to send back.
    pub output: OutputSpec,
    /// How urgent it is.
    pub priority: Priority,
    /// Where the session begins.
    pub start: Position,
    /// It goes on where another one has ended.
    pub resumes: bool,
    /// What the client should know before the first frame.
    pub warning: Option<Warning>,
    /// Frames leave at their time.
    pub is_realtime: bool,
    /// Silence and pauses show the face at rest.
    pub shows_idle: bool,
    /// Frames carry the audio under them.
    pub echoes_audio: bool,
}

/// How a session's audio comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioForm {
    /// Samples.
    Pcm(PcmFormat),
    /// f32 LE feature steps.
    Steps,
    /// f32 LE windows.
    Windows,
}

/// Why no message comes any more, though the client has not closed its side.
#[derive(Debug)]
pub enum Broken {
    /// The client, or the server, is at fault: this is told.
    Fault(ServeError),
    /// There is nobody to be told.
    Gone,
}

impl From<ServeError> for Broken {
    fn from(error: ServeError) -> Self {
        Self::Fault(error)
    }
}
