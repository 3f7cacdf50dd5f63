//! The kinds of audio features that generators were trained on.

use std::fmt;

/// Which audio encoder a generator was trained with.
///
/// A tensor's shape does not always show it, so a model's manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudioKind {
    /// The AVE encoder of SyncTalk_2D: 512-float steps, 25 frames per second.
    Ave,
    /// `HuBERT` features, 25 frames per second.
    Hubert,
    /// wenet features, 20 frames per second.
    Wenet,
}

impl AudioKind {
    /// Parses `ave`, `hubert` or `wenet`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ave" => Some(Self::Ave),
            "hubert" => Some(Self::Hubert),
            "wenet" => Some(Self::Wenet),
            _ => None,
        }
    }

    /// Output frames per second that networks of this kind are trained for.
    #[must_use]
    pub fn default_fps(self) -> u32 {
        match self {
            Self::Ave | Self::Hubert => 25,
            Self::Wenet => 20,
        }
    }

    /// Floats per feature step and steps per window, if the server can build windows from steps. `None`
    /// means that clients send whole windows.
    #[must_use]
    pub fn step_shape(self) -> Option<StepShape> {
        match self {
            Self::Ave => Some(StepShape {
                n_floats: 512,
                n_steps: 16,
            }),
            Self::Hubert | Self::Wenet => None,
        }
    }
}

/// The feature steps of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepShape {
    /// Floats per step.
    pub n_floats: usize,
    /// Steps per window.
    pub n_steps: usize,
}

impl fmt::Display for AudioKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ave => "ave",
            Self::Hubert => "hubert",
            Self::Wenet => "wenet",
        })
    }
}
