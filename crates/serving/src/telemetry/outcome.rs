//! How calls and sessions end, as far as operators tell ends apart.

use lipsync_session::SessionFault;

use crate::error::ServeError;

/// How a call or a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Ok,
    /// The client asked for something that is wrong or not there.
    Invalid,
    /// The server had no room, or was starting or draining.
    Refused,
    /// Its time was over: the client's deadline, or a limit of the server.
    TimedOut,
    /// The client went away.
    Cancelled,
    /// By a fault of the server, a model or a device.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Invalid,
        Self::Refused,
        Self::TimedOut,
        Self::Cancelled,
        Self::Failed,
    ];

    /// What an error means for the call that it ends.
    #[must_use]
    pub fn of(error: &ServeError) -> Self {
        match error {
            ServeError::Invalid { .. }
            | ServeError::Compressed { .. }
            | ServeError::CompressedFlag
            | ServeError::UnknownModel { .. }
            | ServeError::AnswerTooLarge { .. }
            | ServeError::MessageTooLarge { .. }
            | ServeError::Unauthenticated
            | ServeError::PermissionDenied { .. }
            | ServeError::UploadTooSlow => Self::Invalid,
            ServeError::Session(SessionFault::TooSlow { .. }) => Self::Failed,
            ServeError::Session(_) => Self::Invalid,
            ServeError::Overloaded { .. }
            | ServeError::OutOfMemory { .. }
            | ServeError::OverQuota { .. }
            | ServeError::WaitTooLong { .. }
            | ServeError::LowPriorityShed { .. }
            | ServeError::KeepsFailing { .. }
            | ServeError::Starting
            | ServeError::Draining => Self::Refused,
            ServeError::QueueTimeout { .. }
            | ServeError::DeadlineExceeded
            | ServeError::SessionIdle { .. }
            | ServeError::SessionUnread { .. }
            | ServeError::SessionTooLong { .. } => Self::TimedOut,
            ServeError::BrokenModel { .. }
            | ServeError::DeviceLost { .. }
            | ServeError::Internal { .. } => Self::Failed,
        }
    }

    /// Its name in labels and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}
