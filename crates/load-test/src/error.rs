//! Why a load test could not run.

use lipsync::{call_error::in_plain_words, client::ConnectError, wav::WavError};

/// Why a load test could not run. Failures of single requests are no errors: they are counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("no connection (is the server running?)")]
    Connect(#[from] ConnectError),
    /// The file of `--ca` cannot be read.
    #[error("cannot read the certificates: {reason}")]
    Certificates {
        /// The reason.
        reason: String,
    },
    /// The server refused to list its models, or to load one.
    #[error("the server refused {call}: {status}")]
    Refused {
        /// The call that it refused.
        call: &'static str,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// The comparison was stopped, so there is no result.
    #[error("stopped before everything was compared")]
    Stopped,
    /// A model that the server does not have.
    #[error("the server has no model {asked:?}; it has: {known}")]
    UnknownModel {
        /// The requested id.
        asked: String,
        /// The server's ids, comma-separated.
        known: String,
    },
    /// The chosen `--input` has no known shape for this model.
    #[error("--input {input}: the shape is unknown for models of kind {audio_kind:?}")]
    NoShape {
        /// `steps` or `windows`.
        input: &'static str,
        /// The model's audio kind in the server's words.
        audio_kind: String,
    },
    /// The file of `--audio` cannot be used.
    #[error("cannot use the audio file")]
    Audio(#[source] WavError),
}

impl Error {
    /// Names the call that the server refused.
    pub(crate) fn refused(call: &'static str) -> impl Fn(tonic::Status) -> Self {
        move |status| Self::Refused {
            call,
            status: Box::new(in_plain_words(status)),
        }
    }
}
