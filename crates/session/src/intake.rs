//! What stands before the inbox: audio as clients send it becomes whole items.

use std::{borrow::Cow, fmt};

use crate::Warning;

/// The intake of one session. It is asked for one segment after the other.
///
/// `E` is what it refuses audio with.
pub trait Intake<E>: fmt::Debug + Send {
    /// Takes a chunk and gives the whole items that can be passed on.
    ///
    /// # Errors
    /// That this is no audio.
    fn push<'a>(&mut self, chunk: &'a [u8]) -> Result<Cow<'a, [u8]>, E>;

    /// Bytes that are held back.
    fn n_held(&self) -> usize;

    /// The segment is over: gives what was held back and is audio after all.
    fn end(&mut self) -> Vec<u8>;

    /// The segment is gone.
    fn clear(&mut self);

    /// What the client should know about its audio.
    fn take_warnings(&mut self) -> Vec<Warning>;
}

/// The intake of what comes in whole items: it passes everything on.
#[derive(Debug, Clone, Copy, Default)]
pub struct WholeItems;

impl<E> Intake<E> for WholeItems {
    fn push<'a>(&mut self, chunk: &'a [u8]) -> Result<Cow<'a, [u8]>, E> {
        Ok(Cow::Borrowed(chunk))
    }

    fn n_held(&self) -> usize {
        0
    }

    fn end(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn clear(&mut self) {}

    fn take_warnings(&mut self) -> Vec<Warning> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionFault;

    #[test]
    fn steps_and_windows_pass_as_they_are() {
        let intake: &mut dyn Intake<SessionFault> = &mut WholeItems;
        assert_eq!(&*intake.push(b"OggS\0").unwrap(), b"OggS\0");
        assert!(intake.end().is_empty());
        assert!(intake.take_warnings().is_empty());
    }
}
