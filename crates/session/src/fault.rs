//! What ends a session that the session itself finds.

use std::time::Duration;

/// Why a session refuses what the client sent, or ends.
///
/// What ends a session from outside, such as a broken model, is a matter of whoever runs it: the `E` of
/// [`Session`](crate::Session), which can be made of this.
#[derive(Debug, thiserror::Error)]
pub enum SessionFault {
    /// A field of a message is wrong.
    #[error("{field}: {message}")]
    Invalid {
        /// The field's path in the message.
        field: &'static str,
        /// The limit and what came.
        message: String,
    },
    /// Audio comes faster than it can be used.
    #[error("more than {limit_s} s of audio wait in this session")]
    TooMuchAudio {
        /// How much may wait.
        limit_s: u32,
    },
    /// Messages come faster than they can be worked on, or than the client reads the answers.
    #[error("more than {limit} {what} wait in this session")]
    TooManyMessages {
        /// What waits.
        what: &'static str,
        /// How many may.
        limit: usize,
    },
    /// Frames of a paced session leave late and do not catch up.
    #[error(
        "frames leave {:.1} s after their time, and it gets no better: the server or the connection is too slow for this session",
        late.as_secs_f32()
    )]
    TooSlow {
        /// By how much.
        late: Duration,
    },
}

impl SessionFault {
    /// A [`SessionFault::Invalid`].
    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            message: message.into(),
        }
    }
}
