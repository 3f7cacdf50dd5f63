//! What the parts of the server need to know of the configuration, in their own terms.

use super::{Config, ServerLimits};
use crate::{admission, answer_limit::AnswerLimit};

impl Config {
    /// How many places there are.
    #[must_use]
    pub fn admission(&self) -> admission::Limits {
        let server = &self.server;
        admission::Limits {
            queue_capacity: server.queue_capacity,
            n_workers: server.n_workers,
            max_sessions: self.session.max_sessions,
            max_upload_bytes: server.max_upload_bytes,
            max_unsent_bytes: server.max_unsent_bytes,
            peer_share_percent: server.peer_share_percent,
        }
    }
}

impl ServerLimits {
    /// How large an answer may be.
    #[must_use]
    pub fn answers(&self) -> AnswerLimit {
        AnswerLimit {
            max_bytes: u64::try_from(self.max_message_bytes).unwrap_or(u64::MAX),
        }
    }
}
