//! Why no connection could be made.

use std::{error::Error, time::Duration};

use super::address::Address;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be understood.
    #[error(
        "not a server address: {address:?}: {reason} (expected for example 127.0.0.1:50051 or https://faces.example)"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is nothing that TLS could trust.
    #[error("https cannot be spoken: {reason}")]
    Certificates {
        /// What is missing.
        reason: String,
    },
    /// The server is there, but it is not who the address says, or it does not speak TLS.
    #[error("no secure connection to {address}: {reason}")]
    Tls {
        /// What was given.
        address: String,
        /// What went wrong, and what to do.
        reason: String,
    },
    /// Nobody answered there in time.
    #[error("{address} did not answer within {limit:?}")]
    Timeout {
        /// What was given.
        address: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Nobody answered there.
    #[error("cannot connect to {address}")]
    Transport {
        /// What was given.
        address: String,
        /// What the transport says.
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    pub(super) fn no_tls(error: tonic::transport::Error) -> Self {
        Self::Certificates {
            reason: root_cause(&error),
        }
    }

    /// Tells what TLS refused from what was not there.
    pub(super) fn failed(address: &str, parsed: &Address, error: tonic::transport::Error) -> Self {
        let reason = root_cause(&error);
        let hint = if !parsed.is_secure {
            None
        } else if reason.contains("corrupt message") {
            Some("; it seems to speak in clear: use http://")
        } else if reason.contains("HandshakeFailure") {
            // So answers this server, on a port without TLS.
            Some("; if it speaks in clear, use http://")
        } else if reason.contains("UnknownIssuer") {
            Some("; give the authority that signed it, if it is a private one")
        } else if reason.contains("certificate") || reason.contains("alert") {
            Some("")
        } else if reason.contains("HTTP/2") {
            Some("; the proxy there must offer HTTP/2 (ALPN h2) for gRPC")
        } else {
            None
        };
        match hint {
            Some(hint) => Self::Tls {
                address: address.to_owned(),
                reason: format!("{reason}{hint}"),
            },
            None => Self::Transport {
                address: address.to_owned(),
                source: error,
            },
        }
    }
}

/// The innermost error: what the layers around it add are words such as `transport error`.
fn root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
