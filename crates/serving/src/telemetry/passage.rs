//! Where the time of one call or session went, told piece by piece to whoever traces it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::stages::Stage;

/// A piece of the time of a call or session that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// What it was spent on.
    pub what: Spent,
    /// From here.
    pub began: Instant,
    /// To here.
    pub ended: Instant,
    /// Frames that it was about.
    pub n_frames: usize,
}

/// What time was spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// A model was loaded for it.
    Load,
    /// A step on the way from audio to frames.
    Stage(Stage),
    /// A segment of a session, from its first audio to its last frame.
    Segment {
        /// The client's number of it.
        id: u64,
        /// From the first audio to the first frame.
        first_frame: Duration,
    },
}

impl Spent {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Stage(stage) => stage.name(),
            Self::Segment { .. } => "segment",
        }
    }
}

/// Traces one call or session. It must not block.
pub trait Witness: fmt::Debug + Send + Sync {
    /// A piece of its time is over.
    fn saw(&self, passage: Passage);
}
