//! What a session that resumes has to hear again: the audio around its next frame, from a place at which it may be cut.

use lipsync_audio::{
    FPS,
    cuts::{CONTEXT_LEFT_FRAMES, STEP_CONTEXT_LEFT, cut_alignment_frames, frame_sample},
    silence,
};

use super::AudioForm;

/// Where the audio of a segment is cut, so that its frames from some place on are those of the whole segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SegmentCut {
    /// The frame whose audio is sent first.
    pub(super) frame: u64,
    /// The first item that is sent: a sample, a step or a window.
    pub(super) item: u64,
}

impl SegmentCut {
    /// The cut of a session whose next frame is `next`. A session that shows silence hears more: its gate does.
    pub(super) fn before(next: u64, form: AudioForm, shows_idle: bool) -> Self {
        let (context, alignment) = context(form, shows_idle);
        let wanted = next.saturating_sub(context);
        let frame = wanted - wanted % alignment.max(1);
        let item = match form {
            AudioForm::Pcm(format) => frame_sample(frame, format.rate_hz),
            AudioForm::Steps | AudioForm::Windows => frame,
        };
        Self { frame, item }
    }
}

/// The most frames that lie between a cut and the next frame.
pub(super) fn context_frames(form: AudioForm, shows_idle: bool) -> u64 {
    let (context, alignment) = context(form, shows_idle);
    context + alignment.saturating_sub(1)
}

/// Frames of context at least, and the frames between possible cuts.
fn context(form: AudioForm, shows_idle: bool) -> (u64, u64) {
    match form {
        AudioForm::Pcm(_) if shows_idle => (
            silence::CONTEXT_FRAMES.max(CONTEXT_LEFT_FRAMES),
            silence::RESUME_ALIGNMENT_FRAMES,
        ),
        AudioForm::Pcm(format) => (CONTEXT_LEFT_FRAMES, cut_alignment_frames(format.rate_hz)),
        AudioForm::Steps => (STEP_CONTEXT_LEFT, 1),
        AudioForm::Windows => (0, 1),
    }
}

// Seconds are where every rate has a whole number of samples, mel rows and blocks.
const _: () = assert!(silence::RESUME_ALIGNMENT_FRAMES == FPS as u64);

#[cfg(test)]
mod tests {
    use lipsync_audio::SampleEncoding;

    use super::*;
    use crate::order::PcmFormat;

    #[test]
    fn cuts_lie_on_whole_items_and_leave_enough_context() {
        let pcm = |rate_hz| {
            AudioForm::Pcm(PcmFormat {
                rate_hz,
                n_channels: 1,
                encoding: SampleEncoding::S16Le,
            })
        };
        for (form, shows_idle, next, frame, item) in [
            (pcm(16_000), false, 9, 0, 0),
            (pcm(16_000), false, 16, 5, 3_200),
            (pcm(44_099), false, 36, 25, 44_099),
            (pcm(16_000), true, 124, 0, 0),
            (pcm(16_000), true, 125, 25, 16_000),
            (AudioForm::Steps, false, 20, 11, 11),
            (AudioForm::Windows, false, 20, 20, 20),
        ] {
            let cut = SegmentCut::before(next, form, shows_idle);
            assert_eq!(cut, SegmentCut { frame, item }, "{form:?} {next}");
            assert!(next - frame <= context_frames(form, shows_idle));
        }
    }
}
