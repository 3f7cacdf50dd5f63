//! Cuts an utterance into unary calls whose frames equal, bit for bit, those of one whole call.
//!
//! A frame's mouth depends on the audio on both sides of it. So a call must send more audio than its frames
//! last. [`Cuts`] follows these rules:
//!
//! - **Samples** are cut at a multiple of 5 frames (200 ms) if the rate is divisible by 5, otherwise of 25 frames
//!   (1 s). At least 10 frames of audio come before the first frame to make, unless the utterance begins later, and
//!   11 after the last one, unless it ends earlier. `first_frame` counts the frames of audio before.
//! - **Steps** may be cut anywhere. 9 come before the first frame's, 6 after the last frame's.
//! - **Windows** need nothing around them.
//! - `end_of_utterance` is false unless the call's audio reaches the end of the utterance.
//!
//! These are the rules of models of the audio kind `ave`, of 25 frames a second, so a frame is 40 ms here. For other kinds send
//! an utterance in one call or in a session.

use bytes::Bytes;

use crate::{
    session::AudioFormat,
    v1::{
        FeatureSteps, FeatureWindows, InferBatchCompositeRequest, Pcm, PcmEncoding,
        infer_batch_composite_request::Audio,
    },
};

/// Frames a second of the models whose rules these are.
const FPS: u64 = 25;
/// An utterance of n feature steps has n frames and this many more.
const STEPS_SURPLUS: u64 = 2;

/// The calls of one utterance, in order.
#[derive(Debug, Clone)]
pub struct Cuts {
    format: AudioFormat,
    audio: Bytes,
    n_per_call: u64,
    next_frame: u64,
}

/// One call of several.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// Position of its first frame in the utterance.
    pub first_frame: u64,
    /// Number of frames that it returns.
    pub n_frames: u32,
    /// The audio to send: that of these frames, and the context around it.
    pub audio: Audio,
}

impl Cut {
    /// A request for its frames, otherwise like `template`. The template's `start_frame_index` is the position
    /// of the utterance's first frame on the avatar's timeline.
    #[must_use]
    pub fn request(self, template: &InferBatchCompositeRequest) -> InferBatchCompositeRequest {
        InferBatchCompositeRequest {
            audio: Some(self.audio),
            frame_count: self.n_frames,
            start_frame_index: template.start_frame_index.saturating_add(self.first_frame),
            model_id: template.model_id.clone(),
            output: template.output,
            priority: template.priority,
            allow_partial: template.allow_partial,
        }
    }
}

impl Cuts {
    /// Cuts `audio`, a whole utterance in the form `format`, into calls of at most `n_per_call` frames. An
    /// incomplete last item is dropped.
    #[must_use]
    pub fn new(format: AudioFormat, audio: impl Into<Bytes>, n_per_call: u32) -> Self {
        Self {
            format,
            audio: audio.into(),
            n_per_call: u64::from(n_per_call.max(1)),
            next_frame: 0,
        }
    }

    /// Frames of the whole utterance.
    #[must_use]
    pub fn n_frames(&self) -> u64 {
        let n_items = self.n_items();
        match (self.format, n_items) {
            (_, 0) => 0,
            (AudioFormat::Windows { .. }, _) => n_items,
            (AudioFormat::Steps { .. }, _) => n_items + STEPS_SURPLUS,
            (format, _) => n_items.saturating_mul(FPS).div_ceil(rate_hz(format)),
        }
    }

    fn n_items(&self) -> u64 {
        (self.audio.len() / self.format.item_bytes()) as u64
    }

    /// The first item of a frame.
    fn item_of(&self, frame: u64) -> u64 {
        match self.format {
            AudioFormat::Steps { .. } | AudioFormat::Windows { .. } => frame,
            format => frame.saturating_mul(rate_hz(format)) / FPS,
        }
    }

    fn cut(&self, first: u64, n_frames: u64) -> Cut {
        let (left, right, grid) = match self.format {
            AudioFormat::Windows { .. } => (0, 0, 1),
            AudioFormat::Steps { .. } => (9, 6, 1),
            format if rate_hz(format).is_multiple_of(5) => (10, 11, 5),
            _ => (10, 11, FPS),
        };
        let begin = first.saturating_sub(left) / grid * grid;
        let n_items = self.n_items();
        let end = self.item_of(first + n_frames + right).min(n_items);
        let item_bytes = self.format.item_bytes();
        // Both are at most the length of the audio.
        let place = |item: u64| usize::try_from(item).unwrap_or(usize::MAX) * item_bytes;
        let data = self
            .audio
            .slice(place(self.item_of(begin).min(end))..place(end));
        let context = u32::try_from(first - begin).unwrap_or(u32::MAX);
        Cut {
            first_frame: first,
            n_frames: u32::try_from(n_frames).unwrap_or(u32::MAX),
            audio: wire_audio(self.format, data, context, end == n_items),
        }
    }
}

impl Iterator for Cuts {
    type Item = Cut;

    fn next(&mut self) -> Option<Cut> {
        let first = self.next_frame;
        let n_frames = self.n_frames().saturating_sub(first).min(self.n_per_call);
        if n_frames == 0 {
            return None;
        }
        self.next_frame += n_frames;
        Some(self.cut(first, n_frames))
    }
}

fn rate_hz(format: AudioFormat) -> u64 {
    u64::from(format.items_per_s(25)).max(1)
}

fn wire_audio(format: AudioFormat, data: Bytes, first_frame: u32, is_end: bool) -> Audio {
    let pcm = |encoding: PcmEncoding, sample_rate_hz, channels| {
        Audio::Pcm(Pcm {
            samples: data.clone(),
            sample_rate_hz,
            channels,
            encoding: encoding.into(),
            first_frame,
            end_of_utterance: Some(is_end),
        })
    };
    match format {
        AudioFormat::PcmS16 {
            rate_hz,
            n_channels,
        } => pcm(PcmEncoding::S16le, rate_hz, n_channels),
        AudioFormat::PcmF32 {
            rate_hz,
            n_channels,
        } => pcm(PcmEncoding::F32le, rate_hz, n_channels),
        AudioFormat::PcmMulaw {
            rate_hz,
            n_channels,
        } => pcm(PcmEncoding::Mulaw, rate_hz, n_channels),
        AudioFormat::PcmAlaw {
            rate_hz,
            n_channels,
        } => pcm(PcmEncoding::Alaw, rate_hz, n_channels),
        AudioFormat::Steps { .. } => Audio::Steps(FeatureSteps {
            data,
            first_frame,
            end_of_utterance: Some(is_end),
        }),
        AudioFormat::Windows { .. } => Audio::Windows(FeatureWindows { data }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(cuts: Cuts, unit: usize) -> Vec<(u64, u32, u32, usize, bool)> {
        let place = |cut: Cut| {
            let (first_frame, data, is_end) = match &cut.audio {
                Audio::Pcm(pcm) => (pcm.first_frame, &pcm.samples, pcm.end_of_utterance()),
                Audio::Steps(steps) => (steps.first_frame, &steps.data, steps.end_of_utterance()),
                Audio::Windows(windows) => (0, &windows.data, false),
            };
            (
                cut.first_frame,
                cut.n_frames,
                first_frame,
                data.len() / unit,
                is_end,
            )
        };
        cuts.map(place).collect()
    }

    #[test]
    fn samples_are_cut_on_the_grid_with_context_on_both_sides() {
        // 40.5 frames of 16 kHz.
        let audio = vec![0; 2 * (40 * 640 + 320)];
        let found = places(Cuts::new(AudioFormat::mono_s16(16_000), audio, 8), 1_280);
        let expected = [
            (0, 8, 0, 19, false),
            (8, 8, 8, 27, false),
            (16, 8, 11, 30, false),
            (24, 8, 14, 30, true),
            (32, 8, 12, 20, true),
            (40, 1, 10, 10, true),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn steps_and_windows() {
        let steps = AudioFormat::Steps { n_floats: 2 };
        let found = places(Cuts::new(steps, vec![0; 8 * 20], 12), 8);
        assert_eq!(found, [(0, 12, 0, 18, false), (12, 10, 9, 17, true)]);
        let windows = AudioFormat::Windows { n_floats: 2 };
        let found = places(Cuts::new(windows, vec![0; 8 * 5], 3), 8);
        assert_eq!(found, [(0, 3, 0, 3, false), (3, 2, 0, 2, false)]);
    }

    #[test]
    fn nothing_gives_no_call() {
        for format in [
            AudioFormat::mono_s16(16_000),
            AudioFormat::Steps { n_floats: 512 },
            AudioFormat::Windows { n_floats: 512 },
        ] {
            assert_eq!(Cuts::new(format, Bytes::new(), 8).count(), 0);
            assert_eq!(Cuts::new(format, vec![0; 1], 8).count(), 0);
        }
    }
}
