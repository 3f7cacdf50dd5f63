//! How large an answer may be.

use crate::{coding::CodedFrame, error::ServeError};
use lipsync_core::saturate::u64_of;

/// What may come around the picture of a frame that travels alone: its other fields, as long as they can get, and
/// the message that carries it.
pub const AROUND_A_FRAME_BYTES: u64 = 336;

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

    /// Refuses a frame that would not fit a message of its own.
    ///
    /// # Errors
    /// [`ServeError::AnswerTooLarge`].
    pub(crate) fn check_frame(self, frame: &CodedFrame) -> Result<(), ServeError> {
        let n_bytes = u64_of(frame.data.len());
        self.check(n_bytes.saturating_add(AROUND_A_FRAME_BYTES))
    }
}
