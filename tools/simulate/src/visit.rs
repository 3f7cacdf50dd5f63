//! A call or a conversation on its way.

use lipsync_serving::admission::Admitted;

/// Somebody who came.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) replica: usize,
    pub(crate) model: u32,
    pub(crate) began_ns: u64,
    /// Whether it is measured.
    pub(crate) counts: bool,
    /// Its place, once it has one.
    pub(crate) place: Option<Admitted>,
    /// Frames that workers still have to make of what was ordered last.
    pub(crate) n_left: usize,
    pub(crate) kind: Kind,
}

/// What it is.
#[derive(Debug)]
pub(crate) enum Kind {
    Call(Call),
    Session(Talk),
}

/// A unary call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) n_frames: usize,
    /// Whether its user asks again when it has its answer.
    pub(crate) asks_on: bool,
}

/// A conversation: the avatar listens and speaks in turns.
#[derive(Debug)]
pub(crate) struct Talk {
    /// What is left of the conversation.
    pub(crate) left_ns: u64,
    pub(crate) next: Turn,
    /// When the speech of the reply came.
    pub(crate) spoke_ns: u64,
    /// Frames of the reply, and how many of them were made.
    pub(crate) n_frames: u64,
    pub(crate) n_made: u64,
    /// Frames of the batch that is made now.
    pub(crate) n_batch: u64,
    /// When its first frame leaves, once that is known.
    pub(crate) clock_ns: Option<u64>,
}

/// What happens next in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The avatar begins to speak.
    Reply,
    /// More frames of the reply.
    Batch,
    /// It ends.
    End,
}

impl Talk {
    pub(crate) fn new(length_ns: u64) -> Self {
        Self {
            left_ns: length_ns,
            next: Turn::Reply,
            spoke_ns: 0,
            n_frames: 0,
            n_made: 0,
            n_batch: 0,
            clock_ns: None,
        }
    }

    /// When a frame of the reply is due, once the clock goes.
    pub(crate) fn due_ns(&self, n: u64, frame_ns: u64) -> Option<u64> {
        Some(self.clock_ns? + n * frame_ns)
    }
}
