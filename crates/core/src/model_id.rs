//! The name of a configured model.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The longest id accepted, in bytes. Ids become metric labels and log fields.
pub const MAX_MODEL_ID_BYTES: usize = 128;

/// A model's id: 1 to 128 bytes of ASCII letters, digits, `.`, `_` and `-`, not starting with `.`.
///
/// The alphabet makes an id safe as a file name, a metric label and a header value; in particular
/// `../` and NUL cannot occur. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(Arc<str>);

/// Why a string is not a [`ModelId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidModelId {
    /// The id is empty.
    #[error("a model id must not be empty")]
    Empty,
    /// The id is too long.
    #[error("a model id has at most {MAX_MODEL_ID_BYTES} bytes, this one has {n_bytes}")]
    TooLong {
        /// Length of the given id.
        n_bytes: usize,
    },
    /// The id contains a character outside the alphabet.
    #[error(
        "a model id consists of ASCII letters, digits, '.', '_' and '-' and does not start with '.'"
    )]
    Alphabet,
}

impl ModelId {
    /// Checks and wraps an id.
    ///
    /// # Errors
    /// See [`InvalidModelId`].
    pub fn new(id: &str) -> Result<Self, InvalidModelId> {
        if id.is_empty() {
            return Err(InvalidModelId::Empty);
        }
        if id.len() > MAX_MODEL_ID_BYTES {
            return Err(InvalidModelId::TooLong { n_bytes: id.len() });
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if id.starts_with('.') || !id.bytes().all(allowed) {
            return Err(InvalidModelId::Alphabet);
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ModelId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_plain_names_and_refuses_paths() {
        assert_eq!(ModelId::new("mira-2.1_b").unwrap().as_str(), "mira-2.1_b");
        assert_eq!(ModelId::new(""), Err(InvalidModelId::Empty));
        for bad in ["../mira", "a/b", "a\0b", ".hidden", "mïra", "a b"] {
            assert_eq!(ModelId::new(bad), Err(InvalidModelId::Alphabet), "{bad:?}");
        }
        assert_eq!(
            ModelId::new(&"a".repeat(129)),
            Err(InvalidModelId::TooLong { n_bytes: 129 })
        );
    }
}
