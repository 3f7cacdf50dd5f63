//! What can go wrong while serving, in the server's own words.
//!
//! The lower crates' errors are turned into these by the `From` implementations below; how a client is told is for
//! the edges to know. No text here carries a path or a secret.

use std::time::Duration;

use lipsync_audio::AudioError;
use lipsync_compositor::CompositorError;
use lipsync_core::{Foreign, TenantId};
use lipsync_engine::EngineError;
use lipsync_registry::{ErrorClass, RegistryError};
use lipsync_session::SessionFault;
use lipsync_worker_pool::PoolError;

/// An error that a client is told about.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A field of the request is wrong.
    #[error("{field}: {message}")]
    Invalid {
        /// The field's path in the message, or the header's name.
        field: String,
        /// The limit and what came.
        message: String,
    },
    /// The messages of the call are compressed.
    #[error(
        "grpc-encoding: messages compressed with {:?} are not taken, send them as they are (identity)",
        Foreign(encoding)
    )]
    Compressed {
        /// With what, as the client names it.
        encoding: String,
    },
    /// A message is flagged as compressed in a call that names no compression.
    #[error("the message is flagged as compressed, but grpc-encoding names no compression")]
    CompressedFlag,
    /// No such model is configured.
    #[error("{reason}")]
    UnknownModel {
        /// Which one.
        reason: String,
    },
    /// The model is configured, but its files are broken.
    #[error("the model cannot be used: {reason}")]
    BrokenModel {
        /// What is wrong with it; no paths.
        reason: String,
    },
    /// Every place is taken.
    #[error("{what} (limit {limit}); try again in {} ms", retry.as_millis())]
    Overloaded {
        /// What has run out.
        what: &'static str,
        /// How many there are.
        limit: usize,
        /// When to come back.
        retry: Duration,
    },
    /// Work of low priority is shed for now.
    #[error(
        "the server is under pressure and refuses work of low priority for now; try again in {} ms",
        retry.as_millis()
    )]
    LowPriorityShed {
        /// When to come back.
        retry: Duration,
    },
    /// The caller shows no key that is good now. Which of that it is, nobody is told.
    #[error("a valid key is needed (authorization: Bearer <key>)")]
    Unauthenticated,
    /// The caller's tenant may not do this.
    #[error("{reason}")]
    PermissionDenied {
        /// What it may not, and what it may.
        reason: String,
    },
    /// The caller's tenant has all that it may have.
    #[error("{}", over_quota(tenant, quota, limit, *retry))]
    OverQuota {
        /// Whose quota.
        tenant: TenantId,
        /// Its key in the configuration.
        quota: &'static str,
        /// How much it allows, in words.
        limit: String,
        /// When to come back, where that can be any use.
        retry: Option<Duration>,
    },
    /// The request waited in the queue for longer than its `x-max-wait-time`.
    #[error("waited {} ms in the queue without reaching a worker", waited.as_millis())]
    QueueTimeout {
        /// The bound.
        waited: Duration,
    },
    /// The call would not reach a worker before its deadline, or within its `x-max-wait-time`.
    #[error(
        "expected to wait {} ms for a worker, which is longer than the {} ms that are left; refused at once",
        expected.as_millis(), limit.as_millis()
    )]
    WaitTooLong {
        /// How long it would wait, at least.
        expected: Duration,
        /// How long it may.
        limit: Duration,
    },
    /// The model's network kept failing, so that its jobs are refused for a while.
    #[error("the model keeps failing and is tried again in {} ms", retry.as_millis())]
    KeepsFailing {
        /// When.
        retry: Duration,
    },
    /// The answer would not fit a message.
    #[error(
        "the answer would take up to {n_bytes} bytes, the limit is {limit}: ask for fewer frames, another format or region_only"
    )]
    AnswerTooLarge {
        /// Its estimated size.
        n_bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A message is over the limit.
    #[error("a message is larger than the limit of {limit} bytes")]
    MessageTooLarge {
        /// The limit.
        limit: usize,
    },
    /// A message does not come as fast as it must.
    #[error("the message came too slowly: 40 kB must come in every 5 s, until it is whole")]
    UploadTooSlow,
    /// The session itself found that it cannot go on.
    #[error(transparent)]
    Session(SessionFault),
    /// The model does not fit into memory beside those in use, or there is too little to run it.
    #[error("no memory for the model now: {reason}")]
    OutOfMemory {
        /// Needed and available.
        reason: String,
    },
    /// The device that runs the model failed for good; the server is about to end.
    #[error("{reason}: the server is about to end")]
    DeviceLost {
        /// Which one, and what it said.
        reason: String,
    },
    /// The server is not ready yet.
    #[error("the server is starting")]
    Starting,
    /// The server is about to stop.
    #[error("the server is shutting down")]
    Draining,
    /// The client's deadline, or the server's `request_timeout_ms`, has passed.
    #[error("the deadline passed before the answer was ready")]
    DeadlineExceeded,
    /// Nothing moved in a session for too long.
    #[error("the session was idle for {} s", limit.as_secs())]
    SessionIdle {
        /// `session.idle_timeout_s`.
        limit: Duration,
    },
    /// A client did not read what waited for it.
    #[error("nothing was read from the session for {} s", limit.as_secs())]
    SessionUnread {
        /// `session.send_timeout_s`.
        limit: Duration,
    },
    /// A session has reached its longest life.
    #[error("the session has reached the limit of {} s", limit.as_secs())]
    SessionTooLong {
        /// `session.max_session_s`.
        limit: Duration,
    },
    /// A fault of the server. The detail is logged, never sent.
    #[error("internal error")]
    Internal {
        /// For the log.
        detail: String,
    },
}

impl ServeError {
    /// An [`ServeError::Invalid`].
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            message: message.into(),
        }
    }

    /// The name of what ran out or does not serve yet, where this is a refusal of a sound request.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Overloaded { what, .. } => Some(shortage(what)),
            Self::OutOfMemory { .. } => Some("memory"),
            Self::OverQuota { .. } => Some("quota"),
            Self::LowPriorityShed { .. } => Some("low_priority"),
            Self::WaitTooLong { .. } => Some("expected_wait"),
            Self::KeepsFailing { .. } => Some("circuit"),
            Self::QueueTimeout { .. } => Some("queue_timeout"),
            Self::Starting => Some("starting"),
            Self::Draining => Some("draining"),
            _ => None,
        }
    }

    /// What is said to a message that is no message of the contract.
    #[must_use]
    pub fn undecodable() -> Self {
        Self::invalid("message", "the message cannot be decoded")
    }

    /// An [`ServeError::Internal`].
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        Self::Internal {
            detail: detail.to_string(),
        }
    }
}

fn over_quota(tenant: &TenantId, quota: &str, limit: &str, retry: Option<Duration>) -> String {
    let advice = retry.map(|retry| {
        // Rounded up: a client that comes a moment too early would be refused again.
        let ms = retry.as_micros().div_ceil(1000);
        format!("; try again in {ms} ms")
    });
    let advice = advice.unwrap_or_default();
    format!("the quota {quota} of tenant {tenant} is used up (limit {limit}){advice}")
}

/// The short name of what has run out, for labels.
fn shortage(what: &str) -> &'static str {
    const NAMES: [(&str, &str); 9] = [
        ("the queue is full", "queue"),
        ("too many requests at once", "requests"),
        ("too many sessions", "sessions"),
        ("too many sessions that nobody reads", "unread_sessions"),
        ("too many calls at once", "control_calls"),
        ("too many calls a second from this address", "control_calls"),
        ("too many calls that watch", "watches"),
        ("too many bytes of uploads", "upload_bytes"),
        ("too many bytes of unread answers", "unread_bytes"),
    ];
    let found = NAMES.iter().find(|(text, _)| *text == what);
    found.map_or("other", |(_, name)| name)
}

/// Advice to a refused client. A queue of a hundred small batches drains in about this time.
pub const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Of an audio encoder that runs beside the workers. Its patches are well-formed by construction.
impl From<EngineError> for ServeError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::DeviceFault { sticky: true, .. } => Self::DeviceLost {
                reason: error.to_string(),
            },
            EngineError::OutOfMemory { .. } => Self::OutOfMemory {
                reason: error.to_string(),
            },
            other => Self::internal(other),
        }
    }
}

impl From<PoolError> for ServeError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::QueueFull { capacity } => Self::Overloaded {
                what: "the queue is full",
                limit: capacity,
                retry: RETRY_AFTER,
            },
            PoolError::WaitTooLong { expected, limit } => Self::WaitTooLong { expected, limit },
            PoolError::KeepsFailing { retry } => Self::KeepsFailing { retry },
            PoolError::ShuttingDown => Self::Draining,
            PoolError::Expired => Self::DeadlineExceeded,
            PoolError::OutOfMemory { .. } => Self::OutOfMemory {
                reason: error.to_string(),
            },
            PoolError::DeviceLost { .. } => Self::DeviceLost {
                reason: error.to_string(),
            },
            other => Self::internal(other),
        }
    }
}

impl ServeError {
    /// What a frame met that is left out of an answer.
    pub(crate) fn of_frame(error: &PoolError) -> Self {
        match error {
            PoolError::OutOfMemory { .. } => Self::OutOfMemory {
                reason: error.to_string(),
            },
            other => Self::internal(other),
        }
    }
}

impl From<SessionFault> for ServeError {
    fn from(fault: SessionFault) -> Self {
        match fault {
            SessionFault::Invalid { field, message } => Self::invalid(field, message),
            fault => Self::Session(fault),
        }
    }
}

impl From<CompositorError> for ServeError {
    fn from(error: CompositorError) -> Self {
        Self::internal(error)
    }
}

impl From<AudioError> for ServeError {
    fn from(error: AudioError) -> Self {
        match error {
            AudioError::EncoderOutput { .. } => Self::BrokenModel {
                reason: error.to_string(),
            },
            // What a client may have done wrong is found where its fields are read, and names them.
            other => Self::internal(other),
        }
    }
}

impl From<RegistryError> for ServeError {
    fn from(error: RegistryError) -> Self {
        if error.class() != ErrorClass::UnknownModel {
            tracing::warn!(detail = error.detail(), "a model is unavailable");
        }
        match error.class() {
            ErrorClass::UnknownModel => Self::UnknownModel {
                reason: error.to_string(),
            },
            ErrorClass::NoRoom => Self::OutOfMemory {
                reason: error.to_string(),
            },
            ErrorClass::DeviceLost => Self::DeviceLost {
                reason: error.to_string(),
            },
            ErrorClass::BrokenModel => Self::BrokenModel {
                reason: error.to_string(),
            },
            ErrorClass::Internal => Self::internal(error.detail()),
        }
    }
}
