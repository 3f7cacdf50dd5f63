//! A refused call as types instead of metadata.

mod transport;

use std::time::Duration;

use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::StatusExt as _;

/// Header with the id under which the server logged a call.
const REQUEST_ID: &str = "x-request-id";

/// A refused or failed call.
///
/// `docs/clients.md` lists the codes and their meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct CallError {
    /// The gRPC status code.
    pub code: Code,
    /// For people. If a proxy refused the call, this names the proxy's answer and what to change.
    pub message: String,
    /// Id of this request in the server's log; absent if the server was not reached.
    pub request_id: Option<String>,
    /// The wrong fields, with `INVALID_ARGUMENT`.
    pub violations: Vec<FieldViolation>,
    /// When to try again; absent if that does not help.
    pub retry_after: Option<Duration>,
}

/// A field that the server does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path in the request, for example `open.sample_rate_hz`.
    pub field: String,
    /// The limit, and the value.
    pub description: String,
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let violation = |violation: tonic_types::FieldViolation| FieldViolation {
            field: violation.field,
            description: violation.description,
        };
        let violations = status.get_details_bad_request();
        let (code, message) = transport::in_plain_words(&status)
            .unwrap_or_else(|| (status.code(), status.message().to_owned()));
        Self {
            code,
            message,
            request_id: request_id(status.metadata()),
            violations: violations.map_or_else(Vec::new, |bad| {
                bad.field_violations.into_iter().map(violation).collect()
            }),
            retry_after: status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay),
        }
    }
}

impl CallError {
    /// The error for a server that has not answered within the client's own limit.
    pub(crate) fn no_answer(limit: Duration) -> Self {
        Self {
            code: Code::DeadlineExceeded,
            message: format!("the answer did not begin within the client's limit of {limit:?}"),
            request_id: None,
            violations: Vec::new(),
            retry_after: None,
        }
    }

    /// Fills in the id from a stream's headers, because trailers do not repeat it.
    pub(crate) fn of_request(mut self, request_id: Option<&str>) -> Self {
        self.request_id = self.request_id.or(request_id.map(str::to_owned));
        self
    }
}

/// The id in a call's response headers.
pub(crate) fn request_id(metadata: &MetadataMap) -> Option<String> {
    let id = metadata.get(REQUEST_ID)?.to_str().ok()?;
    Some(id.to_owned())
}

/// The status, in words that say what to do if the transport or a proxy made it. A server's own words stay.
#[must_use]
pub fn in_plain_words(status: Status) -> Status {
    match transport::in_plain_words(&status) {
        Some((code, message)) => {
            let details = bytes::Bytes::copy_from_slice(status.details());
            Status::with_details_and_metadata(code, message, details, status.metadata().clone())
        }
        None => status,
    }
}

/// A code as the gRPC specification spells it: `NOT_FOUND`.
#[must_use]
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation as WireViolation};

    use super::*;

    #[test]
    fn details_become_fields() {
        let mut details = ErrorDetails::new();
        details
            .set_bad_request(vec![WireViolation::new("open.channels", "at most 2")])
            .set_retry_info(Some(Duration::from_millis(250)));
        let mut status = Status::with_error_details(Code::InvalidArgument, "no", details);
        let id = "abc".parse().expect("ASCII");
        status.metadata_mut().insert(REQUEST_ID, id);
        let error = CallError::from(status).of_request(Some("another"));
        assert_eq!(error.to_string(), "InvalidArgument: no");
        assert_eq!(error.request_id.as_deref(), Some("abc"));
        assert_eq!(error.violations[0].field, "open.channels");
        assert_eq!(error.retry_after, Some(Duration::from_millis(250)));
    }

    #[test]
    fn a_bare_status_has_no_details() {
        let error = CallError::from(Status::not_found("who?")).of_request(Some("7"));
        assert_eq!((error.code, error.retry_after), (Code::NotFound, None));
        assert_eq!(error.request_id.as_deref(), Some("7"));
        assert!(error.violations.is_empty());
    }
}
