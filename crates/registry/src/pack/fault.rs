//! What can be wrong with a pack.

use std::{fmt, io};

/// Why a pack is not used, or was not baked. Frames are then made from their sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackFault {
    /// There is none.
    Missing,
    /// The system refuses to read it.
    Unreadable {
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The file is something else.
    Foreign,
    /// It is a link, which may lead anywhere.
    Link,
    /// It was written by another version of this program.
    Version {
        /// The format's version that it has.
        found: u32,
    },
    /// It ends early.
    Truncated,
    /// A checksum does not fit.
    Damaged {
        /// Which part.
        part: &'static str,
        /// Of which frame; `None` for the pack's own sections.
        frame: Option<u32>,
    },
    /// It was baked with other settings.
    Settings {
        /// What it was baked with, cut and escaped.
        found: String,
        /// What is wanted.
        wanted: String,
    },
    /// The avatar has changed since.
    Stale {
        /// What differs.
        what: &'static str,
        /// The first frame that does; `None` where their number does.
        frame: Option<u32>,
    },
    /// The avatar's files have changed since the model was loaded; it must be loaded anew first.
    Changing,
    /// Another process is baking it.
    Busy,
    /// It could not be written; nothing is left of the attempt.
    Unwritable {
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// A frame could not be baked; nothing is left of the attempt.
    Frame {
        /// What is wrong with it.
        reason: String,
    },
    /// It would be larger than it may be; nothing is left of the attempt.
    TooLarge {
        /// The most that it may have.
        max_bytes: u64,
    },
    /// Baking was stopped; nothing is left of the attempt.
    Stopped,
}

impl fmt::Display for PackFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none"),
            Self::Unreadable { kind } => write!(f, "it cannot be read: {kind}"),
            Self::Foreign => f.write_str("the file is not a pack"),
            Self::Link => f.write_str("it is a link"),
            Self::Version { found } => write!(f, "it has format version {found}"),
            Self::Truncated => f.write_str("it ends early"),
            Self::Damaged { part, frame: None } => write!(f, "its {part} is damaged"),
            Self::Damaged {
                part,
                frame: Some(frame),
            } => write!(f, "frame {frame}: the {part} is damaged"),
            Self::Settings { found, wanted } => {
                write!(f, "it was baked with \"{found}\", wanted is \"{wanted}\"")
            }
            Self::Stale { what, frame: None } => write!(f, "another number of {what}"),
            Self::Stale {
                what,
                frame: Some(frame),
            } => write!(f, "the {what} of frame {frame} has changed"),
            Self::Changing => f.write_str("the frames have changed since the model was loaded"),
            Self::Busy => f.write_str("another process is baking it"),
            Self::Unwritable { kind } => write!(f, "it cannot be written: {kind}"),
            Self::Frame { reason } => f.write_str(reason),
            Self::TooLarge { max_bytes } => write!(
                f,
                "it would have more than the {max_bytes} bytes that capacity.max_pack_gb allows"
            ),
            Self::Stopped => f.write_str("baking was stopped"),
        }
    }
}
