//! How large an answer may be.

use crate::error::ServeError;

/// The largest answer that fits a message.
#[derive(Debug, Clone, Copy)]
pub struct AnswerLimit {
    /// As the client is told.
    pub max_bytes: u64,
}

impl AnswerLimit {
    /// Refuses an answer, or the estimate of one, that would not fit. The stack would refuse it as well, but after
    /// the work and with another code.
    ///
    /// # Errors
    /// [`ServeError::AnswerTooLarge`].
    pub fn check(self, n_bytes: u64) -> Result<(), ServeError> {
        let limit = self.max_bytes;
        if n_bytes > limit {
            return Err(ServeError::AnswerTooLarge { n_bytes, limit });
        }
        Ok(())
    }
}
