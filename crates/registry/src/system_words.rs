//! What the system says of a file, in the words of people who look for one. `ErrorKind` itself speaks of entities and
//! parameters.

use std::{fmt, io::ErrorKind};

/// A kind of error, to be shown.
pub(crate) struct InWords(pub(crate) ErrorKind);

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ErrorKind::NotFound => f.write_str("it does not exist"),
            // Said by the fence of all that is not one.
            ErrorKind::InvalidInput => f.write_str("it is no file"),
            ErrorKind::NotADirectory => f.write_str("it is no folder"),
            kind => kind.fmt(f),
        }
    }
}
