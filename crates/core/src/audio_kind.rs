//! The kinds of audio features that generators were trained on.

use std::fmt;

/// What a generator hears: the features of an audio encoder, or sound as it is.
///
/// The shape of a network's audio window shows it ([`Family::kind_of`](crate::Family::kind_of)); a manifest or the
/// configuration may name it as a check. Its [`Family`](crate::Family) says what it means for a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudioKind {
    /// The AVE encoder of SyncTalk_2D.
    Ave,
    /// `HuBERT` features.
    Hubert,
    /// wenet features.
    Wenet,
    /// The mel spectrogram itself, which networks of the Wav2Lip family hear.
    Mel,
}

impl AudioKind {
    /// Parses `ave`, `hubert`, `wenet` or `mel`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ave" => Some(Self::Ave),
            "hubert" => Some(Self::Hubert),
            "wenet" => Some(Self::Wenet),
            "mel" => Some(Self::Mel),
            _ => None,
        }
    }
}

impl fmt::Display for AudioKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ave => "ave",
            Self::Hubert => "hubert",
            Self::Wenet => "wenet",
            Self::Mel => "mel",
        })
    }
}
