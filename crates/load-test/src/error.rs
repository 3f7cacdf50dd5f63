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
        /// Why.
        reason: String,
    },
    /// The server would not say what models it has, or would not load one.
    #[error("the server refused {call}: {status}")]
    Refused {
        /// The call that it refused.
        call: &'static str,
        /// What it answered.
        status: Box<tonic::Status>,
    },
    /// The comparison was stopped, so nothing is known.
    #[error("stopped before everything was compared")]
    Stopped,
    /// A model that the server does not have.
    #[error("the server has no model {asked:?}; it has: {known}")]
    UnknownModel {
        /// The id that was asked for.
        asked: String,
        /// The ids that it has, comma-separated.
        known: String,
    },
    /// The chosen `--input` has no known shape for this model.
    #[error("no {input} are known for models of kind {audio_kind:?}")]
    NoShape {
        /// `steps` or `windows`.
        input: &'static str,
        /// The model's audio kind, as the server names it.
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
