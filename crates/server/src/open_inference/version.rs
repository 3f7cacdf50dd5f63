//! Versions of a model: here, the two ways in which it answers.

use lipsync_core::Foreign;
use lipsync_serving::ServeError;

/// How a model answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Version {
    /// `1`: one response a request.
    #[default]
    Whole,
    /// `2`: in a stream, a response whenever some frames are made. Triton calls that decoupled.
    Decoupled,
}

/// All versions, as texts.
pub(super) const VERSIONS: [&str; 2] = ["1", "2"];

impl Version {
    /// Empty stands for the first.
    ///
    /// # Errors
    /// As Triton's: [`ServeError::UnknownModel`] for a number, [`ServeError::Invalid`] for anything else.
    pub(super) fn parse(text: &str) -> Result<Self, ServeError> {
        match text {
            "" | "1" => Ok(Self::Whole),
            "2" => Ok(Self::Decoupled),
            other if other.parse::<i64>().is_ok() => Err(ServeError::UnknownModel {
                reason: format!("model_version: there are 1 and 2, found {}", Foreign(other)),
            }),
            other => {
                let found = Foreign(other);
                let message = format!("expected 1, 2 or nothing, found {found:?}");
                Err(ServeError::invalid("model_version", message))
            }
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Whole => VERSIONS[0],
            Self::Decoupled => VERSIONS[1],
        }
    }
}
