//! The only place where a `tonic::Status` is made.

use std::time::Duration;

use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{RETRY_AFTER, ServeError};

/// The header by which gRPC clients learn how messages may be compressed.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// The header by which gRPC clients learn when to retry.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

impl From<ServeError> for Status {
    fn from(error: ServeError) -> Self {
        let text = error.to_string();
        match error {
            ServeError::Invalid { field, message } => {
                let details = ErrorDetails::with_bad_request_violation(field, message);
                Self::with_error_details(Code::InvalidArgument, text, details)
            }
            ServeError::Compressed { .. } => {
                let mut status = Self::unimplemented(text);
                let none = MetadataValue::from_static("identity");
                status.metadata_mut().insert(ACCEPT_ENCODING, none);
                status
            }
            ServeError::UnknownModel { .. } => Self::not_found(text),
            ServeError::BrokenModel { .. } => Self::failed_precondition(text),
            ServeError::Overloaded { retry, .. } => {
                retry_later(Code::ResourceExhausted, text, retry)
            }
            ServeError::QueueTimeout { .. } | ServeError::OutOfMemory { .. } => {
                retry_later(Code::ResourceExhausted, text, RETRY_AFTER)
            }
            ServeError::AnswerTooLarge { .. }
            | ServeError::MessageTooLarge { .. }
            | ServeError::TooMuchAudio { .. }
            | ServeError::TooManyMessages { .. }
            | ServeError::TooSlow { .. } => Self::resource_exhausted(text),
            ServeError::Starting | ServeError::Draining | ServeError::DeviceLost { .. } => {
                retry_later(Code::Unavailable, text, RETRY_AFTER)
            }
            ServeError::DeadlineExceeded
            | ServeError::UploadTooSlow
            | ServeError::SessionIdle { .. }
            | ServeError::SessionUnread { .. }
            | ServeError::SessionTooLong { .. } => Self::deadline_exceeded(text),
            ServeError::Internal { detail } => {
                tracing::error!(detail, "internal error");
                Self::internal(text)
            }
        }
    }
}

fn retry_later(code: Code, text: String, retry: Duration) -> Status {
    let mut status =
        Status::with_error_details(code, text, ErrorDetails::with_retry_info(Some(retry)));
    let millis = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
    status
        .metadata_mut()
        .insert(PUSHBACK, MetadataValue::from(millis));
    status
}

/// The status of a handler that panicked.
#[must_use]
pub fn panicked() -> Status {
    Status::internal("internal error")
}

/// What a failed read of an incoming message is the client's fault for, if it is: a message over the
/// limit (`OUT_OF_RANGE` in the stack) or an undecodable one. `None`: the connection broke.
#[must_use]
pub fn incoming_fault(status: &Status, limit: usize) -> Option<ServeError> {
    match status.code() {
        Code::OutOfRange => Some(ServeError::MessageTooLarge { limit }),
        Code::Internal | Code::InvalidArgument | Code::Unimplemented => {
            Some(ServeError::undecodable())
        }
        _ => None,
    }
}
