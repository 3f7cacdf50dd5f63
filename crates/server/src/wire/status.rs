//! From errors to gRPC statuses: the only place where a `tonic::Status` is made.

use std::{error::Error as _, sync::Arc, time::Duration};

use lipsync_core::saturate::millis;
use lipsync_serving::error::{RETRY_AFTER, ServeError};
use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Marks the statuses that are made here: the stack makes some, too. It never leaves the process.
#[derive(Debug, thiserror::Error)]
#[error("a status of the server's own")]
struct Ours;

/// The header by which gRPC clients learn how messages may be compressed.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// The header by which gRPC clients learn when to retry.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// How a client of gRPC is told.
#[must_use]
pub fn to_status(error: ServeError) -> Status {
    let text = error.to_string();
    match error {
        ServeError::Invalid { field, message } => {
            let details = ErrorDetails::with_bad_request_violation(field, message);
            Status::with_error_details(Code::InvalidArgument, text, details)
        }
        ServeError::Compressed { .. } => {
            let mut status = Status::unimplemented(text);
            let none = MetadataValue::from_static("identity");
            status.metadata_mut().insert(ACCEPT_ENCODING, none);
            status
        }
        // The protocol's own word for that.
        ServeError::CompressedFlag => internal(text),
        ServeError::UnknownModel { .. } => Status::not_found(text),
        ServeError::Unauthenticated => Status::unauthenticated(text),
        ServeError::PermissionDenied { .. } => Status::permission_denied(text),
        ServeError::OverQuota {
            tenant,
            quota,
            retry,
            ..
        } => over_quota(text, format!("tenant:{tenant}/{quota}"), retry),
        ServeError::BrokenModel { .. } => Status::failed_precondition(text),
        ServeError::Overloaded { retry, .. } | ServeError::LowPriorityShed { retry } => {
            retry_later(Code::ResourceExhausted, text, retry)
        }
        ServeError::QueueTimeout { .. } | ServeError::OutOfMemory { .. } => {
            retry_later(Code::ResourceExhausted, text, RETRY_AFTER)
        }
        // What waits now is done by then, if nothing comes.
        ServeError::WaitTooLong { expected, .. } => {
            retry_later(Code::ResourceExhausted, text, expected)
        }
        ServeError::KeepsFailing { retry } => retry_later(Code::Unavailable, text, retry),
        ServeError::AnswerTooLarge { .. }
        | ServeError::MessageTooLarge { .. }
        | ServeError::Session(_) => Status::resource_exhausted(text),
        ServeError::Starting | ServeError::Draining | ServeError::DeviceLost { .. } => {
            retry_later(Code::Unavailable, text, RETRY_AFTER)
        }
        ServeError::DeadlineExceeded
        | ServeError::UploadTooSlow
        | ServeError::SessionIdle { .. }
        | ServeError::SessionUnread { .. }
        | ServeError::SessionTooLong { .. } => Status::deadline_exceeded(text),
        ServeError::Internal { detail } => {
            tracing::error!(detail, "internal error");
            internal(text)
        }
    }
}

/// The only code of ours whose meaning depends on who says it.
fn internal(text: impl Into<String>) -> Status {
    let mut status = Status::internal(text);
    status.set_source(Arc::new(Ours));
    status
}

/// Whether a status was made here.
pub(crate) fn is_ours(status: &Status) -> bool {
    status.source().is_some_and(|source| source.is::<Ours>())
}

fn retry_later(code: Code, text: String, retry: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry));
    push_back(Status::with_error_details(code, text, details), retry)
}

/// The subject names the tenant and its quota.
fn over_quota(text: String, subject: String, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::with_quota_failure_violation(subject, text.clone());
    if let Some(retry) = retry {
        details.set_retry_info(Some(retry));
    }
    let status = Status::with_error_details(Code::ResourceExhausted, text, details);
    match retry {
        Some(retry) => push_back(status, retry),
        None => status,
    }
}

fn push_back(mut status: Status, retry: Duration) -> Status {
    // Whole milliseconds, and no moment too early.
    let retry = retry + Duration::from_nanos(999_999);
    let value = MetadataValue::from(millis(retry));
    status.metadata_mut().insert(PUSHBACK, value);
    status
}

/// The status of a handler that panicked.
#[must_use]
pub fn panicked() -> Status {
    internal("internal error")
}

/// The status of a method or option of another protocol that does not exist here.
#[must_use]
pub fn unsupported(text: &str) -> Status {
    Status::unimplemented(text)
}

/// The status of a question about the health of something that nobody knows.
#[must_use]
pub fn unknown_service() -> Status {
    Status::not_found("unknown service")
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

#[cfg(test)]
mod tests {
    use tonic::body::Body;

    use super::*;

    #[test]
    fn our_own_statuses_are_known_wherever_they_come_by() {
        let errors = [to_status(ServeError::internal("a detail")), panicked()];
        for status in errors {
            assert_eq!(
                (status.code(), status.message()),
                (Code::Internal, "internal error")
            );
            let response = status.into_http::<Body>();
            assert!(response.extensions().get().is_some_and(is_ours));
        }
        let from_the_stack = Status::internal("internal error").into_http::<Body>();
        assert!(!from_the_stack.extensions().get().is_some_and(is_ours));
    }
}
