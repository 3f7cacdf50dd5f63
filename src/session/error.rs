//! Why a session cannot go on, or a call on it was not accepted.

use std::time::Duration;

use crate::call_error::CallError;

/// Why a session cannot go on, or a call on it was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The server refused the session, or ended it. The session is over.
    #[error(transparent)]
    Server(CallError),
    /// The server broke the contract. The session is over.
    #[error("the server broke the contract: {what}")]
    Protocol {
        /// How.
        what: &'static str,
    },
    /// The session is over, or `finish` was called. The receiving half knows why.
    #[error("the session takes nothing more")]
    Closed,
    /// The server holds as much audio as it may. Nothing was sent: take events until there is room.
    #[error(
        "{held:?} of audio are with the server, and it may hold {window:?}: take events first, or push less"
    )]
    WindowFull {
        /// Audio whose frames have not come back.
        held: Duration,
        /// The limit.
        window: Duration,
    },
    /// The audio is not in the announced format. Nothing was sent.
    #[error("the session was opened for audio {expected}; found {found}")]
    WrongAudio {
        /// The announced format.
        expected: String,
        /// The actual audio.
        found: String,
    },
}
