//! From answers to messages.

use std::time::Duration;

use lipsync::v1;
use lipsync_compositor::Encoding;
use lipsync_core::PixelRect;
use lipsync_session::Warning;

use crate::{
    answer_limit::AnswerLimit,
    batch::{BackgroundAnswer, BatchAnswer, BatchFrame, Timings},
    coding::CodedFrame,
    error::ServeError,
};

/// What may come around an answer: the message of a stream that carries it, and a stamp.
const ENVELOPE_BYTES: usize = 32;

/// The size of an answer, which must fit a message, in bytes.
///
/// # Errors
/// [`ServeError::AnswerTooLarge`].
pub(crate) fn checked_bytes(
    answer: &impl prost::Message,
    limit: AnswerLimit,
) -> Result<usize, ServeError> {
    let n_bytes = answer.encoded_len().saturating_add(ENVELOPE_BYTES);
    limit.check(u64::try_from(n_bytes).unwrap_or(u64::MAX))?;
    Ok(n_bytes)
}

impl From<BatchAnswer> for v1::InferBatchCompositeResponse {
    fn from(answer: BatchAnswer) -> Self {
        Self {
            frames: answer.frames.into_iter().map(Into::into).collect(),
            timings: Some(answer.timings.into()),
            warnings: answer.warnings.into_iter().map(to_warning).collect(),
        }
    }
}

impl From<BatchFrame> for v1::CompositedFrame {
    fn from(frame: BatchFrame) -> Self {
        Self {
            pts_us: frame.pts_us,
            audio_time_us: Some(frame.audio_time_us),
            ..frame.coded.into()
        }
    }
}

impl From<CodedFrame> for v1::CompositedFrame {
    fn from(frame: CodedFrame) -> Self {
        Self {
            frame_index: frame.frame_index,
            background_index: frame.background_index,
            generated: frame.generated,
            format: format(frame.encoding).into(),
            width: count(frame.width),
            height: count(frame.height),
            region: Some(rect(frame.region)),
            data: frame.data,
            ..Self::default()
        }
    }
}

impl From<Timings> for v1::Timings {
    fn from(timings: Timings) -> Self {
        Self {
            queue_us: micros(timings.queue),
            infer_us: micros(timings.infer),
            composite_us: micros(timings.composite),
            total_us: micros(timings.total),
            model_load_us: micros(timings.model_load),
            batch_frames: count(timings.batch_frames),
            workers: timings.workers.into_iter().map(count).collect(),
            prepare_us: micros(timings.prepare),
        }
    }
}

impl From<BackgroundAnswer> for v1::GetBackgroundResponse {
    fn from(answer: BackgroundAnswer) -> Self {
        Self {
            frames: answer.frames.into_iter().map(Into::into).collect(),
            n_background_frames: answer.n_background_frames,
        }
    }
}

impl From<CodedFrame> for v1::BackgroundFrame {
    fn from(frame: CodedFrame) -> Self {
        Self {
            background_index: frame.background_index,
            format: format(frame.encoding).into(),
            width: count(frame.width),
            height: count(frame.height),
            region: Some(rect(frame.region)),
            data: frame.data,
        }
    }
}

pub(crate) fn to_warning(warning: Warning) -> v1::Warning {
    v1::Warning {
        code: warning.code.into(),
        text: warning.text,
    }
}

fn format(encoding: Encoding) -> v1::OutputFormat {
    match encoding {
        Encoding::Jpeg { .. } => v1::OutputFormat::Jpeg,
        Encoding::Png => v1::OutputFormat::Png,
        Encoding::Rgb => v1::OutputFormat::Rgb,
        Encoding::I420 => v1::OutputFormat::I420,
    }
}

fn rect(rect: PixelRect) -> v1::Rect {
    v1::Rect {
        x: count(rect.x),
        y: count(rect.y),
        width: count(rect.width),
        height: count(rect.height),
    }
}

pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
