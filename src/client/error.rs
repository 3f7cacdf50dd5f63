//! Why no connection could be made.

use std::{error::Error, time::Duration};

use super::address::Address;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is invalid.
    #[error(
        "not a server address: {address:?}: {reason} (expected for example 127.0.0.1:50051 or https://faces.example)"
    )]
    Address {
        /// The given address.
        address: String,
        /// Why it is invalid.
        reason: &'static str,
    },
    /// The key cannot be one. It is not repeated here.
    #[error("the API key is empty, or has characters other than printable ASCII")]
    Key,
    /// There are no certificates to trust for TLS.
    #[error("cannot use https: {reason}")]
    Certificates {
        /// What is missing.
        reason: String,
    },
    /// The server's certificate does not match the address, or it does not speak TLS.
    #[error("no secure connection to {address}: {reason}")]
    Tls {
        /// The given address.
        address: String,
        /// What went wrong, and what to do.
        reason: String,
    },
    /// No server answered in time.
    #[error("{address} did not answer within {limit:?}")]
    Timeout {
        /// The given address.
        address: String,
        /// The time limit.
        limit: Duration,
    },
    /// No server answered.
    #[error("cannot connect to {address}")]
    Transport {
        /// The given address.
        address: String,
        /// The transport's error.
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    pub(super) fn no_tls(error: tonic::transport::Error) -> Self {
        Self::Certificates {
            reason: root_cause(&error),
        }
    }

    /// Tells a TLS refusal from an absent server.
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

/// The innermost error. The layers around it add only words such as `transport error`.
fn root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
