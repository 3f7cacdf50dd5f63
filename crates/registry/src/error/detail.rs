//! What an operator is told of an error, beyond what is fit for clients.

use std::{fmt::Write, path::Path};

use lipsync_core::Foreign;

use super::RegistryError;

impl RegistryError {
    /// The message for the operator's log: with the path, and with what `Display` leaves out.
    #[must_use]
    pub fn detail(&self) -> String {
        let mut text = self.to_string();
        let unsaid = match self {
            Self::Manifest { reason, .. } => Some(reason),
            Self::Rectangles { quoted, .. } => quoted.as_ref(),
            _ => None,
        };
        if let Some(unsaid) = unsaid {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {unsaid}");
        }
        if let Some(path) = self.path() {
            // Of its names some come from the model.
            let _ = write!(text, " ({})", Foreign(&path.to_string_lossy()));
        }
        text
    }

    /// The file or folder that the error is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. }
            | Self::FileTooLarge { path, .. }
            | Self::Encoding { path, .. }
            | Self::DataFile { path, .. }
            | Self::Outside { path, .. }
            | Self::TooManyEntries { path, .. }
            | Self::Manifest { path, .. }
            | Self::ManifestPath { path, .. }
            | Self::Layout { path, .. }
            | Self::Rectangles { path, .. }
            | Self::OtherFrames { path, .. }
            | Self::Numbering { path, .. }
            | Self::FrameFile { path, .. }
            | Self::Frame { path, .. }
            | Self::FrameChanged { path, .. }
            | Self::Pack { path, .. } => Some(path),
            _ => None,
        }
    }
}
