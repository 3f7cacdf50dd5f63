//! What clients ask for in one call, checked, and in the server's own words.

use bytes::Bytes;
use lipsync_audio::SampleEncoding;
use lipsync_compositor::Encoding;
use lipsync_core::{
    ModelId, Priority,
    saturate::{u64_of, usize_of},
};
use lipsync_session::Warning;

/// Frames of a model that speaks.
#[derive(Debug)]
pub struct BatchOrder {
    /// The model asked for; not yet known to be configured.
    pub model_id: ModelId,
    /// The speech.
    pub clip: Clip,
    /// Frames wanted; `None` = all that the clip covers.
    pub n_frames: Option<usize>,
    /// Place of the first frame on the avatar's timeline.
    pub start_frame_index: u64,
    /// What to send back.
    pub output: OutputSpec,
    /// How urgent it is: its own level, or else its caller's.
    pub priority: Priority,
    /// Whether the answer is of use without frames that cannot be made.
    pub allow_partial: bool,
    /// f32 LE `[n, 6, H, W]`, to be compared with what the network sees of the background frames.
    pub visuals: Option<Bytes>,
}

/// Background frames of a model as they are.
#[derive(Debug)]
pub struct BackgroundOrder {
    /// The model asked for; not yet known to be configured.
    pub model_id: ModelId,
    /// Which frames; not yet known to exist.
    pub indices: Vec<u32>,
    /// What to send back.
    pub output: OutputSpec,
}

/// Speech as it came; lengths are checked, values not yet. Cloning is cheap.
#[derive(Debug, Clone)]
pub enum Clip {
    /// f32 LE windows.
    Windows {
        /// `[n, C, H, W]`.
        data: Bytes,
    },
    /// One f32 LE window for all frames of an order that says how many.
    OneWindow {
        /// `[C, H, W]`.
        data: Bytes,
    },
    /// f32 LE feature steps.
    Steps {
        /// `[S, D]`.
        data: Bytes,
        /// Which frames of it.
        cut: Cut,
    },
    /// Samples.
    Pcm {
        /// Interleaved.
        samples: Bytes,
        /// How they are stored.
        format: PcmFormat,
        /// Which frames of it.
        cut: Cut,
        /// What was odd about it.
        warning: Option<Warning>,
    },
}

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcmFormat {
    /// Samples per second.
    pub rate_hz: u32,
    /// 1 or 2, interleaved.
    pub n_channels: u32,
    /// One sample.
    pub encoding: SampleEncoding,
}

impl PcmFormat {
    /// Bytes of one sample of every channel.
    #[must_use]
    pub fn item_bytes(self) -> usize {
        let n_channels = usize_of(self.n_channels);
        self.encoding.sample_bytes().saturating_mul(n_channels)
    }
}

/// Which part of the given audio is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// First frame, counted from the start of the given audio.
    pub first_frame: usize,
    /// Whether the utterance ends with the given audio.
    pub end_of_utterance: bool,
    /// Whether silence makes up for samples where there are fewer than the frames wanted need.
    pub silence_follows: bool,
}

/// How frames are coded, with the server's defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSpec {
    /// Format and quality.
    pub encoding: Encoding,
    /// Only the face rectangle.
    pub region_only: bool,
    /// Whether JPEG and PNG say that they were made by a trained network.
    pub is_marked: bool,
}

impl OutputSpec {
    /// What a picture will take, roughly: exact for raw formats, a guess for coded ones.
    pub(crate) fn estimated_bytes(&self, width: usize, height: usize) -> u64 {
        let px = u64_of(width * height);
        match self.encoding {
            // Talking heads take 0.05 to 0.1 bytes a pixel at quality 85, several times that at 100. A
            // guess that is too low costs work, one that is too high refuses what would fit.
            Encoding::Jpeg { quality } if quality > 95 => px / 2,
            Encoding::Jpeg { .. } => px / 8,
            Encoding::Png => px / 2,
            Encoding::Rgb => px.saturating_mul(3),
            Encoding::I420(_) => px.saturating_mul(3).div_ceil(2),
        }
    }
}
