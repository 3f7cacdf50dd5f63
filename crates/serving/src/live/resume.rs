//! What a session that resumes has to hear again: the audio around its next frame, from a place at which it may be cut.

use lipsync_audio::{SpeechForm, cuts::frame_sample, silence};

use lipsync_core::saturate::u64_of;

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
    pub(super) fn before(next: u64, form: (AudioForm, SpeechForm), shows_idle: bool) -> Self {
        let (context, alignment) = context(form, shows_idle);
        let wanted = next.saturating_sub(context);
        let frame = wanted - wanted % alignment.max(1);
        let item = match form.0 {
            AudioForm::Pcm(format) => frame_sample(frame, (format.rate_hz, form.1.fps())),
            AudioForm::Steps | AudioForm::Windows => frame,
        };
        Self { frame, item }
    }
}

/// The most frames that lie between a cut and the next frame.
pub(super) fn context_frames(form: (AudioForm, SpeechForm), shows_idle: bool) -> u64 {
    let (context, alignment) = context(form, shows_idle);
    context + alignment.saturating_sub(1)
}

/// Frames of context at least, and the frames between possible cuts.
fn context((form, speech): (AudioForm, SpeechForm), shows_idle: bool) -> (u64, u64) {
    match form {
        // Seconds are where every rate has a whole number of samples, rows and blocks.
        AudioForm::Pcm(_) if shows_idle => {
            let second = u64::from(speech.fps());
            let patch = u64_of(speech.step.patch.n_steps());
            (
                (silence::CONTEXT_S * second).max(speech.context_left_frames()),
                silence::RESUME_ALIGNMENT_S * common_multiple(second, patch),
            )
        }
        AudioForm::Pcm(format) => (
            speech.context_left_frames(),
            speech.cut_alignment_frames(format.rate_hz),
        ),
        AudioForm::Steps => (speech.step_context_left(), 1),
        AudioForm::Windows => (0, 1),
    }
}

/// The least number of frames that is both whole seconds and whole patches.
fn common_multiple(second: u64, patch: u64) -> u64 {
    let multiples = (1..=patch).map(|n| n * second);
    let mut common = multiples.filter(|n| n.is_multiple_of(patch.max(1)));
    common.next().unwrap_or(second)
}

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
            let form = (form, SpeechForm::AVE);
            let cut = SegmentCut::before(next, form, shows_idle);
            assert_eq!(cut, SegmentCut { frame, item }, "{form:?} {next}");
            assert!(next - frame <= context_frames(form, shows_idle));
        }
    }
}
